"""What integrators record here of talks that went on elsewhere (docs/doors.md); S1's track."""

from typing import Any
from uuid import UUID

from accounts.access import BrandRequest
from accounts.rest import Api, operation
from conversations.chats import recording
from conversations.rest import examples, shapes

SCOPE = "messages:record"


class Begins(Api):
    @operation(
        "createConversation", SCOPE,
        asks=shapes.ToRecord, answers=shapes.Recorded(), status=201, keys_only=True, goes_out=True,
        takes_key=True, spends=True,
        asked=examples.TO_RECORD, told=examples.RECORDED,
    )  # fmt: skip
    def post(self, request: BrandRequest) -> Any:
        """Begin a conversation that is recorded

        For talks that go on elsewhere, with a model of your own. It counts as one conversation, where the plan counts them.
        """
        asked = self.asked
        return recording.create_conversation_with_quota_check(
            request.principal,
            request.brand,
            title=asked["title"] or "New chat",
            model=asked["model"],
            system_prompt=asked["system_prompt"],
            settings=asked["settings"],
            key=request.headers.get("Idempotency-Key", ""),
        )


class Adds(Api):
    @operation(
        "addMessage", SCOPE,
        asks=shapes.MessageToRecord, answers=shapes.RecordedMessage(), status=201, keys_only=True, goes_out=True,
        takes_key=True, spends=True, asked=examples.TO_ADD, told=examples.ADDED,
    )  # fmt: skip
    def post(self, request: BrandRequest, conversation_id: UUID) -> Any:
        """Record a message

        An assistant's is charged: one message of the plan, and `tokens_used` tokens. Nothing is charged for the others.
        """
        return recording.add_message_with_quota(
            request.principal,
            request.brand,
            conversation_id,
            **self.asked,
            key=request.headers.get("Idempotency-Key", ""),
        )


class Track(Api):
    tag = "Quota and usage"

    @operation(
        "trackQueryUsage", SCOPE,
        asks=shapes.ToTrack, answers=shapes.Tracked(), status=201, keys_only=True, goes_out=True,
        takes_key=True, spends=True,
        asked=examples.TO_TRACK, told=examples.TRACKED,
    )  # fmt: skip
    def post(self, request: BrandRequest) -> Any:
        """Charge a question that was asked elsewhere

        One question of the plan with its tokens, paid from the pocket that would pay for it here. Ask `can` before.
        """
        return recording.track_query_usage(
            request.principal, request.brand, **self.asked, key=request.headers.get("Idempotency-Key", "")
        )
