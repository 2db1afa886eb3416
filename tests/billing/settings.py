"""The product's settings for processes under test: the tests' database, and no queue behind it."""

import os

os.environ.setdefault("DEVELOPMENT", "1")

from chatsite.settings import *  # noqa: F403
from chatsite.settings import DATABASES
from tests import canaries

canaries.listen()
for _login in DATABASES.values():
    _login["NAME"] = os.environ["LIVE_DB"]
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CELERY_BROKER_URL = "memory://"  # what is queued waits for nobody: these tests act on it themselves
