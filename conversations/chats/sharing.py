"""A chat for whoever has the link: a copy of what was shown at one moment, until it is revoked or over.

The link is made from the row's id and SECRET_KEY, so its owner can be shown it again, while the database alone opens
nothing. A link works while its brand lets people share, its chat is not deleted, and its owner is a member (I-11).
"""

import hashlib
from contextlib import suppress
from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.core.cache import cache
from django.db.models import Q
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Brand
from conversations.models import Conversation, Message, Share
from events import activity
from lib import clock
from lib.db import Principal, serve
from lib.errors import Forbidden, Invalid, NotFound
from lib.ids import uuid7

DAYS = {"7": 7, "30": 30, "90": 90, "never": None}
MOST_MESSAGES, MOST_LETTERS = 500, 200_000
MOST_LIVE = 200  # links of one person
VIEW_COUNTS_ONCE_S = 3600  # of the same network
FLUSH_EVERY_S = 30

FIND = """
select s.id, s.title, s.snapshot, s.created_at, s.expires_at from conversations_share s
join accounts_brand b on b.id = s.brand_id and b.sharing_on and b.is_active
join conversations_conversation c on c.id = s.conversation_id and c.deleted_at is null
where s.brand_id = %(brand)s and s.token_hash = %(hash)s and s.revoked_at is null
      and (s.expires_at is null or s.expires_at > now())
      and lookup.standing(s.brand_id, s.owner_id) is not null
"""
COUNT = "update conversations_share set views = views + %(seen)s where id = %(share)s"


class SharingIsOff(Forbidden):
    says = gettext_lazy("This site does not let chats be shared. Links that were given away before are closed.")
    code = "sharing_is_off"


class NotShared(NotFound):
    says = gettext_lazy("There is nothing behind this link: it is wrong, was taken back, or its time is over.")
    code = "not_shared"


def share(principal: Principal, brand: Brand, conversation_id: UUID, *, days: int | None) -> Share:
    """Copy what the chat shows now. In the owner's scope. Raises SharingIsOff, NotFound, Invalid

    days  how long the link works; None = until it is revoked
    """
    if not brand.sharing_on:
        raise SharingIsOff
    own = Conversation.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, deleted_at=None)
    conversation = own.filter(pk=conversation_id).first()
    if conversation is None:
        raise NotFound(_("This chat is not here (any more)."))
    if _live(principal).count() >= MOST_LIVE:
        raise Invalid(_("You have %(most)d links already. Take one back first.") % {"most": MOST_LIVE})
    messages = shown(principal, conversation_id)
    if not messages:
        raise Invalid(_("There is nothing to share yet: nothing was answered in this chat."))
    if len(messages) > MOST_MESSAGES or sum(len(message["text"]) for message in messages) > MOST_LETTERS:
        raise Invalid(_("This chat is too long for a page that is shared. Export it, and share the file."))
    share_id = uuid7()
    activity.record(
        principal.brand_id,
        "share.made",
        actor_id=principal.owner_id,
        resource=("share", share_id),
        changes={"conversation": str(conversation_id), "days": days},
    )
    return Share.objects.create(
        id=share_id,
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        conversation=conversation,
        token_hash=_digest(token(share_id)),
        title=conversation.title,
        snapshot={"messages": messages},
        expires_at=clock.now() + timedelta(days=days) if days else None,
    )


def shown(principal: Principal, conversation_id: UUID) -> list[dict[str, str]]:
    """What everybody may see of a chat: what was asked and answered on the path that is shown, and which model answered.

    No instructions, tools, files, names of people, costs or identifiers.
    """
    rows = Message.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, conversation_id=conversation_id, is_current=True
    ).filter(role__in=["user", "assistant"])
    return [
        {"role": row["role"], "text": row["content"], "model": row["model_name"]}
        for row in rows.order_by("id").values("role", "content", "model_name")
        if row["content"].strip()
    ]


def revoke(principal: Principal, share_id: UUID) -> bool:
    """Close a link for good. Returns whether it was open. In the owner's scope."""
    was_open = bool(_own(principal).filter(pk=share_id, revoked_at=None).update(revoked_at=clock.now()))
    if was_open:
        activity.record(principal.brand_id, "share.revoked", actor_id=principal.owner_id, resource=("share", share_id))
    return was_open


def exists(principal: Principal, share_id: UUID) -> bool:
    return bool(_own(principal).filter(pk=share_id).exists())


def listed(principal: Principal, conversation_id: UUID | None = None) -> list[dict[str, Any]]:
    """Links that may still work, the newest first, with the link itself and how often it was opened."""
    rows = _live(principal).filter(conversation__deleted_at=None)
    if conversation_id:
        rows = rows.filter(conversation_id=conversation_id)
    found = []
    for row in rows.order_by("-id").defer("snapshot")[:MOST_LIVE]:
        text = token(row.pk)
        # A link made with another SECRET_KEY works on, but nobody can write it down again.
        is_known = row.token_hash == _digest(text)
        found.append({"row": row, "token": text if is_known else "", "views": row.views + _waiting(row.pk)})
    return found


def find(brand: Brand, text: str) -> dict[str, Any]:
    """What a link leads to. Raises NotShared, whatever is wrong"""
    names = {"brand": brand.pk, "hash": _digest(text)}
    (rows,) = serve((FIND, names))
    if not rows:
        raise NotShared
    row = rows[0]
    return {"id": row.id, "title": row.title, "shared_at": row.created_at, "messages": _snapshot(row.snapshot)}


def count_view(share_id: UUID, network: str) -> None:
    """Count a reader: each network once an hour, and the row is written to twice a minute at most, however many come."""
    once = hashlib.sha256(f"{settings.SECRET_KEY}{share_id}{network}".encode()).hexdigest()[:32]
    if not cache.add(f"share-seen:{once}", 1, VIEW_COUNTS_ONCE_S):
        return
    waiting = f"share-views:{share_id}"
    cache.add(waiting, 0, None)
    with suppress(ValueError):  # Redis came or went between the two
        cache.incr(waiting)
    if cache.add(f"share-flush:{share_id}", 1, FLUSH_EVERY_S) and (seen := _waiting(share_id)):
        with suppress(ValueError):
            cache.decr(waiting, seen)
        serve((COUNT, {"seen": seen, "share": share_id}))


def token(share_id: UUID) -> str:
    return salted_hmac("conversations.sharing", str(share_id), algorithm="sha256").hexdigest()[:40]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _snapshot(stored: Any) -> list[dict[str, str]]:
    return list((orjson.loads(stored) if isinstance(stored, str | bytes) else stored)["messages"])


def _waiting(share_id: UUID) -> int:
    return int(cache.get(f"share-views:{share_id}") or 0)


def _own(principal: Principal) -> Any:
    return Share.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)


def _live(principal: Principal) -> Any:
    return _own(principal).filter(Q(expires_at=None) | Q(expires_at__gt=clock.now()), revoked_at=None)
