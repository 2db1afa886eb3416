"""The web process's settings for journeys: as for the engine's tests, with mail that the test can open."""

import os

from tests.conversations.settings import *  # noqa: F403

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ["MAIL_DIR"]
CELERY_TASK_ALWAYS_EAGER = True  # no worker runs beside it
