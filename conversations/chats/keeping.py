"""What people do with chats of their own: rename, pin, archive, delete, and take back, one or up to 500 at once.

Each is one statement in the caller's own scope. A repeat changes nothing, and says so: only what changed is returned and
published. What is done can be taken back as a whole, by the moment at which it was done.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import Brand
from conversations.chats import retention
from events import stream
from lib.db import Principal, on_commit, opening, scope, send, serve
from lib.errors import Forbidden, Invalid, NotFound

MOST = 500
LONGEST_TITLE = 200
UNFIT = re.compile(
    "[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)  # breaks or reorders a line

_OWN = "id = any(%(ids)s) and brand_id = %(brand)s and owner_id = %(owner)s"
# What is done: where it may be done, what is written, and on which rows that changes anything.
_DEEDS = {
    "renamed": ("deleted_at is null", "title = %(title)s", "c.title <> %(title)s"),
    "pinned": ("deleted_at is null", "pinned_at = now()", "c.pinned_at is null"),
    "unpinned": ("deleted_at is null", "pinned_at = null", "c.pinned_at is not null"),
    "archived": ("deleted_at is null", "archived_at = now()", "c.archived_at is null"),
    "unarchived": ("deleted_at is null", "archived_at = null", "c.archived_at is not null"),
    "deleted": ("true", "deleted_at = now()", "c.deleted_at is null"),
    "restored": ("true", "deleted_at = null", "c.deleted_at is not null"),
}
CHANGE = {
    deed: f"""
with asked as (select id from conversations_conversation where {_OWN} and {among}),
changed as (
    update conversations_conversation c set {written}, updated_at = now() from asked where c.id = asked.id and {differs}
    returning c.id
)
select now() as at, (select count(*) from asked) as found, array(select id from changed) as ids
"""  # noqa: S608
    for deed, (among, written, differs) in _DEEDS.items()
}
# What was done to several at one moment carries that moment.
TAKE_BACK = {
    "deleted": "update conversations_conversation set deleted_at = null, updated_at = now() "
    "where brand_id = %(brand)s and owner_id = %(owner)s and deleted_at = %(at)s returning id",
    "archived": "update conversations_conversation set archived_at = null, updated_at = now() "
    "where brand_id = %(brand)s and owner_id = %(owner)s and archived_at = %(at)s and deleted_at is null returning id",
}
TAKEN_BACK = {"deleted": "restored", "archived": "unarchived"}
STOP = """
update conversations_turn set stop_asked_at = coalesce(stop_asked_at, now())
where conversation_id = any(%(ids)s) and brand_id = %(brand)s and owner_id = %(owner)s
      and status in ('pending', 'streaming')
"""


class PinningNotIncluded(Forbidden):
    says = gettext_lazy("Pinned chats are kept for good, which this plan does not include.")
    code = "pinning_not_included"


@dataclass(frozen=True, slots=True)
class Done:
    """Which chats were changed, and when by the database's clock: take_back() undoes what was done at that moment."""

    ids: list[UUID]
    at: datetime


def rename(principal: Principal, conversation_id: UUID, title: str) -> Done:
    """Give a chat another title: one line, at most 200 characters, without characters that reorder it.

    Raises  Invalid for a title of which nothing is left; NotFound
    """
    title = " ".join(UNFIT.sub(" ", title).split())[:LONGEST_TITLE]
    if not title:
        raise Invalid(_("Write a title of at least one letter; the old one is kept."))
    return _do("renamed", principal, [conversation_id], title=title)


def pin(principal: Principal, brand: Brand, ids: Iterable[UUID]) -> Done:
    """Keep chats at the top of the list, and for good, whatever the plan says later.

    Raises  PinningNotIncluded where the plan keeps chats for less than 30 days; NotFound
    """
    with scope(principal):
        keeping = retention.keeping_for(brand, principal.owner_id)
        if principal.role == "app_visitor" or not keeping.may_pin:
            days = keeping.plan_days or 0
            raise PinningNotIncluded(
                ngettext(
                    "Pinned chats are kept for good, which needs a plan that keeps chats for 30 days or more. Yours "
                    "keeps "
                    "them one day. Nothing was changed.",
                    "Pinned chats are kept for good, which needs a plan that keeps chats for 30 days or more. Yours "
                    "keeps "
                    "them %(days)s days. Nothing was changed.",
                    days,
                )
                % {"days": days}
            )
        return _do("pinned", principal, ids)


def unpin(principal: Principal, ids: Iterable[UUID]) -> Done:
    return _do("unpinned", principal, ids)


def archive(principal: Principal, ids: Iterable[UUID]) -> Done:
    """Take chats out of the list; they are found in the history, and a new message leaves them there."""
    return _do("archived", principal, ids)


def unarchive(principal: Principal, ids: Iterable[UUID]) -> Done:
    return _do("unarchived", principal, ids)


def move_to_bin(principal: Principal, ids: Iterable[UUID]) -> Done:
    """Delete chats: for 30 days they can be taken back. An answer that is being written is stopped; what it cost stays."""
    ids = list(ids)
    done = _do("deleted", principal, ids)
    on_commit(partial(_stop_answers, principal, ids))
    return done


def restore(principal: Principal, ids: Iterable[UUID]) -> Done:
    return _do("restored", principal, ids)


def take_back(principal: Principal, deed: str, at: datetime) -> list[UUID]:
    """Undo what was `deleted` or `archived` at this moment. What was changed again since stays as it is."""
    if deed not in TAKE_BACK:
        raise Invalid(_("Only what was deleted or archived can be taken back like this."))
    names = {"brand": principal.brand_id, "owner": principal.owner_id, "at": at}
    with opening(principal, (TAKE_BACK[deed], names)) as (rows,):
        ids = [row.id for row in rows]
        _publish(principal, TAKEN_BACK[deed], ids)
    return ids


def empty_bin(principal: Principal) -> int:
    """Delete for good all that is in the bin. Returns how many chats; there is no way back."""
    return retention.erase_from_bin(principal)


def _do(deed: str, principal: Principal, ids: Iterable[UUID], **named: str) -> Done:
    ids = list(dict.fromkeys(ids))
    if not ids:
        raise Invalid(_("Choose at least one chat."))
    if len(ids) > MOST:
        raise Invalid(_("At most %(most)s chats at once. Nothing was changed.") % {"most": MOST})
    names = {"ids": ids, "brand": principal.brand_id, "owner": principal.owner_id, **named}
    with opening(principal, (CHANGE[deed], names)) as ((row,),):
        if not row.found:
            raise NotFound(_("This chat is not here (any more)."))
        _publish(principal, deed, row.ids)
    return Done(row.ids, row.at)


def _publish(principal: Principal, deed: str, ids: Iterable[UUID]) -> None:
    send(
        *(
            stream.publishing(
                principal.brand_id,
                f"conversation.{deed}",
                subject=("conversation", chat_id),
                owner_id=principal.owner_id,
            )
            for chat_id in ids
        )
    )


def _stop_answers(principal: Principal, ids: list[UUID]) -> None:
    """Whichever process writes them hears of it with its next checkpoint, within a second."""
    serve((STOP, {"ids": ids, "brand": principal.brand_id, "owner": principal.owner_id}))
