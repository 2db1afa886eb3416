"""Every type of event, with the JSON schema of what it carries. `manage.py event_reference` makes docs/events.md of it.

What is published is held against it by every test that publishes. A reader may be a stranger's server, so nothing here is
content, a key, a prompt, or of a person more than an id (W-19).
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

Schema = Mapping[str, Any]

TEXT: Schema = {"type": "string", "maxLength": 300}
NAME: Schema = {"type": "string", "maxLength": 200}
NUMBER: Schema = {"type": "integer"}
ID: Schema = {"type": "string", "format": "uuid"}
MOMENT: Schema = {"type": "string", "format": "date-time"}


def one_of(*values: Any) -> Schema:
    return {"enum": list(values)}


def or_null(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


ROLE = one_of("member", "admin", "owner")
# Whoever asked, as far as that is known: a program's call has none of it but the source.
CIRCUMSTANCES: dict[str, Schema] = {
    "visitor_id": ID,
    "device": one_of("desktop", "phone", "tablet", "bot"),
    "country": {"type": "string", "pattern": "^[A-Z]{2}$"},
}


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of event.

    also       what the systems before this one called it: S2 `usage_events`, S3 `analytics_events`
    for_hooks  whether webhooks hear of it: not what is between us and one person
    """

    name: str
    subject: str  # what it is about: subject.kind
    says: str | Promise
    data: Mapping[str, Schema] = field(default_factory=dict)
    optional: Mapping[str, Schema] = field(default_factory=dict)
    also: str = ""
    for_hooks: bool = True

    @property
    def schema(self) -> dict[str, Any]:
        """Of `data`."""
        return {
            "type": "object",
            "properties": {**self.data, **self.optional},
            "required": list(self.data),
            "additionalProperties": False,
        }


ANSWER: dict[str, Schema] = {
    "status": one_of("done", "stopped", "failed", "interrupted"),
    "model": NAME,
    "tokens": NUMBER,
    "cost_microusd": NUMBER,
    "ms": NUMBER,
    "conversation_id": or_null(ID),
}
ANOMALY: dict[str, Schema] = {"usage_anomaly": {"type": "object", "additionalProperties": TEXT, "maxProperties": 8}}
BILL: dict[str, Schema] = {"type": NAME, "total_amount_microusd": NUMBER, "currency": NAME}
CONTRACT: dict[str, Schema] = {"plan": NAME, "status": NAME, "cycle": NAME, "at": MOMENT}


def _answers() -> Iterable[Kind]:
    chat = {**ANOMALY, **CIRCUMSTANCES}
    yield Kind(
        "message.completed", "message", _("An answer in a chat ended, and is charged"), ANSWER, chat, "message_sent"
    )
    yield Kind("message.failed", "message", _("An answer in a chat failed; nothing was charged"), ANSWER, chat)
    yield Kind("turn.completed", "turn", _("A program’s call that stores nothing ended, and is charged"), ANSWER, chat)
    yield Kind(
        "turn.failed", "turn", _("A program’s call that stores nothing failed; nothing was charged"), ANSWER, chat
    )


def _chats() -> Iterable[Kind]:
    yield Kind(
        "conversation.started",
        "conversation",
        _("A chat was begun"),
        {"source": NAME, "model": NAME},
        CIRCUMSTANCES,
        "conversation_started; S2 conversation_start",
    )
    for deed, says in (
        ("renamed", _("A chat got another title")),
        ("pinned", _("A chat was pinned")),
        ("unpinned", _("A chat is pinned no more")),
        ("archived", _("A chat was put into the archive")),
        ("unarchived", _("A chat came out of the archive")),
        ("deleted", _("A chat was put into the bin")),
        ("restored", _("A chat came out of the bin")),
    ):
        yield Kind(f"conversation.{deed}", "conversation", says, optional=CIRCUMSTANCES)
    yield Kind(
        "conversation.erased",
        "conversation",
        _("Nothing of a chat is there any more"),
        {"reason": one_of("retention", "visitors", "bin", "emptied")},
        CIRCUMSTANCES,
        "S2 conversation_end",
    )
    yield Kind(
        "message.created",
        "message",
        _("A question was asked in a chat, or a message was recorded there"),
        {"conversation_id": ID, "role": NAME},
        CIRCUMSTANCES,
    )
    of_chat = {"conversation_id": ID}
    yield Kind("message.deleted", "message", _("A question or an answer was deleted"), of_chat, CIRCUMSTANCES)
    yield Kind("message.restored", "message", _("A message that was deleted came back"), of_chat, CIRCUMSTANCES)
    yield Kind(
        "message.rated",
        "message",
        _("An answer was judged; 0 took it back"),
        {"rating": one_of(-1, 0, 1), "model": NAME, "conversation_id": ID},
        CIRCUMSTANCES,
    )
    yield Kind(
        "correction.created",
        "correction",
        _("Somebody said what an answer should have been"),
        {"message_id": ID, "conversation_id": ID},
        CIRCUMSTANCES,
    )


