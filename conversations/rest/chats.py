"""REST: chats and their messages, to read and to keep, and to ask (docs/api.md). Names are S4's and S0's own.

Keys read with `conversations:read` and change with `conversations:write`; a member in a browser reads too. Every list
gives the address of its next page as `Link: <…>; rel="next"`. The same functions stand behind the pages.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.urls import path

from accounts.access import BrandRequest, api, by_method
from accounts.keys import READ, WRITE
from conversations.chats import keeping, listing, reading, retention, search, stats
from conversations.chats.listing import Wanted
from conversations.doors import exchange, fields
from conversations.doors.exchange import as_json, door
from conversations.doors.fields import BadField
from conversations.engine.turns import Question
from conversations.forms import MOST_CHARACTERS
from conversations.models import Conversation, Message
from conversations.rest import recording as recorded
from conversations.rest.shapes import conversation_as_told, message_as_told
from lib.db import scope
from lib.errors import Invalid, NotFound

MOST, USUAL = 200, 50
LIST = {"brand", "user", "archived", "limit", "sort_by", "sort_order", "after"}
SORTS = {
    "updated_at": "updated",
    "created_at": "created",
    "title": "title",
    "message_count": "messages",
    "tokens": "tokens",
}
ARCHIVED = {"": "all", "false": "active", "true": "archived"}
reads = api("GET", "HEAD", needed=(READ,), for_sessions=True)
offers_are_read = api("GET", "HEAD", needed=("chat", READ), for_sessions=True)


# -- S4's five ---------------------------------------------------------------------------------------------------------


@offers_are_read
def ai_providers(request: BrandRequest) -> HttpResponse:
    """S4 `ai-providers`: id, name, description, and nothing else."""
    with scope(request.principal):
        offered = reading.choices(request.principal)["providers"]
    return as_json([{name: row[name] for name in ("id", "name", "description")} for row in offered])


@offers_are_read
def system_prompts(request: BrandRequest) -> HttpResponse:
    """S4 `system-prompts`. What a prompt says stays here."""
    with scope(request.principal):
        return as_json(
            [{"id": row["id"], "name": row["name"]} for row in reading.choices(request.principal)["prompts"]]
        )


@dataclass(frozen=True, slots=True)
class Asked:
    question: Question


@door("POST", shape=lambda error: _refusal(error))
async def chat(request: HttpRequest) -> HttpResponse:
    """S4 `chat`: `{message, providerId, promptId, chatId?}`; the assistant's message, and the chat it stands in.

    What is asked is stored, so it goes on when the program hangs up: `chat-details` has it then.
    """
    _, live = await exchange.ask(request, _asked)
    finished = await exchange.whole(live)
    begun = live.begun
    return as_json(
        {
            "chatId": begun.conversation_id,
            "message": {
                "id": begun.answer_id,
                "chat_id": begun.conversation_id,
                "role": Message.Role.ASSISTANT,
                "content": finished.text,
                "status": finished.status,
                "ai_provider_id": begun.offer.id,
                "token_usage": {
                    "prompt_tokens": finished.prompt_tokens,
                    "completion_tokens": finished.completion_tokens,
                },
            },
        }
    )


def _asked(body: bytes) -> Asked:
    asked = fields.json_object(body)
    fields.known(asked, {"message", "providerId", "promptId", "chatId"})
    text = fields.text("message", asked.get("message"), most=MOST_CHARACTERS).strip()
    if not text:
        raise BadField("message", "message is empty.")
    return Asked(
        Question(
            text=text,
            conversation_id=_id("chatId", asked.get("chatId")),
            model=_id("providerId", asked.get("providerId")),
            prompt_id=_id("promptId", asked.get("promptId")),
            is_stored=True,
        )
    )


@reads
def chat_history(request: BrandRequest) -> HttpResponse:
    """S4 `chat-history`: id, title, updated_at, newest first."""
    _known(request, {"limit", "after"})
    page = _page(request, Wanted(show="active", after=request.GET.get("after", ""), most=_limit(request)))
    return _listed(request, page, lambda row: {"id": row.pk, "title": row.title, "updated_at": _at(row)})


@reads
def chat_details(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """S4 `chat-details`: the messages of the branch that is shown, oldest first."""
    return _messages(request, conversation_id)


# -- S0's conversations ------------------------------------------------------------------------------------------------


@reads
def conversations(request: BrandRequest) -> HttpResponse:
    """S0 listConversations(): own ones, by `brand`, `user`, `archived`, `limit`, `sort_by`, `sort_order`."""
    _known(request, LIST)
    given = request.GET
    if given.get("brand", request.brand.slug) not in (request.brand.slug, str(request.brand.pk)):
        raise NotFound("This brand is not here. A key reads its own brand only.")
    if given.get("user", str(request.principal.owner_id)) != str(request.principal.owner_id):
        raise NotFound("This user's conversations are not here: a key reads those of the person who made it.")
    wanted = Wanted(
        show=_one_of("archived", given.get("archived", ""), ARCHIVED),
        sort=_one_of("sort_by", given.get("sort_by", "updated_at"), SORTS),
        descends=_one_of("sort_order", given.get("sort_order", "desc"), {"asc": False, "desc": True}),
        after=given.get("after", ""),
        most=_limit(request),
    )
    return _listed(request, _page(request, wanted), conversation_as_told)


@reads
def conversation(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    return _one(request, conversation_id)


@api("PATCH", needed=(WRITE,))
def change(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """S0 updateConversation(): title, archived, pinned."""
    asked = fields.json_object(request.body)
    fields.known(asked, {"title", "archived", "pinned"})
    who, ids = request.principal, [conversation_id]
    with scope(who):
        if asked.get("title") is not None:
            keeping.rename(who, conversation_id, fields.text("title", asked["title"], most=keeping.LONGEST_TITLE))
        if (archived := _flag(asked, "archived")) is not None:
            (keeping.archive if archived else keeping.unarchive)(who, ids)
        if (pinned := _flag(asked, "pinned")) is not None:
            keeping.pin(who, request.brand, ids) if pinned else keeping.unpin(who, ids)
        return _one(request, conversation_id)


@api("DELETE", needed=(WRITE,))
def delete(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """S0 deleteConversation(): to the bin, for 30 days. What it cost stays."""
    keeping.move_to_bin(request.principal, [conversation_id])
    return HttpResponse(status=204)


@api("POST", needed=(WRITE,))
def archive(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    keeping.archive(request.principal, [conversation_id])
    return _one(request, conversation_id)


@api("POST", needed=(WRITE,))
def unarchive(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    keeping.unarchive(request.principal, [conversation_id])
    return _one(request, conversation_id)


@reads
def messages(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """S0 getMessages(): as `chat-details`."""
    return _messages(request, conversation_id)


@reads
def search_conversations(request: BrandRequest) -> HttpResponse:
    """S0 searchConversations(): `q` as in the search box; marks of a hit are `<mark>`, everything else is escaped."""
    _known(request, {"q", "archived", "agent", "model", "since", "until", "after"})
    wanted = search.parse(request.GET.get("q", ""))
    if wanted.problem or not wanted.terms:
        raise Invalid(wanted.problem or "q is empty: say what to look for.", param="q")
    filters = search.filters(request.GET.dict(), request.brand.zone)
    with scope(request.principal):
        found = search.find(request.principal, wanted, filters, after=request.GET.get("after", ""))
    rows = [{**row, "title": str(row["title"]), "excerpt": str(row["excerpt"])} for row in found.found]
    return _linked(request, as_json(rows), found.after)


@reads
def statistics(request: BrandRequest) -> HttpResponse:
    """S0 getConversationStats(), of one's own chats."""
    with scope(request.principal):
        kept = stats.of_member(request.principal)
    return as_json(
        {
            "total_conversations": kept.total,
            "active_conversations": kept.active,
            "archived_conversations": kept.archived,
            "total_messages": kept.messages,
        }
    )


