"""The product's settings, on test databases, with nothing faked but the way mail goes out."""

import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

os.environ.setdefault("DEVELOPMENT", "1")
for name in (
    *("OPENAI_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_API_KEY", "ANTHROPIC_BASE_URL", "OPENROUTER_API_KEY"),
    *("STRIPE_SECRET_KEY", "STRIPE_WEBHOOK_SECRET", "STRIPE_STAND_IN"),
):
    os.environ.pop(name, None)  # a test never calls a real vendor

for name in ("GOOGLE", "GITHUB"):
    os.environ.update({f"{name}_CLIENT_ID": "test-client", f"{name}_CLIENT_SECRET": f"canary{name}5ecret0fOAuth"})

from chatsite.settings import *  # noqa: E402, F403
from chatsite.settings import DATABASES, REDIS_URL, STORAGES, VAR_DIR, env  # noqa: E402
from tests import canaries  # noqa: E402

canaries.listen()

for name in ("default", "service"):
    DATABASES[name]["OPTIONS"] = {}
    DATABASES[name]["TEST"] = {"MIRROR": "owner"}
# Two runs on one server get in each other's way unless each names its own database.
DATABASES["owner"]["TEST"] = {"DEPENDENCIES": [], "NAME": os.environ.get("TEST_DB_NAME")}
# What a worker counts, queues and notes is its own, and that of the processes it starts. Two tests take /7 and /9.
_worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
REDIS_URL = urlsplit(REDIS_URL)._replace(path=f"/{1 + _worker % 6}").geturl()
CELERY_BROKER_URL = os.environ["REDIS_URL"] = REDIS_URL
TESTER = env.db_url("DATABASE_TESTER_URL", default="postgres://nobody@127.0.0.1:1/unset")
files: Any = STORAGES["files"]
files["OPTIONS"]["location"] = str(Path(VAR_DIR) / "files-of-tests")
EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}}
CELERY_TASK_ALWAYS_EAGER = True
DEMO_TOKENS_PER_SECOND = 0
TITLE_TOKENS = 0  # who asks a vendor counts its calls; the titles' own test sets it
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
ACCOUNT_RATE_LIMITS = False
FAILED_KEYS_PER_MINUTE = 10**9  # the grid comes with wrong keys all the time; the limit's own test sets it
CONCURRENT_TURNS = {"member": 1000, "brand": 10_000}  # a crowd in a test is one person; the caps' own tests set theirs
