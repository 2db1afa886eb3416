"""Background work. Every task runs on the `service` alias, inside the service scope unless it says otherwise.

A task is an id and one call that is safe to repeat, because it is repeated: after an error with growing pauses, after the
death of its worker when the queue misses the answer. What fails every time becomes a dead letter, and the others go on.
"""

import logging
import os
from functools import partial
from time import monotonic
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask
from celery.signals import setup_logging
from django.core.cache import cache
from kombu.exceptions import OperationalError as QueueAway

from lib.db import SERVICE, database_is_away, on, on_commit, scope
from lib.logs import request_id

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

MOST_RETRIES = 4
PAUSE_S, LONGEST_PAUSE_S, AWAY_PAUSE_S = 2.0, 60.0, 15.0
MOST_DELIVERIES = 3  # of a task whose worker dies each time
log = logging.getLogger(__name__)


class SiteTask(DjangoTask):
    """`scoped = False` for what calls the network: it opens short scopes itself.

    `periodic = True` for what beat sends: its next turn is its repeat, so it is neither retried nor laid down.
    """

    abstract = True
    scoped = True
    periodic = False
    max_retries = None  # counted here: a database that is away is nobody's fault, and outlasts any number

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.request.called_directly or self.request.is_eager or self.periodic:
            return self.work(*args, **kwargs)
        if self._kills_its_workers():
            self._lay_down(args, kwargs, "killed", None)
            return None
        try:
            return self.work(*args, **kwargs)
        except Exception as error:
            if database_is_away(error):
                raise self.retry(exc=error, countdown=AWAY_PAUSE_S) from error
            if self.request.retries >= MOST_RETRIES:
                self._lay_down(args, kwargs, "failed", error)
                raise
            log.warning("task failed and will be repeated", exc_info=True, extra={"task": self.name})
            pause_s = min(PAUSE_S * 2**self.request.retries, LONGEST_PAUSE_S)
            raise self.retry(exc=error, countdown=pause_s) from error

    def work(self, *args: Any, **kwargs: Any) -> Any:
        with on("service"):
            if not self.scoped:
                return super().__call__(*args, **kwargs)
            with scope(SERVICE):
                return super().__call__(*args, **kwargs)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:  # type: ignore[override]
        """Queue it, with the id of the request or task that wants it. While the queue is away it is kept and sent later."""
        headers = {**(options.pop("headers", None) or {}), "request_id": request_id.get()}
        try:
            return super().apply_async(args, kwargs, headers=headers, **options)
        except QueueAway as error:
            if self.periodic:
                raise
            self._lay_down(args or (), kwargs or {}, "unsent", error)
            return None

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """After the commit of the open transaction, whichever alias it is on: the stock one looks at `default` only."""
        on_commit(partial(self.delay, *args, **kwargs))

    def before_start(self, task_id: str, args: Any, kwargs: Any) -> None:
        self.request.began_at = monotonic()  # type: ignore[attr-defined]
        request_id.set(self.request.get("request_id") or task_id)

    def after_return(self, status: str, retval: Any, task_id: str, args: Any, kwargs: Any, einfo: Any) -> None:
        ms = round((monotonic() - self.request.get("began_at", monotonic())) * 1000)
        level = logging.DEBUG if self.periodic and status == "SUCCESS" else logging.INFO
        log.log(level, "task", extra={"task": self.name, "task_id": task_id, "outcome": status.lower(), "ms": ms})
        request_id.set("")  # the thread goes on to the next task

    def _kills_its_workers(self) -> bool:
        """It comes back when a worker died with it; that may have been chance, three times in a row is not."""
        if not (self.request.delivery_info or {}).get("redelivered"):
            return False
        key = f"deliveries:{self.request.id}"
        cache.add(key, 0, timeout=24 * 3600)
        try:
            return cache.incr(key) >= MOST_DELIVERIES
        except ValueError:  # Redis came or went between the two: this delivery is all we know of
            return False

    def _lay_down(self, args: Any, kwargs: Any, reason: str, error: BaseException | None) -> None:
        from events import dead_letters  # the app is made before there are models

        assert self.name is not None
        dead_letters.lay_down(self.name, args, kwargs, reason=reason, error=error, task_id=self.request.id)


@setup_logging.connect
def keep_our_logging(**_: Any) -> None:
    """Celery would set up its own; settings.LOGGING is in force since Django was."""


app = Celery("chatsite", task_cls=SiteTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
