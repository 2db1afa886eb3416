"""S0's conversations: list, read, change, archive, delete, search, count."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django.db.models import QuerySet

from accounts.access import BrandRequest
from accounts.keys import READ, WRITE
from accounts.rest import Api, Listed, operation
from conversations.chats import keeping, listing, reading, retention, search, stats
from conversations.chats.listing import Wanted
from conversations.engine import tuning
from conversations.models import Conversation, Message
from conversations.rest import examples, recorded, shapes
from events import activity
from lib.db import scope
from lib.errors import Forbidden, Invalid, NotFound

MOST = 200
OF_BRAND = "brand:read"


class OfConversation(Api):
    tag = "Conversations"

    def locked(self, request: BrandRequest, **ids: Any) -> Conversation:
        return _one(request, ids["conversation_id"], readable(request).select_for_update(of=("self",)))


class Conversations(recorded.Begins, OfConversation):
    @operation(
        "listConversations", READ,
        query=shapes.ListWanted, answers=shapes.Kept(many=True), goes_out=True, told=examples.CONVERSATION,
    )  # fmt: skip
    def get(self, request: BrandRequest) -> Listed:
        """List conversations

        Your own. With `user` another member's, for the brand's admins and owners, who are signed in themselves: no key
        may. Titles are content, so each such reading is written to the brand's activity log. What a plan does not keep
        (history of 0 days) is in no list.
        """
        given, who = self.query, request.principal
        if given.get("brand", request.brand.slug) not in (request.brand.slug, str(request.brand.pk)):
            raise NotFound("This brand is not here. A key reads its own brand only.")
        wanted = Wanted(
            show=shapes.ARCHIVED.get(given.get("archived", ""), "all"),
            sort=shapes.SORTS[given["sort_by"]],
            descends=given["sort_order"] == "desc",
            after=given.get("after", ""),
            most=given["limit"],
        )
        if (user := given.get("user", who.owner_id)) != who.owner_id:
            return self.of_another(request, user, wanted)
        with scope(who):
            page = listing.page(listing.owned(who).filter(retention.listed(who)), wanted)
        return Listed(page.rows, page.more)

    def of_another(self, request: BrandRequest, user: UUID, wanted: Wanted) -> Listed:
        """Raises NotFound for who is no admin of the brand, and Forbidden for a key: no scope says this of one."""
        if request.principal.key_id:
            raise Forbidden("An API key lists the conversations of its own person only.")
        admin = replace(request.principal, role="app_brand")
        with scope(admin):
            kept = Conversation.objects.filter(retention.listed_to_others(admin.brand_id), brand_id=admin.brand_id)
            page = listing.page(kept.filter(owner_id=user), wanted)
            activity.record(
                admin.brand_id,
                "conversation.read",
                actor_id=admin.owner_id,
                resource=("conversation", None),
                changes={"owner": str(user), "chats": len(page.rows)},
            )
        return Listed(page.rows, page.more)


class OneConversation(OfConversation):
    @operation(
        "getConversation", READ,
        query=shapes.OneWanted, answers=shapes.Kept(), tagged=True, told=examples.CONVERSATION,
    )  # fmt: skip
    def get(self, request: BrandRequest, conversation_id: UUID) -> Conversation:
        """Read a conversation

        With `?with=messages` its messages too (S0 getConversationWithMessages). What a plan keeps for no day can be read
        for 24 hours.
        """
        found = _one(request, conversation_id)
        if "with" in self.query:
            found.said = list(shown(found)[:MOST])  # type: ignore[attr-defined]
        return found

    @operation(
        "updateConversation", WRITE,
        asks=shapes.Change, answers=shapes.Kept(), tagged=True,
        asked={"title": "High towers", "pinned": True}, told=examples.CONVERSATION,
    )  # fmt: skip
    def patch(self, request: BrandRequest, conversation_id: UUID) -> Conversation:
        """Change title, archive, pin or define tools

        Tools are what models may call, defined once for all questions of this conversation: in the words of chat
        completions (`{"type": "function", "function": {…}}`), responses or messages. Calls are told as `function_call`;
        record their results with the role `function`.
        """
        asked, who, ids = self.asked, request.principal, [conversation_id]
        if "title" in asked:
            keeping.rename(who, conversation_id, asked["title"])
        if "archived" in asked:
            (keeping.archive if asked["archived"] else keeping.unarchive)(who, ids)
        if "pinned" in asked:
            keeping.pin(who, request.brand, ids) if asked["pinned"] else keeping.unpin(who, ids)
        if "tools" in asked:
            tuning.define_tools(who, conversation_id, asked["tools"])
        return _one(request, conversation_id)

    @operation("deleteConversation", WRITE, tagged=True)
    def delete(self, request: BrandRequest, conversation_id: UUID) -> None:
        """Move a conversation to the bin

        With its messages, for 30 days. What it cost stays in your usage.
        """
        keeping.move_to_bin(request.principal, [conversation_id])


class Archive(OfConversation):
    @operation("archiveConversation", WRITE, answers=shapes.Kept(), told=examples.CONVERSATION)
    def post(self, request: BrandRequest, conversation_id: UUID) -> Conversation:
        """Archive a conversation"""
        keeping.archive(request.principal, [conversation_id])
        return _one(request, conversation_id)


class Unarchive(OfConversation):
    @operation("unarchiveConversation", WRITE, answers=shapes.Kept(), told=examples.CONVERSATION)
    def post(self, request: BrandRequest, conversation_id: UUID) -> Conversation:
        """Take a conversation out of the archive"""
        keeping.unarchive(request.principal, [conversation_id])
        return _one(request, conversation_id)


class Messages(recorded.Adds, OfConversation):
    @operation(
        "getMessages", READ,
        query=shapes.MessagesWanted, answers=shapes.Said(many=True), told=examples.MESSAGE,
    )  # fmt: skip
    def get(self, request: BrandRequest, conversation_id: UUID) -> Listed:
        """List the messages of a conversation

        Of the branch that is shown, oldest first.
        """
        return messages(self, request, conversation_id)


class ChatDetails(OfConversation):
    tag = "Chat"

    @operation(
        "getChatDetails", READ,
        query=shapes.MessagesWanted, answers=shapes.Said(many=True), told=examples.MESSAGE,
    )  # fmt: skip
    def get(self, request: BrandRequest, conversation_id: UUID) -> Listed:
        """Read a chat

        Its messages, of the branch that is shown, oldest first.
        """
        return messages(self, request, conversation_id)


class ChatHistory(Api):
    tag = "Chat"

    @operation("getChatHistory", READ, query=shapes.Paged, answers=shapes.ChatRow(many=True), told=examples.CHAT)
    def get(self, request: BrandRequest) -> Listed:
        """List your chats

        The newest first, without those in the archive.
        """
        who = request.principal
        wanted = Wanted(show="active", after=self.query.get("after", ""), most=self.query["limit"])
        page = listing.page(listing.owned(who).filter(retention.listed(who)), wanted)
        return Listed(page.rows, page.more)


class Search(OfConversation):
    @operation(
        "searchConversations", READ,
        query=shapes.SearchWanted, answers=shapes.Found(many=True), told=examples.HIT,
    )  # fmt: skip
    def get(self, request: BrandRequest) -> Listed:
        """Search titles and messages

        Best first: a title before words that stand together, these before the others.
        """
        wanted = search.parse(self.query["q"])
        if wanted.problem or not wanted.terms:
            raise Invalid(wanted.problem or "q is empty: say what to look for.", param="q")
        filters = search.filters(request.GET.dict(), request.brand.zone)
        found = search.find(request.principal, wanted, filters, after=self.query.get("after", ""))
        return Listed(found.found, found.after)


class Stats(OfConversation):
    @operation("getOwnStats", READ, answers=shapes.OwnStats(), tagged=True, told=examples.OWN_STATS)
    def get(self, request: BrandRequest) -> Any:
        """Count your conversations"""
        return stats.of_member(request.principal)


class BrandStats(OfConversation):
    @operation(
        "getConversationStats", OF_BRAND, answers=shapes.BrandStats(), role="app_brand", told=examples.BRAND_STATS
    )
    def get(self, request: BrandRequest, slug: str) -> Any:
        """Count a brand's conversations

        All that are kept: conversations, messages, tokens and what they cost, in micro-dollars. Of a brand with more than
        10,000 conversations they are counted every five minutes; `counted_at` says when.
        """
        if slug != request.brand.slug:
            raise NotFound("This brand is not here. A key reads its own brand only.")
        return stats.of_brand(request.principal)


def readable(request: BrandRequest) -> QuerySet[Conversation]:
    return reading.own(request.principal)


def _one(request: BrandRequest, conversation_id: UUID, rows: QuerySet[Conversation] | None = None) -> Conversation:
    found = (readable(request) if rows is None else rows).filter(pk=conversation_id).first()
    if found is None:
        raise NotFound("This conversation is not here (any more).")
    return found


def shown(conversation: Conversation) -> QuerySet[Message]:
    return conversation.messages.filter(is_current=True, deleted_at=None).defer("file_text", "withdrawn").order_by("id")


def messages(view: Api, request: BrandRequest, conversation_id: UUID) -> Listed:
    most, said = view.query["limit"], shown(_one(request, conversation_id))
    if after := view.query.get("after"):
        said = said.filter(pk__gt=after)
    rows = list(said[: most + 1])
    return Listed(rows[:most], str(rows[most - 1].pk) if len(rows) > most else "")
