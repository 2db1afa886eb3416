"""A visitor becomes a member: their chats go over to the account, and what they wrote at the limit is sent once.

A message is kept before sign-up is offered. It is sent by whoever comes to `welcome` first, under an Idempotency-Key made
of its id, so that reloads, second tabs and a process that died in between begin one turn. What cannot be sent goes back
into the composer of its chat, under the same key.
"""

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.translation import gettext as _

from conversations.engine import tuning
from conversations.engine.tuning import Context
from conversations.engine.turns import Branch, Question
from conversations.models import Message, PendingMessage
from events import stream
from lib import clock
from lib.db import SERVICE, Principal, opening, scope, send
from lib.errors import DomainError, NotFound

KEPT_FOR = timedelta(days=7)
KEY = "pending:"

# Whoever stores something of a visitor's holds their row meanwhile (HERE, and statements.VISITOR), so that it is there when
# the chats go over, or finds that they have gone.
HERE = "update accounts_visitor set last_seen_at = now() where id = %(owner)s returning id"
LEAVE = "delete from accounts_visitor where brand_id = %(brand)s and id = %(visitor)s returning id"
# In the order in which statements.FINISH locks them.
CHATS = """
select id from conversations_conversation
where brand_id = %(brand)s and owner_id = %(visitor)s order by id for update
"""
STILL = """
select id from conversations_turn
where brand_id = %(brand)s and owner_id = %(visitor)s and status in ('pending', 'streaming') order by id for update
"""
# Messages and turns, and whatever else hangs on a conversation, follow by their keys. The ledger stays as it is: what was
# free stays free, and none of it is the member's.
ADOPT = """
update conversations_conversation set owner_id = %(user)s, owner_kind = 'user', visitor_id = null
where brand_id = %(brand)s and owner_id = %(visitor)s
"""
ADOPT_PENDING = """
update conversations_pendingmessage set owner_id = %(user)s where brand_id = %(brand)s and owner_id = %(visitor)s
"""
# A repeat of what the visitor asked before signing up is still a repeat.
ADOPT_KEYS = """
update accounts_idempotencyrecord r set owner_id = %(user)s
where brand_id = %(brand)s and owner_id = %(visitor)s and not exists (
    select from accounts_idempotencyrecord o
    where o.brand_id = r.brand_id and o.owner_id = %(user)s and o.route = r.route and o.key = r.key)
"""


# Of agents' visitors on other sites the agents' own rule says how long they are known.
FORGET = """
with expired as (delete from conversations_pendingmessage where expires_at < %(now)s)
delete from accounts_visitor v
where v.agent_id is null and v.last_seen_at < %(now)s - interval '24 hours'
      and not exists (select from conversations_conversation c where c.brand_id = v.brand_id and c.owner_id = v.id)
      and not exists (select from conversations_pendingmessage p
                      where p.brand_id = v.brand_id and p.owner_id = v.id and p.expires_at >= %(now)s)
returning v.id
"""


def keep(principal: Principal, question: Question) -> PendingMessage:
    """Keep what a visitor wanted to ask, in place of what they wanted to ask in that chat before. In no scope.

    Raises  NotFound when the visitor has just become a member
    """
    with opening(principal, (HERE, {"owner": principal.owner_id})) as (here,):
        if not here:
            raise NotFound(_("Your chats have gone over to your account. Sign in to go on."))
        chat = question.conversation_id
        if question.branch:
            edited = Message.objects.filter(pk=question.branch.message_id, owner_id=principal.owner_id)
            chat = edited.values_list("conversation_id", flat=True).get()
        _of_chat(principal, chat).delete()
        return PendingMessage.objects.create(
            brand_id=principal.brand_id,
            owner_id=principal.owner_id,
            text=question.text,
            conversation_id=chat,
            provider_id=question.model,
            system_prompt_id=question.prompt_id,
            asked=_beside(question),
            expires_at=clock.now() + KEPT_FOR,
        )


def lay_aside(principal: Principal, conversation_id: UUID, text: str) -> None:
    """Put what a member wrote elsewhere into the composer of one of their chats; only they send it. In no scope."""
    with scope(SERVICE):
        PendingMessage.objects.create(
            brand_id=principal.brand_id,
            owner_id=principal.owner_id,
            text=text,
            conversation_id=conversation_id,
            returned_at=Now(),
            expires_at=clock.now() + KEPT_FOR,
        )


def drop(principal: Principal, question: Question) -> None:
    """The visitor asked after all, so what waits in this chat is over; an edit ends only another edit's wait. In no scope."""
    with scope(principal):
        if question.branch:
            _of(principal).filter(sent_at=None, asked__edits=str(question.branch.message_id)).delete()
        else:
            _of_chat(principal, question.conversation_id).delete()


