from threading import BoundedSemaphore
from typing import Any
from uuid import UUID

from celery import shared_task
from django.core.cache import cache

from conversations.chats import pending, retention, titles, withdrawing
from conversations.chats.export import background
from conversations.engine import attachments, reaper
from lib import clock

RAN_AT = "reaper-ran-at"  # in the cache: proof that beat queues and a worker works, for manage.py check_deployment
READERS = BoundedSemaphore(2)  # of files in one worker, whose other threads end turns and send mail meanwhile
READ_AGAIN_S = 1.0


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction of its own for each turn
def reap_turns() -> int:
    """End turns whose process died. Returns how many."""
    ended = reaper.reap()
    cache.set(RAN_AT, clock.now(), timeout=None)
    return ended


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each batch, not one for all
def cleanup_expired_conversations() -> int:
    """Delete the chats whose time was over at the last 02:00 of their brand. Returns how many.

    And the visitors who have none any more.
    """
    swept = sum(counts.total() - counts["failed"] for counts in retention.sweep().values())
    pending.forget()
    return swept


@shared_task(scoped=False, bind=True)  # type: ignore[call-overload]  # no transaction is open while a file is read
def read_attachment(self: Any, attachment_id: str) -> bool:
    """Read one file that somebody attached. One that is read, being read or removed is left alone."""
    if READERS.acquire(blocking=self.request.is_eager):
        try:
            return attachments.read(UUID(attachment_id))
        except attachments.Later:
            pass
        finally:
            READERS.release()
    if not self.request.is_eager:  # else sweep_attachments() comes back to it
        self.apply_async((attachment_id,), countdown=READ_AGAIN_S)
    return False


@shared_task(scoped=False)  # type: ignore[call-overload]  # no transaction is open while a model is asked
def better_title(conversation_id: str) -> bool:
    """Try once to give a chat a better title than its first words."""
    return titles.improve(UUID(conversation_id))


@shared_task(periodic=True)  # type: ignore[call-overload]
def forget_deleted_messages() -> int:
    """Forget for good what was deleted a minute ago. Returns how many messages."""
    return withdrawing.forget()


@shared_task(periodic=True)  # type: ignore[call-overload]
def sweep_attachments() -> int:
    """Forget files that went with no question, and queue again what nobody reads. Returns how many were queued."""
    waiting = attachments.sweep()
    for attachment_id in waiting:
        read_attachment.delay_on_commit(str(attachment_id))
    return len(waiting)


@shared_task(scoped=False)  # type: ignore[call-overload]  # each part has transactions of its own
def go_on_with_export(export_id: str) -> None:
    """Make the next part of an export, and leave the rest to a next task: between two parts others have their turn."""
    if background.go_on(UUID(export_id)):
        go_on_with_export.delay(export_id)


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each
def tend_exports() -> int:
    """Go on with exports that nobody makes, and forget those whose day is over. Returns how many."""
    waiting, ended = background.tend()
    for export_id in waiting:
        go_on_with_export.apply_async([str(export_id)], expires=60)
    return len(waiting) + ended


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # files alone
def forget_lost_exports() -> int:
    """Delete files of exports that no row knows of. Returns how many."""
    return background.forget_lost_files()