def _people() -> Iterable[Kind]:
    yield Kind(
        "visitor.adopted",
        "visitor",
        _("A visitor made an account; the chats are the member’s now"),
        {"user_id": ID},
        CIRCUMSTANCES,
    )
    yield Kind("member.joined", "user", _("Somebody became a member of the brand"))
    yield Kind(
        "member.removed",
        "user",
        _("Somebody is a member no more: an admin ended it, or the account was deleted"),
        {"role": ROLE, "reason": one_of("removed", "account_deleted")},
    )
    yield Kind("member.suspended", "user", _("A member was suspended, and may do nothing here"), {"role": ROLE})
    yield Kind("member.reinstated", "user", _("A member who was suspended has access again"), {"role": ROLE})
    yield Kind("member.role_changed", "user", _("A member got another role"), {"from": ROLE, "to": ROLE})
    yield Kind(
        "quota.refused",
        "bucket",
        _("Somebody met a limit; told once for each window"),
        {"reason": NAME, "meter": or_null(NAME), "limit": or_null(NUMBER), "resets_at": or_null(MOMENT)},
        CIRCUMSTANCES,
        "usage_limit; S2 limit_reached",
    )


def _notices() -> Iterable[Kind]:
    for name, subject, says in (
        ("notification.created", "notification", _("Somebody was told something behind the bell")),
        ("notification.read", "notification", _("A notice was read")),
        ("notifications.read", "user", _("All notices of one person were marked as read")),
    ):
        yield Kind(name, subject, says, for_hooks=False)


def _money() -> Iterable[Kind]:
    yield Kind(
        "plan.changed",
        "user",
        _("Another plan is in force for a member (or, with the subject `brand`, for the brand)"),
        {"from": or_null(NAME), "to": or_null(NAME)},
        also="plan_change",
    )
    for status, what in (
        ("paid", _("A line of somebody’s account was paid")),
        ("failed", _("A payment failed")),
        ("disputed", _("A payment is disputed at the bank")),
        ("void", _("A line of somebody’s account counts no more")),
        ("refunded", _("Money went back")),
    ):
        yield Kind(f"billing.{status}", "billing_transaction", what, BILL)
    for code, says in (
        ("started", _("A plan began")),
        ("trial_started", _("A trial began")),
        ("activated", _("A plan that was being paid for began")),
        ("changed", _("The plan is another one")),
        ("change_planned", _("The plan will be another one when its period ends")),
        ("change_dropped", _("That change was taken back")),
        ("cancel_planned", _("The plan will end with its period")),
        ("resumed", _("The cancellation was taken back")),
        ("payment_failed", _("A payment failed; the plan is kept for some days")),
        ("restored", _("What was owed is paid")),
        ("lapsed", _("It was not paid in time; the plan is suspended")),
        ("trial_ended", _("A trial ended without a plan")),
        ("cancelled", _("The plan ended")),
    ):
        yield Kind(f"subscription.{code}", "subscription", says, CONTRACT, {"next_plan": NAME})


TEST = Kind("webhook.test", "webhook", _("Sent by hand, to try an endpoint"), {"message": TEXT})  # never in the stream
KINDS: dict[str, Kind] = {kind.name: kind for part in (_answers, _chats, _people, _notices, _money) for kind in part()}


def patterns() -> list[str]:
    """What an endpoint may ask for beside single names: everything, or all of one family."""
    return ["*", *sorted({f"{kind.name.partition('.')[0]}.*" for kind in KINDS.values() if kind.for_hooks})]


def is_for_hooks(wanted: str) -> bool:
    """Whether an endpoint may ask for it, by its name or a pattern."""
    return KINDS[wanted].for_hooks if wanted in KINDS else wanted in patterns()


def envelope() -> dict[str, Any]:
    """JSON schema of what a webhook's body says around an event's `data`."""
    return {
        "type": "object",
        "properties": {
            "id": ID,
            "type": {"enum": [*KINDS, TEST.name]},
            "timestamp": MOMENT,
            "brand_id": ID,
            "owner_id": or_null(ID),
            "subject": {"type": "object", "properties": {"kind": NAME, "id": ID}, "required": ["kind", "id"]},
            "thin": {"const": True},
            "data": {"type": "object"},
        },
        "required": ["id", "type", "timestamp", "brand_id", "owner_id", "subject"],
        "additionalProperties": False,
    }
