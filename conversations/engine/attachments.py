"""Files on their way to a question: taken in, read in the background, handed over when the question is asked.

Bytes stand in the row until they are read, so a file and what is known of it come and go in one transaction, and any worker
can read it. What a question took along is the message's own; a file that goes with none is forgotten after a day.
"""

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Q
from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts import idempotency
from conversations.errors import TooLong
from conversations.models import Attachment, Conversation
from knowledge import kinds
from knowledge.extract import Extracted, extract
from knowledge.kinds import Unreadable
from lib import clock
from lib.db import Principal, Statement, opening, serve
from lib.errors import Conflict, Forbidden, NotFound, TooLarge

MOST_FILES = 10  # with one question
MOST_BYTES = 10 * 1024**2  # of one file
MOST_UNSENT = 30  # of one person, in all their chats
MOST_READ = 3  # of one person, at a time
KEPT = timedelta(hours=24)
SILENT = timedelta(seconds=90)  # longer than one file is ever read: who read it is dead, or nobody heard of it
GIVEN_UP = timedelta(minutes=10)
TELL_EVERY_S = 0.7
BYTES_PER_TOKEN = 3  # of tables and numbers; prose has more
LEAST_BYTES = 400  # of each file, or the question is too long
State = Attachment.State
UNREAD = (State.WAITING, State.READING)
LIGHT = ("id", "conversation_id", "name", "kind", "size_bytes", "state", "pages", "pages_read", "error", "is_cut")

# One after the other for each person, so that the next statement counts what the one before it began.
ALONE = (
    "select pg_advisory_xact_lock(hashtextextended(owner_id::text, 0)) from conversations_attachment where id = %(id)s"
)
# Who has many files leaves room for others: so many at a time, and no second one while somebody waits for their first.
CLAIM = """
with living as (
    select owner_id, state from conversations_attachment
    where state in ('reading', 'waiting') and changed_at > now() - %(silent)s
), busy as (
    select owner_id, count(*) as files from living where state = 'reading' group by owner_id
)
update conversations_attachment a
set state = case when coalesce((select files from busy where owner_id = a.owner_id), 0) < case
                     when exists (select from living l where l.state = 'waiting' and l.owner_id <> a.owner_id
                                  and not exists (select from busy where owner_id = l.owner_id)) then 1
                     else %(most)s end
                 then 'reading' else 'waiting' end,
    changed_at = now(), pages_read = 0
where a.id = %(id)s and a.state = 'waiting'
returning a.state, a.name, case when a.state = 'reading' then a.content end as content
"""
PROGRESS = """
update conversations_attachment set pages_read = %(page)s, pages = %(pages)s, changed_at = now()
where id = %(id)s and state = 'reading'
returning id
"""
READ = """
update conversations_attachment
set state = %(state)s, content = null, text = %(text)s, is_cut = %(is_cut)s, error = %(error)s, changed_at = now(),
    pages = coalesce(%(pages)s, pages), pages_read = coalesce(%(pages)s, pages_read)
where id = %(id)s and state = 'reading'
"""
# What goes with a question, in the order in which it was attached: one more statement of the load.
LOAD_FILES = """
select id, name, kind, size_bytes, pages, is_cut, text from conversations_attachment
where id = any(%(files)s) and brand_id = %(brand)s and owner_id = %(owner)s and state = 'ready' order by id
"""


class Removed(Exception):
    says = gettext_lazy("Nobody wants this file read any more.")


class Later(Exception):
    """Enough files of this person are being read, or it is somebody else's turn: ask again in a moment."""


