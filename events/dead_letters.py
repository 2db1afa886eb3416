"""Tasks that could not be done. Each lies here until it is sent again: by itself if the queue was away, else by staff."""

import logging
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from celery import current_app

from events.models import DeadLetter
from lib import clock
from lib.db import SERVICE, scope
from lib.logs import blotted, described, request_id

AT_A_TIME = 500
log = logging.getLogger(__name__)


def lay_down(
    task: str,
    args: Sequence[Any],
    kwargs: Mapping[str, Any],
    *,
    reason: str,
    error: BaseException | None = None,
    task_id: str | None = None,
) -> DeadLetter:
    """Keep a task that will not be done by itself; one that was delivered twice lies here once.

    args, kwargs  ids, never content: staff see them
    """
    letter = DeadLetter(
        task=task,
        args=list(args),
        kwargs=dict(kwargs),
        request_id=request_id.get(),
        reason=reason,
        error=blotted(f"{type(error).__name__}: {described(error)}")[:500] if error else "",
    )
    if task_id:
        letter.pk = UUID(task_id)
    with scope(SERVICE):
        DeadLetter.objects.bulk_create([letter], ignore_conflicts=True)
    log.error("dead letter", extra={"task": task, "reason": reason})
    return letter


def send_again(letter: DeadLetter) -> bool:
    """Queue it once more, under the id of the request that began it. False = somebody did already."""
    with scope(SERVICE):
        mine = DeadLetter.objects.select_for_update().filter(pk=letter.pk, sent_again_at=None)
        if not mine.exists():
            return False
        headers = {"request_id": letter.request_id}
        current_app.send_task(letter.task, letter.args, letter.kwargs, headers=headers)  # raises: then it stays
        mine.update(sent_again_at=clock.now())
    return True


def send_unsent() -> int:
    """Queue what could not be queued while the broker was away. Returns how many."""
    with scope(SERVICE):
        unsent = DeadLetter.objects.filter(reason=DeadLetter.Reason.UNSENT, sent_again_at=None)
        letters = list(unsent.order_by("created_at")[:AT_A_TIME])
    return sum(send_again(letter) for letter in letters)


def lying() -> int:
    """How many wait for staff."""
    with scope(SERVICE):
        return DeadLetter.objects.filter(sent_again_at=None).exclude(reason=DeadLetter.Reason.UNSENT).count()
