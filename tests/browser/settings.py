"""The web process's settings for journeys: as for the engine's tests, with mail that the test can open."""

import os
import sys

from tests.conversations.settings import *  # noqa: F403

EMAIL_BACKEND = "django.core.mail.backends.filebased.EmailBackend"
EMAIL_FILE_PATH = os.environ["MAIL_DIR"]
ACCOUNT_EMAIL_VERIFICATION = os.environ.get("EMAIL_VERIFICATION", "optional")
CELERY_TASK_ALWAYS_EAGER = True  # no worker runs beside it
# The stand-in for Stripe tells this very process, whose port only its command line knows.
STRIPE_STAND_IN_WEBHOOK = f"http://127.0.0.1:{sys.argv[sys.argv.index('--port') + 1]}/stripe/webhook/"