def take(
    principal: Principal, name: str, content: bytes, *, conversation_id: UUID | None = None, key: str = ""
) -> Attachment:
    """Take a file in; whoever calls this queues its reading.

    conversation_id  the chat whose next question it is to go with; None = of a chat that is not begun
    key              the caller's Idempotency-Key; the same key gives the same file
    Raises           Unreadable, TooLarge, Forbidden, Conflict, NotFound, KeyReused; nothing is stored then
    """
    _require_member(principal)
    name = kinds.called(name)
    if len(content) > MOST_BYTES:
        raise too_large(name)
    kind = kinds.sniff(name, content)
    own = {"brand_id": principal.brand_id, "owner_id": principal.owner_id}
    with opening(principal, key=principal.owner_id):  # one after the other, so that nobody has more than they may
        claimed = None
        if key:
            asked = idempotency.fingerprint(name, conversation_id, hashlib.sha256(content).hexdigest())
            claimed, first = idempotency.claim(principal, route="attach", key=key, request_hash=asked)
            if first is not None:
                taken: Attachment | None = _own(principal).filter(pk=UUID(first["id"])).only(*LIGHT).first()
                return taken or Attachment(pk=UUID(first["id"]), name=name, size_bytes=0, state=State.READY)
        if conversation_id and not Conversation.objects.filter(pk=conversation_id, deleted_at=None, **own).exists():
            raise NotFound(_("This chat is not here (any more)."))
        unsent: list[UUID | None] = list(_own(principal).values_list("conversation_id", flat=True))
        if unsent.count(conversation_id) >= MOST_FILES or len(unsent) >= MOST_UNSENT:
            raise Conflict(_("%(most)s files are the most for one question. Remove one first.") % {"most": MOST_FILES})
        made: Attachment = Attachment.objects.create(
            **own,
            conversation_id=conversation_id,
            name=name,
            kind=kind,
            size_bytes=len(content),
            content=content,
            changed_at=clock.now(),
        )
        if claimed:
            idempotency.keep(claimed, {"id": str(made.pk)})
    return made


def _require_member(principal: Principal) -> None:
    if principal.role != "app_user":
        raise Forbidden(_("Files can be attached once you have signed up. Your text is kept."))