def adopt(brand_id: UUID, visitor_id: UUID, user_id: UUID) -> bool:
    """Give all that a visitor has to a member of the brand, whose standing the caller has proved. In no scope.

    Returns  False when there is nothing to give (any more); a repeat changes nothing
    """
    names = {"brand": brand_id, "visitor": visitor_id, "user": user_id}
    with opening(SERVICE, (LEAVE, names)) as (left,):
        if not left:
            return False
        send((CHATS, names), (STILL, names), (ADOPT, names), (ADOPT_PENDING, names), (ADOPT_KEYS, names))
        stream.publish(
            brand_id,
            "visitor.adopted",
            subject=("visitor", visitor_id),
            owner_id=user_id,
            data={"user_id": str(user_id)},
        )
        return True


def newest(principal: Principal) -> PendingMessage | None:
    """What is to be sent, or was sent last, for a member who has just come in. In the member's scope."""
    return _of(principal).filter(returned_at=None).order_by("-id").first()


def waiting(principal: Principal, conversation_id: UUID | None) -> PendingMessage | None:
    """What belongs into the composer of this chat: it was not sent. In its owner's scope."""
    return _of_chat(principal, conversation_id).order_by("-id").first()


def question_of(pending: PendingMessage) -> Question:
    edited = pending.asked.get("edits")
    return Question(
        text=pending.text,
        conversation_id=None if edited else pending.conversation_id,
        model=pending.provider_id,
        prompt_id=pending.system_prompt_id,
        branch=Branch(Branch.EDIT, UUID(edited)) if edited else None,
        settings=pending.asked.get("settings", {}),
        own_prompt=pending.asked.get("own_prompt", ""),
        about=Context(**pending.asked.get("about", {})),
    )


def shown(pending: PendingMessage) -> dict[str, Any]:
    """How the composer of its chat begins."""
    if pending.conversation_id:
        return {"draft": pending.text}
    asked = question_of(pending)
    given = {**asked.settings, "system_prompt": asked.own_prompt}
    about = {"about": asked.about} if asked.about else {}
    return {"draft": pending.text, "tuning": tuning.sent(given), **about}


def _beside(question: Question) -> dict[str, Any]:
    """Of a question what has no column: the message it edits, or what belongs to a chat that is new."""
    found: dict[str, Any] = {
        "edits": question.branch and str(question.branch.message_id),
        "settings": dict(question.settings),
        "own_prompt": question.own_prompt,
        "about": question.about and asdict(question.about),
    }
    return {name: value for name, value in found.items() if value}


def key_of(pending: PendingMessage) -> str:
    return f"{KEY}{pending.pk}"


def sent(principal: Principal, key: str, conversation_id: UUID | None) -> None:
    """Its turn is stored. The row stays, so that whoever comes second is led to the same chat. In no scope."""
    try:
        pending_id = UUID(key.removeprefix(KEY))
    except ValueError:
        return
    with scope(principal):
        unsent = PendingMessage.objects.filter(pk=pending_id, owner_id=principal.owner_id, sent_at=None)
        unsent.update(sent_at=Now(), text="", asked={}, conversation_id=conversation_id)
        _return_older(principal, pending_id)


def give_back(principal: Principal, pending: PendingMessage, refused: DomainError) -> UUID | None:
    """It was refused, so its text goes back into the composer, and only its author sends it now. In no scope.

    Returns  the chat in whose composer it is; None = a new one's, also when its own is gone
    """
    chat = None if isinstance(refused, NotFound) else pending.conversation_id
    with scope(principal):
        unsent = PendingMessage.objects.filter(pk=pending.pk, sent_at=None)
        unsent.update(returned_at=Now(), conversation_id=chat)
        _return_older(principal, pending.pk)
    return chat


def _return_older(principal: Principal, pending_id: UUID) -> None:
    """What met the limit before it, in other chats, is nothing that anybody waits for: it is a draft from now on."""
    _of(principal).filter(pk__lt=pending_id, sent_at=None, returned_at=None).update(returned_at=Now())


def is_to_send(brand_id: UUID, user_id: UUID) -> bool:
    """Whether something waits for this member to come in: they confirmed their address on another device."""
    with scope(SERVICE):
        return _of(Principal("app_user", brand_id, user_id)).filter(returned_at=None, sent_at=None).exists()


def forget(now: datetime | None = None) -> int:
    """Delete messages that waited too long, and visitors of whom nothing is left. Returns how many of these. Safe to repeat.

    What a visitor has asked stays in the ledger, and counts again when the same cookie comes back.
    """
    with opening(SERVICE, (FORGET, {"now": now or clock.now()})) as (gone,):
        return len(gone)


def _of(principal: Principal) -> QuerySet[PendingMessage]:
    return PendingMessage.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, expires_at__gt=clock.now()
    )


def _of_chat(principal: Principal, conversation_id: UUID | None) -> QuerySet[PendingMessage]:
    here = Q(conversation_id=conversation_id) if conversation_id else Q(conversation_id=None)
    return _of(principal).filter(here, sent_at=None)
