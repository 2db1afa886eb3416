"""The product's settings for a web process under test: its own database, and limits that a test can wait for."""

import json
import os

os.environ.setdefault("DEVELOPMENT", "1")

from chatsite.settings import *  # noqa: F403
from chatsite.settings import DATABASES, OWN_KEY_HOMES, PROVIDER_BREAKER, TURN_LOST_AFTER_S
from tests import canaries

canaries.listen()
for _login in DATABASES.values():
    _login["NAME"] = os.environ["LIVE_DB"]
# A crowd in a test is one person; the caps' own tests push theirs down.
CONCURRENT_TURNS = {"member": 1000, "brand": 10_000}
# Who asks a vendor counts its calls; the titles' own test sets it, in a process that is its own worker.
TITLE_TOKENS = int(os.environ.get("TITLE_TOKENS", "0"))
CELERY_TASK_ALWAYS_EAGER = bool(TITLE_TOKENS)
CHECKPOINT_EVERY_S = float(os.environ.get("CHECKPOINT_EVERY_S", "1"))
# What a busy machine takes for a first word; models that hang are waited for as long.
PROVIDER_LIMITS = {"connect_s": 5.0, "first_token_s": 5.0, "idle_s": 5.0, "total_s": 60.0}
PROVIDER_LIMITS |= json.loads(os.environ.get("LIMITS", "{}"))
# Members' own keys go to the test upstream, where it plays their vendor, and nowhere else.
OWN_KEY_HOMES = json.loads(os.environ.get("OWN_KEY_HOMES", "{}")) or OWN_KEY_HOMES
# Tests share a process and ask models that fail on purpose: whoever tests the breaker starts one of their own.
PROVIDER_BREAKER = {**PROVIDER_BREAKER, "failures": 10_000, "longest_busy_s": 0.0}
PROVIDER_BREAKER |= json.loads(os.environ.get("BREAKER", "{}"))
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ACCOUNT_RATE_LIMITS = False
FAILED_KEYS_PER_MINUTE = 10**9  # all come from one network; the limit's own test asks no process
TURN_LOST_AFTER_S = float(os.environ.get("TURN_LOST_AFTER_S", TURN_LOST_AFTER_S))
if _shift := os.environ.get("CLOCK_SHIFT_S"):  # this machine's clock is off, and nobody tells the process
    import time
    from datetime import UTC, datetime

    import time_machine

    time_machine.travel(datetime.fromtimestamp(time.time() + float(_shift), UTC), tick=True).start()
