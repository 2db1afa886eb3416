"""What REST takes and tells of chats. Names are S4's and S0's own."""

from typing import Any

from rest_framework import serializers

from accounts.rest.fields import Flag, Free, Id, Moment, Number, Paged, Query, Strict, Text, Whole
from conversations.chats import keeping
from conversations.doors.fields import MOST_TOOLS
from conversations.doors.tools import tools
from conversations.forms import MOST_CHARACTERS
from conversations.models import Conversation, Message

MOST_TITLE, MOST_PROMPT, MOST_MODEL, MOST_METADATA_BYTES = 200, 32_000, 80, 16_000
MOST_CALL_ID = 200
MOST_TOKENS, MOST_MAX_TOKENS = 10**9, 1_000_000  # of one message
SORTS = {
    "last_message_at": "updated",
    "updated_at": "updated",
    "created_at": "created",
    "title": "title",
    "message_count": "messages",
    "tokens": "tokens",
}
ARCHIVED = {"false": "active", "true": "archived"}


class IsSet(Flag):
    """Whether there is a moment at which it became so."""

    def get_attribute(self, instance: Any) -> bool:
        return super().get_attribute(instance) is not None


class LastSaid(Moment):
    def to_representation(self, value: Any) -> Any:
        return value.last_message_at or value.updated_at


class About(serializers.Serializer[Any]):
    """What the person was looking at (S1)."""

    type = Text(source="context_type")
    id = Text(source="context_id")
    label = Text(source="context_label")  # type: ignore[assignment]

    def get_attribute(self, instance: Conversation) -> Conversation | None:
        return instance if instance.context_type else None


class Counted(Free):
    """What an answer's provider counted; nothing of what was only recorded."""

    def get_attribute(self, instance: Message) -> Any:
        return instance.token_usage or None


# What is told


class Offer(serializers.Serializer[Any]):
    """A model on offer. `id` is what `providerId` takes."""

    id = Id()
    name = Text()
    description = Text()


class Prompt(serializers.Serializer[Any]):
    """A system prompt on offer. `id` is what `promptId` takes; what it says stays here."""

    id = Id()
    name = Text()


class ChatRow(serializers.Serializer[Any]):
    """A chat in the history."""

    id = Id()
    title = Text()
    updated_at = LastSaid(source="*")


class Said(serializers.Serializer[Any]):
    """One message."""

    id = Id()
    chat_id = Id(source="conversation_id")
    role = serializers.ChoiceField(Message.Role.values)
    content = Text()
    status = serializers.ChoiceField(Message.Status.values, help_text="`pending`: it is being written.")
    function_call = Free(allow_null=True)
    ai_provider_id = Id(source="provider_id", allow_null=True)
    system_prompt_id = Id(allow_null=True)
    model = Text()
    token_usage = Counted(allow_null=True)
    tokens_used = Whole()
    created_at = Moment()


class Kept(serializers.Serializer[Any]):
    """A conversation. Money in micro-dollars."""

    moves = frozenset({"messages"})  # told only to who asks for them
    id = Id()
    title = Text()
    model = Text(help_text="Of the last answer.")
    status = Text()
    archived = IsSet(source="archived_at")
    pinned = IsSet(source="pinned_at")
    settings = Free()
    context = About(source="*", allow_null=True)  # type: ignore[assignment]
    message_count = Whole()
    total_tokens_used = Whole()
    total_cost_microusd = Whole()
    created_at = Moment()
    updated_at = Moment()
    last_message_at = Moment(allow_null=True)
    messages = Said(many=True, required=False, source="said", help_text="Only with `?with=messages`: the first 200.")


class Found(serializers.Serializer[Any]):
    """A hit. `title` and `excerpt` are HTML: marks of what was found are `<mark>`, everything else is escaped."""

    id = Id()
    title = Text()
    message_id = Id(allow_null=True)
    is_answer = Flag()
    excerpt = Text()
    more = Whole(help_text="Further messages of this chat that match.")
    at = Moment()
    is_archived = Flag()


