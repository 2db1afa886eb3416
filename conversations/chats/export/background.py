"""Exports that are too much for one answer: made part by part in the background, kept for a day.

Each part is drawn by whoever comes first and taken over by one conditional UPDATE, so a task that is killed, repeated or
done twice costs time and nothing else. Whose export it is, is proved anew for every part: a member who is removed takes
nothing more home.
"""

import tempfile
from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.conf import settings
from django.db.models import Q
from django.urls import reverse
from django.utils import translation
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import Brand, Profile
from conversations.chats.export import packing
from conversations.chats.export.chats import collected
from conversations.models import UNDER_WAY, Conversation, Export
from events import activity, notices
from lib import clock, files
from lib.db import SERVICE, Principal, scope
from lib.errors import Conflict, NotFound

AT_ONCE = 25  # chats of one part
KEPT, SPARE = timedelta(hours=24), timedelta(hours=1)
STALLED, GIVEN_UP = timedelta(minutes=6), timedelta(minutes=10)  # without coming on
REMEMBERED = timedelta(days=30)  # that there was one
MOST_UNDER_WAY = 3

Besides = Callable[[Principal, Brand], Iterable[packing.Document]]
# What rooms above this one add to "all my data"; each opens the person's own scope.
besides: list[Besides] = []


class TooManyExports(Conflict):
    says = gettext_lazy("Three of your exports are being made already. Wait for one of them, or cancel it.")
    code = "too_many_exports"


def ask(principal: Principal, kind: str, form: str, ids: list[UUID]) -> Export:
    """Begin an export, in the principal's scope. The caller queues go_on() with its commit. Raises TooManyExports"""
    own = Export.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    if own.filter(state__in=UNDER_WAY).count() >= MOST_UNDER_WAY:
        raise TooManyExports
    made = Export.objects.create(
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        kind=kind,
        form=form,
        chats=ids,
        total=len(ids),
        moved_at=clock.now(),
    )
    record_export(principal, "data" if kind == Export.Kind.EVERYTHING else "chats", form, len(ids), made.pk)
    return made


def record_export(principal: Principal, what: str, form: str, count: int, export_id: UUID | None = None) -> None:
    """In the audit log, whichever way chats go home. In the principal's scope."""
    activity.record(
        principal.brand_id,
        f"{what}.exported",
        actor_id=principal.owner_id,
        resource=("export", export_id),
        changes={"form": form, "chats": count},
    )


def ask_for_everything(principal: Principal) -> Export:
    """All chats, those in the bin too, and what the other rooms know of this person. In the principal's scope."""
    own = Conversation.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    ids = list(own.order_by("id").values_list("pk", flat=True))
    return ask(principal, Export.Kind.EVERYTHING, Export.Form.JSON, ids)


def go_on(export_id: UUID) -> bool:
    """Make the next part, or the whole of all parts. True: there is more to do. Outside of any scope."""
    with scope(SERVICE):
        export = Export.objects.select_related("brand").filter(pk=export_id, state__in=UNDER_WAY).first()
    if export is None:
        return False
    principal = Principal("app_user", export.brand_id, export.owner_id)
    try:
        with scope(principal):
            language = Profile.objects.filter(user_id=principal.owner_id).values_list("language", flat=True).first()
    except NotFound:
        _end(export, Export.State.FAILED, error=_("You are no member here any more."))
        return False
    with translation.override(language or settings.LANGUAGE_CODE):
        if export.done < export.total:
            return _make_part(export, principal)
        _make_whole(export, principal)
        return False


def _make_part(export: Export, principal: Principal) -> bool:
    ids = export.chats[export.done : export.done + AT_ONCE]
    with scope(principal):
        chats = list(collected(principal, ids, with_bin=export.kind == Export.Kind.EVERYTHING))
    with tempfile.TemporaryFile(dir=_room()) as file:
        packing.packed(packing.written(chats, export.brand, export.form), file)
        file.seek(0)
        key = files.save(export.brand_id, "export", "part.zip", file)
    with scope(SERVICE):
        mine = Export.objects.filter(pk=export.pk, state__in=UNDER_WAY, done=export.done)
        is_mine = mine.update(
            state=Export.State.RUNNING, done=export.done + len(ids), parts=[*export.parts, key], moved_at=clock.now()
        )
    if not is_mine:
        files.delete(key, brand_id=export.brand_id)
    return bool(is_mine)


