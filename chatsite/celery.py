"""Background work. Every task runs on the `service` alias, inside the service scope unless it says otherwise."""

import os
from functools import partial
from typing import Any

from celery import Celery
from celery.contrib.django.task import DjangoTask

from lib.db import SERVICE, on, on_commit, scope

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")


class SiteTask(DjangoTask):
    """`scoped = False` for what calls the network: it opens short scopes itself."""

    abstract = True
    scoped = True

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        with on("service"):
            if not self.scoped:
                return super().__call__(*args, **kwargs)
            with scope(SERVICE):
                return super().__call__(*args, **kwargs)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:  # type: ignore[override]
        """After the commit of the open transaction, whichever alias it is on: the stock one looks at `default` only."""
        on_commit(partial(self.delay, *args, **kwargs))


app = Celery("chatsite", task_cls=SiteTask)
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks()