class OwnStats(serializers.Serializer[Any]):
    total_conversations = Whole(source="total")
    active_conversations = Whole(source="active")
    archived_conversations = Whole(source="archived")
    total_messages = Whole(source="messages")


class BrandStats(serializers.Serializer[Any]):
    """Every member's and visitor's chats, but for what is in a bin. Money in micro-dollars."""

    total_conversations = Whole()
    active_conversations = Whole()
    archived_conversations = Whole()
    total_messages = Whole()
    total_tokens_used = Whole()
    total_cost_microusd = Whole()
    counted_at = Moment()


class Recorded(serializers.Serializer[Any]):
    """A conversation that was begun here to be recorded."""

    id = Id()
    title = Text()
    model = Text()
    system_prompt = Text()
    settings = Free()
    created_at = Moment()


class RecordedMessage(serializers.Serializer[Any]):
    """A message that was recorded. An assistant's tokens are charged."""

    id = Id()
    conversation_id = Id()
    role = serializers.ChoiceField(Message.Role.values)
    tokens_used = Whole()
    is_charged = Flag()
    model = Text()
    metadata = Free()
    created_at = Moment()


class Tracked(serializers.Serializer[Any]):
    """A question that was asked elsewhere, as it was charged here."""

    id = Id()
    pocket = Text(help_text="What paid: plan, pack or overage.")
    model = Text()
    prompt_tokens = Whole()
    completion_tokens = Whole()
    created_at = Moment()


class Tokens(serializers.Serializer[Any]):
    prompt_tokens = Whole()
    completion_tokens = Whole()


class Answered(serializers.Serializer[Any]):
    """The assistant's message."""

    id = Id()
    chat_id = Id()
    role = Text()
    content = Text()
    status = serializers.ChoiceField(Message.Status.values)
    ai_provider_id = Id(allow_null=True)
    token_usage = Tokens()


class Failure(serializers.Serializer[Any]):
    """Why an answer broke off."""

    code = Text()
    detail = Text()


class Answer(serializers.Serializer[Any]):
    """The answer, and the chat it stands in. `turnId` leads back to it while it is written."""

    turnId = Id()
    chatId = Id()
    message = Answered()
    error = Failure(allow_null=True)


# What is taken


class Question(Strict):
    message = Text(max_length=MOST_CHARACTERS, trim_whitespace=True)
    providerId = Id(required=False, help_text="A model of `ai-providers`; the chat's, else the first one.")
    promptId = Id(required=False, help_text="A prompt of `system-prompts`.")
    chatId = Id(required=False, help_text="Goes on in this chat; without it a new one begins.")


class ListWanted(Paged):
    brand = Text(required=False, max_length=80, help_text="Slug or id of your own brand; no other is here.")
    user = Id(required=False, help_text="Whose; your own when it is left out. Another's: for admins, and it is logged.")
    archived = serializers.ChoiceField(list(ARCHIVED), required=False)
    sort_by = serializers.ChoiceField(list(SORTS), default="updated_at")
    sort_order = serializers.ChoiceField(["asc", "desc"], default="desc")


class MessagesWanted(Query):
    limit = Whole(min_value=1, max_value=200, default=200)
    after = Id(required=False, help_text="The id of the last message of the page before.")


class OneWanted(Query):
    # `with` is no name in Python
    def get_fields(self) -> dict[str, Any]:
        return {"with": serializers.ChoiceField(["messages"], required=False, help_text="Its messages too.")}


class SearchWanted(Query):
    q = Text(max_length=300, help_text='Words, "words side by side", -without; the last one as it is being typed.')
    archived = serializers.ChoiceField(["no", "only"], required=False)
    agent = Id(required=False)
    model = Text(required=False, max_length=MOST_MODEL)
    since = serializers.DateField(required=False)
    until = serializers.DateField(required=False)
    after = Text(required=False, max_length=100)