def too_large(name: str) -> TooLarge:
    words = _("“%(name)s” is larger than %(most)s MB. Attach the part that you need by itself.")
    return TooLarge(words % {"name": name, "most": MOST_BYTES // 1024**2})


def chips(principal: Principal, conversation_id: UUID | None) -> list[dict[str, Any]]:
    """What is to go with the next question of this chat, or of a new one, as `_chips.html` draws it."""
    return [chip(file) for file in _own(principal).filter(conversation=conversation_id).only(*LIGHT).order_by("pk")]


def one(principal: Principal, attachment_id: UUID) -> Attachment:
    """A file of the principal's that waits for its question. Raises NotFound."""
    found: Attachment | None = _own(principal).filter(pk=attachment_id).only(*LIGHT).first()
    if found is None:
        raise NotFound(_("This file is not here (any more). Attach it again; your text is kept."))
    return found


def _own(principal: Principal) -> Any:
    return Attachment.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)


def remove(principal: Principal, attachment_id: UUID) -> None:
    """Forget a file. One that is gone already is no error."""
    _own(principal).filter(pk=attachment_id).delete()


def unread(principal: Principal, ids: Iterable[UUID]) -> Attachment | None:
    """The first of these files that is still being read. Raises Unreadable for one that could not be, Forbidden."""
    _require_member(principal)
    found = list(_own(principal).filter(pk__in=ids).exclude(state=State.READY).only(*LIGHT).order_by("pk"))
    for file in found:
        if file.state == State.FAILED:
            raise Unreadable(file.error, file.name)
    return found[0] if found else None


def read(attachment_id: UUID) -> bool:
    """Read one file, in the worker; no transaction is open meanwhile. False = somebody else does, or nobody wants it.

    Raises  Later; its turn has not come
    """
    claim = {"id": attachment_id, "silent": SILENT, "most": MOST_READ}
    rows = serve((ALONE, claim), (CLAIM, claim))[1]
    if not rows:
        return False
    if rows[0].state == State.WAITING:
        raise Later
    told_at = 0.0

    def tell(page: int, pages: int) -> None:
        nonlocal told_at
        if time.monotonic() - told_at < TELL_EVERY_S:
            return
        told_at = time.monotonic()
        if not serve((PROGRESS, {"id": attachment_id, "page": page, "pages": pages}))[0]:
            raise Removed

    try:
        found, error = extract(rows[0].name, bytes(rows[0].content), tell=tell), ""
    except Unreadable as refused:
        found, error = Extracted("", None, "", False), refused.why
    except Removed:
        return False
    names = {"id": attachment_id, "state": State.FAILED if error else State.READY, "error": error}
    serve((READ, {**names, "text": found.text, "is_cut": found.is_cut, "pages": found.pages}))
    return True


def sweep() -> list[UUID]:
    """Forget what went with no question, give up what could not be read in time, and give what is to be queued again.

    In the service scope.
    """
    now = clock.now()
    Attachment.objects.filter(created_at__lt=now - KEPT).delete()
    stuck = Attachment.objects.filter(Q(state__in=UNREAD), changed_at__lt=now - SILENT)
    stuck.filter(created_at__lt=now - GIVEN_UP).update(state=State.FAILED, error="lost", content=None)
    stuck.update(state=State.WAITING, changed_at=now)
    return list(Attachment.objects.filter(state=State.WAITING, changed_at=now).values_list("pk", flat=True))


def loading(principal: Principal, ids: Sequence[UUID]) -> list[Statement]:
    """What reads the files that go with a question, beside the statement that loads its chat. Without files nothing."""
    if not ids:
        return []
    _require_member(principal)
    return [(LOAD_FILES, {"files": list(ids), "brand": principal.brand_id, "owner": principal.owner_id})]


def handed_over(files: Sequence[Any], wanted: int, room_tokens: int) -> tuple[str, list[dict[str, Any]]]:
    """What the model is given of these files, and what the message says of them.

    files   rows of LOAD_FILES; `wanted` is how many there should be
    room    what the model's window has left for them; what is too long is cut, with a word in both
    Raises  NotFound when one is gone, TooLong when there is room for none
    """
    if len(files) < wanted:
        raise NotFound(_("One of the files is not here any more. Attach it again; your text is kept."))
    shares = _shares([len(file.text.encode()) for file in files], room_tokens * BYTES_PER_TOKEN)
    mark = uuid4().hex[:12]  # that no file can know, so none can say where it ends
    parts, told = [], []
    for number, (file, share) in enumerate(zip(files, shares, strict=True), 1):
        text = file.text.encode()[:share].decode("utf-8", "ignore")
        is_cut = file.is_cut or len(text) < len(file.text)
        end = "\n[This file goes on. Only its first part fits.]" if is_cut else ""
        title = f"file {number} of {len(files)} {mark}: {file.name}" + (f", {file.pages} pages" if file.pages else "")
        parts.append(f"=== begin {title} ===\n{text}{end}\n=== end of file {number} {mark} ===")
        told.append(
            {"name": file.name, "kind": file.kind, "bytes": file.size_bytes, "pages": file.pages, "is_cut": is_cut}
        )
    return "\n\n".join(parts), told


def _shares(sizes: Sequence[int], room: int) -> list[int]:
    """The room in bytes for each: small files whole, what they leave over for the large ones, equally."""
    room -= 200 * len(sizes)  # for what stands around them
    shares, left = [0] * len(sizes), len(sizes)
    for index in sorted(range(len(sizes)), key=sizes.__getitem__):
        shares[index] = min(sizes[index], room // left)
        if shares[index] < min(LEAST_BYTES, sizes[index]):
            raise TooLong(_("This model has no room for these files. Remove one, or choose a model that reads more."))
        room, left = room - shares[index], left - 1
    return shares


def chip(file: Attachment) -> dict[str, Any]:
    """What a file says of itself beside the question; `step` is the same as a sentence of its own."""
    name, page = {"name": file.name}, {"page": file.pages_read, "pages": file.pages}
    words, step = _("Reading"), _("Reading %(name)s") % name
    if file.state == State.FAILED:
        words = step = kinds.words(file.error, file.name)
    elif file.state == State.READY:
        words = about({"pages": file.pages, "bytes": file.size_bytes, "is_cut": file.is_cut})
    elif file.pages:
        words = _("Reading page %(page)s of %(pages)s") % page
        step = _("Reading %(name)s, page %(page)s of %(pages)s") % {**name, **page}
    percent = min(100, 100 * file.pages_read // file.pages) if file.pages else 0
    return {
        "id": file.pk,
        "name": file.name,
        "state": str(file.state),
        "is_unread": file.state in UNREAD,
        "words": words,
        "step": step,
        "percent": percent,
    }


def about(file: Mapping[str, Any]) -> str:
    """What a message says of a file that went with it: its pages or its size, and whether all of it was read."""
    size = ngettext("%(pages)s page", "%(pages)s pages", file["pages"] or 0) % {"pages": file["pages"]}
    words = size if file["pages"] else filesizeformat(file["bytes"])
    return _("%(size)s, only the first part is read") % {"size": words} if file["is_cut"] else words


def brought(files: Sequence[Any]) -> list[dict[str, Any]]:
    """What a message of somebody's export says of its files, as a message of ours would. Raises TypeError, ValueError."""
    return [
        {
            "name": kinds.called(str(file["name"])),
            "kind": file["kind"] if file.get("kind") in kinds.KINDS else "text",
            "bytes": max(0, int(file.get("bytes") or 0)),
            "pages": max(0, int(file["pages"])) if file.get("pages") else None,
            "is_cut": file.get("is_cut") is True,
        }
        for file in files[:MOST_FILES]
    ]