def _make_whole(export: Export, principal: Principal) -> None:
    with tempfile.TemporaryFile(dir=_room()) as file:
        packer = packing.Packer(file)
        is_everything = export.kind == Export.Kind.EVERYTHING
        for part in export.parts:
            with files.open(part, brand_id=export.brand_id) as opened:
                for document in packing.unpacked(opened):
                    packer.add(*document, below="chats/" if is_everything else "")
        if is_everything:
            for add in besides:
                for document in add(principal, export.brand):
                    packer.add(*document)
        packer.close()
        size = file.tell()
        file.seek(0)
        key = files.save(export.brand_id, "export", "whole.zip", file)
    if not _end(export, Export.State.DONE, file_key=key, size_bytes=size):
        files.delete(key, brand_id=export.brand_id)


def cancel(principal: Principal, export_id: UUID) -> bool:
    """Stop an export of the principal's. Returns whether it was under way. Outside of any scope."""
    with scope(SERVICE):
        own = Export.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
        found = own.filter(pk=export_id, state__in=UNDER_WAY).first()
    return found is not None and _end(found, Export.State.CANCELLED)


def file_name(export: Export) -> str:
    kind = "all my data" if export.kind == Export.Kind.EVERYTHING else "chats"
    return files.safe_name(f"{export.brand.name} {kind} {export.created_at:%Y-%m-%d}", ".zip")


def tend(now: datetime | None = None) -> tuple[list[UUID], int]:
    """Which exports somebody has to go on with; end those that do not come on, forget those whose day is over.

    Returns their ids, and how many were ended or forgotten.
    """
    now = now or clock.now()
    with scope(SERVICE):
        stalled = list(Export.objects.filter(state__in=UNDER_WAY, moved_at__lt=now - STALLED))
        over = list(Export.objects.filter(expires_at__lt=now).exclude(file_key="")[:500])
    lost = [row for row in stalled if row.state == Export.State.RUNNING and row.moved_at < now - GIVEN_UP]
    for row in lost:
        _end(row, Export.State.FAILED, error=_("It did not come on for ten minutes. Please begin it again."))
    for row in over:
        files.delete(row.file_key, brand_id=row.brand_id)
        with scope(SERVICE):
            Export.objects.filter(pk=row.pk).update(file_key="", expires_at=None)
    with scope(SERVICE):
        Export.objects.filter(Q(ended_at__lt=now - REMEMBERED), file_key="").delete()
    return [row.pk for row in stalled if row not in lost], len(lost) + len(over)


def forget_lost_files(now: datetime | None = None) -> int:
    """Delete files older than any download may be: what a crash, or somebody who was erased, left without a row."""
    now = now or clock.now()
    lost = [key for key in files.stored("export") if files.stored_at(key) < now - KEPT - SPARE]
    for key in lost:
        files.delete(key, brand_id=UUID(key.partition("/")[0]))
    return len(lost)


def _end(export: Export, state: str, *, file_key: str = "", size_bytes: int = 0, error: str = "") -> bool:
    """The only way an export ends, once. Its parts go with it, and its person is told."""
    now = clock.now()
    with scope(SERVICE):
        ended = Export.objects.filter(pk=export.pk, state__in=UNDER_WAY)
        if state == Export.State.DONE:
            ended = ended.filter(done=export.total)
        values = {"state": state, "error": error, "file_key": file_key, "size_bytes": size_bytes, "ended_at": now}
        if not ended.update(**values, parts=[], moved_at=now, expires_at=now + KEPT if file_key else None):
            return False
        if state != Export.State.CANCELLED:
            _tell(export, state, error)
    for part in export.parts:
        files.delete(part, brand_id=export.brand_id)
    return True


def _tell(export: Export, state: str, error: str) -> None:
    if state == Export.State.DONE:
        many = ngettext("%(n)d chat is ready.", "%(n)d chats are ready.", export.total) % {"n": export.total}
        notices.tell(
            export.brand_id,
            export.owner_id,
            notices.Type.SYSTEM,
            title=_("Your export is ready"),
            message=many + " " + _("It can be downloaded for 24 hours."),
            action_url=reverse("conversations:your-data") + "#exports",
            action_label=_("To the download"),
            priority=notices.Priority.NORMAL,
            once=f"export:{export.pk}",
        )
    else:
        notices.tell(
            export.brand_id,
            export.owner_id,
            notices.Type.SYSTEM,
            title=_("Your export was not made"),
            message=error,
            action_url=reverse("conversations:your-data") + "#exports",
            action_label=_("Begin it again"),
            priority=notices.Priority.NORMAL,
            once=f"export:{export.pk}",
        )


def _room() -> str | None:
    """Where a file may grow: /tmp is often memory."""
    if settings.FILES_STORAGE:
        return None
    Path(settings.FILES_DIR).mkdir(parents=True, exist_ok=True)
    return str(settings.FILES_DIR)