class Tools(serializers.ListField):
    """What models may call, in the words of chat completions, responses or messages."""

    child = Free()

    def to_internal_value(self, data: Any) -> list[Any]:
        return list(tools(super().to_internal_value(data)))


class FunctionCall(Free):
    """Which tools an assistant called, or which call a function's result is of."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        told = super().to_internal_value(data)
        calls = told.get("calls")
        if told.keys() == {"call_id"} and _is_text(told["call_id"]):
            return told
        if (
            told.keys() == {"calls"}
            and isinstance(calls, list)
            and 0 < len(calls) <= MOST_TOOLS
            and all(map(_is_call, calls))
        ):
            return told
        raise serializers.ValidationError(
            'This is {"calls": [{"id", "name", "arguments"}]} of an assistant, or {"call_id"} of a function: all of it text.'
        )


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and 0 < len(value) <= MOST_CALL_ID


def _is_call(call: Any) -> bool:
    is_whole = isinstance(call, dict) and call.keys() == {"id", "name", "arguments"}
    return is_whole and _is_text(call["id"]) and _is_text(call["name"]) and isinstance(call["arguments"], str)


class Change(Strict):
    title = Text(required=False, max_length=keeping.LONGEST_TITLE)
    archived = Flag(required=False)
    pinned = Flag(
        required=False, help_text="Pinned ones are kept whatever the plan says, and need one that keeps 30 days."
    )
    tools = Tools(
        required=False,
        help_text="What models may call, sent with each question of it from now on, whoever asks; [] takes them away.",
    )


class Settings(Strict):
    temperature = Number(required=False, min_value=0, max_value=2)
    top_p = Number(required=False, min_value=0, max_value=1)
    max_tokens = Whole(required=False, min_value=1, max_value=MOST_MAX_TOKENS)


class ToRecord(Strict):
    title = Text(max_length=MOST_TITLE, default="New chat", allow_blank=True)
    model = Text(max_length=MOST_MODEL, default="", allow_blank=True)
    system_prompt = Text(max_length=MOST_PROMPT, default="", allow_blank=True)
    settings = Settings(default=dict)


class MessageToRecord(Strict):
    role = serializers.ChoiceField(Message.Role.values)
    content = Text(
        default="", allow_blank=True, help_text="Of a function its result; empty where an assistant only calls."
    )
    function_call = FunctionCall(required=False, most_bytes=MOST_METADATA_BYTES)
    tokens_used = Whole(min_value=0, max_value=MOST_TOKENS, default=0, help_text="Charged for an assistant's message.")
    model = Text(max_length=MOST_MODEL, default="", allow_blank=True)
    metadata = Free(most_bytes=MOST_METADATA_BYTES, default=dict, help_text="Your own; told again as it is.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        told = {Message.Role.ASSISTANT: "calls", Message.Role.FUNCTION: "call_id"}.get(attrs["role"])
        call = attrs.get("function_call") or {}
        if (call and told not in call) or (told == "call_id" and not call):
            raise serializers.ValidationError(
                {"function_call": "An assistant has calls, a function a call_id, others none."}
            )
        if not attrs["content"].strip() and "calls" not in call:
            raise serializers.ValidationError({"content": "content is empty."})
        return attrs


class ToTrack(Strict):
    model = Text(max_length=MOST_MODEL, default="", allow_blank=True)
    prompt_tokens = Whole(min_value=0, max_value=MOST_TOKENS, default=0)
    completion_tokens = Whole(min_value=0, max_value=MOST_TOKENS, default=0)


# Rows as programs are told of them by realtime too.


def conversation_as_told(row: Conversation) -> dict[str, Any]:
    told: dict[str, Any] = Kept().to_representation(row)
    return told


def message_as_told(row: Message) -> dict[str, Any]:
    told: dict[str, Any] = Said().to_representation(row)
    return told
