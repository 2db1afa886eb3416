"""The product's settings for a worker under test: the tests' database, and no patience."""

import os

os.environ.setdefault("DEVELOPMENT", "1")

from chatsite import celery
from chatsite.settings import *  # noqa: F403
from chatsite.settings import CELERY_BEAT_SCHEDULE, CELERY_BROKER_TRANSPORT_OPTIONS, DATABASES
from tests import canaries

canaries.listen()
for _login in DATABASES.values():
    _login["NAME"] = os.environ["LIVE_DB"]
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CELERY_BROKER_TRANSPORT_OPTIONS = {
    **CELERY_BROKER_TRANSPORT_OPTIONS,
    "visibility_timeout": 2,
    "unacked_restore_interval": 1,  # looked for every second; else every hundred
    "unacked_restore_throttle": 1,
}
CELERY_BEAT_SCHEDULE = {
    name: {**entry, "schedule": 1.0} for name, entry in CELERY_BEAT_SCHEDULE.items() if name == "look-around"
}
celery.MOST_RETRIES, celery.PAUSE_S, celery.MOST_DELIVERIES = 2, 0.2, 2