@reads
def brand_statistics(request: BrandRequest, slug: str) -> HttpResponse:
    """S0 getConversationStats(), of the whole brand: for its admins and owners. Money in micro-dollars."""
    if slug != request.brand.slug:
        raise NotFound("This brand is not here. A key reads its own brand only.")
    with scope(replace(request.principal, role="app_brand")):
        return as_json(stats.of_brand(request.brand.pk))


# -- what they share ---------------------------------------------------------------------------------------------------


def _page(request: BrandRequest, wanted: Wanted) -> listing.Page:
    with scope(request.principal):
        return listing.page(listing.owned(request.principal).filter(retention.listed(request.principal)), wanted)


def _one(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    with scope(request.principal):
        return as_json(conversation_as_told(_readable(request, conversation_id)))


def _readable(request: BrandRequest, conversation_id: UUID) -> Conversation:
    mine = listing.owned(request.principal).filter(retention.readable(request.principal), deleted_at=None)
    found = mine.filter(pk=conversation_id).first()
    if found is None:
        raise NotFound("This conversation is not here (any more).")
    return found


def _messages(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    _known(request, {"limit", "after"})
    most, after = _limit(request, MOST), _id("after", request.GET.get("after"))
    with scope(request.principal):
        said = _readable(request, conversation_id).messages.filter(is_current=True, deleted_at=None).order_by("id")
        rows = list(said.filter(pk__gt=after)[: most + 1] if after else said[: most + 1])
    shown = rows[:most]
    answer = as_json([message_as_told(row) for row in shown])
    return _linked(request, answer, str(shown[-1].pk) if len(rows) > most else "")


def _listed(request: BrandRequest, page: listing.Page, told: Callable[[Conversation], Any]) -> HttpResponse:
    return _linked(request, as_json([told(row) for row in page.rows]), page.more)


def _linked(request: BrandRequest, response: HttpResponse, after: str) -> HttpResponse:
    if after:
        query = urlencode({**request.GET.dict(), "after": after})
        response.headers["Link"] = f'<{request.path}?{query}>; rel="next"'
    return response


def _known(request: BrandRequest, names: set[str]) -> None:
    if unknown := sorted(set(request.GET) - names):
        there_are = ", ".join(sorted(names))
        raise Invalid(f"Unknown parameter: {unknown[0][:80]}. There are: {there_are}.", param=unknown[0][:80])


def _limit(request: BrandRequest, usual: int = USUAL) -> int:
    given = request.GET.get("limit", str(usual))
    if not (given.isascii() and given.isdecimal() and len(given) < 4 and 1 <= int(given) <= MOST):
        raise Invalid(f"limit must be a whole number from 1 to {MOST}.", param="limit")
    return int(given)


def _one_of(name: str, given: str, values: Mapping[str, Any]) -> Any:
    if given not in values:
        raise Invalid(f"{name} must be one of {', '.join(value for value in values if value)}.", param=name)
    return values[given]


def _flag(asked: Mapping[str, Any], name: str) -> bool | None:
    value = asked.get(name)
    if value is None or isinstance(value, bool):
        return value
    raise BadField(name, f"{name} must be true or false.")


def _id(name: str, given: Any) -> UUID | None:
    if given is None:
        return None
    try:
        return UUID(given)
    except (TypeError, ValueError, AttributeError) as error:
        raise BadField(name, f"{name} must be an id.") from error


def _at(row: Conversation) -> Any:
    return row.last_message_at or row.updated_at


def _refusal(error: Exception) -> HttpResponse:
    raise error


urlpatterns = [
    path("ai-providers", ai_providers, name="ai-providers"),
    path("system-prompts", system_prompts, name="system-prompts"),
    path("chat", chat, name="rest-chat"),
    path("chat-history", chat_history, name="chat-history"),
    path("chat-details/<uuid:conversation_id>", chat_details, name="chat-details"),
    path("conversations", by_method(GET=conversations, POST=recorded.conversations), name="rest-conversations"),
    path("conversations/search", search_conversations, name="search-conversations"),
    path("conversations/stats", statistics, name="conversation-stats"),
    path(
        "conversations/<uuid:conversation_id>",
        by_method(GET=conversation, PATCH=change, DELETE=delete),
        name="rest-conversation",
    ),
    path("conversations/<uuid:conversation_id>/archive", archive, name="archive-conversation"),
    path("conversations/<uuid:conversation_id>/unarchive", unarchive, name="unarchive-conversation"),
    path(
        "conversations/<uuid:conversation_id>/messages",
        by_method(GET=messages, POST=recorded.messages),
        name="rest-messages",
    ),
    path("brands/<slug:slug>/stats", brand_statistics, name="brand-stats"),
]
