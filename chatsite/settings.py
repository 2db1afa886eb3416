"""One settings file. Every value that differs between machines comes from the environment; which ones, of which type and
with which default, stands in chatsite/environment.py.

`make run` writes the addresses and log-ins of its embedded servers to `var/run/env`; they are read from there, so that
`manage.py` works from a second terminal too. A variable that is set in the environment always wins.
"""

import json
from pathlib import Path
from typing import Any

from celery.schedules import crontab
from csp.constants import NONCE, NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import salted_hmac
from kombu import Queue

from chatsite import environment
from lib import logs
from lib.keyring import BadKeys, KeyRing
from providers.vendors import VENDORS

BASE_DIR = Path(__file__).resolve().parent.parent
env = environment.reader()
VAR_DIR = env.path("VAR_DIR", default=BASE_DIR / "var")()
env.read_env(Path(VAR_DIR) / "run" / "env")

DEBUG = env("DEBUG")
DEVELOPMENT = env.bool("DEVELOPMENT", default=(Path(VAR_DIR) / "run" / "env").exists())
SECRET_KEY = env("SECRET_KEY")
SECRET_KEY_FALLBACKS = env("SECRET_KEY_FALLBACKS")
if not SECRET_KEY:
    raise ImproperlyConfigured(
        "SECRET_KEY is not set. `make run` makes one; production gives its own (50+ random characters)."
    )

ALLOWED_HOSTS = env.list(
    "ALLOWED_HOSTS", default=[".localhost", "localhost", "127.0.0.1", "[::1]"] if DEVELOPMENT else []
)
CSRF_TRUSTED_ORIGINS = env("CSRF_TRUSTED_ORIGINS")
SITE_ADDRESS = f"http://{{host}}:{env.int('PORT', default=8000)}" if DEVELOPMENT else "https://{host}"  # of any brand

INSTALLED_APPS = [
    "chatsite",
    "conversations",
    "agents",
    "billing",
    "quotas",
    "providers",
    "events",
    "accounts",
    "lib",
    "chatsite.apps.Admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.humanize",
    "django.contrib.staticfiles",
    "django.contrib.postgres",
    "allauth",
    "allauth.account",
    "allauth.headless",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.usersessions",
    "csp",
]

MIDDLEWARE = [
    "chatsite.middleware.Front",
    "chatsite.middleware.Security",
    "chatsite.middleware.Static",
    "chatsite.middleware.Sessions",
    "chatsite.middleware.Common",
    "chatsite.middleware.Csrf",
    "chatsite.middleware.Authentication",
    "chatsite.middleware.Messages",
    "chatsite.middleware.FrameOptions",
    "chatsite.middleware.Csp",
    "chatsite.middleware.Language",
    "chatsite.middleware.BrandByHost",
    "allauth.account.middleware.AccountMiddleware",
]

# These three look for Django's middleware by name; ours are subclasses (tests/house/test_pages.py proves each).
SILENCED_SYSTEM_CHECKS = ["security.W001", "security.W002", "security.W003"]

ROOT_URLCONF = "chatsite.urls"
ASGI_APPLICATION = "chatsite.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "csp.context_processors.nonce",
                "chatsite.pages.brand",
                "chatsite.pages.reader",
            ],
            "builtins": ["lib.templatetags.dates"],  # its `date` in place of Django's
        },
    },
]

# Databases. Three log-ins of one database; what each may do stands in DESIGN 2 and chatsite/roles.py.

# When to give up a machine that does not answer: three seconds to connect, and about ten for a connection that is open.
UNREACHABLE = {
    "connect_timeout": 3,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 10_000,  # ms
}


def database(variable: str, **options: Any) -> dict[str, Any]:
    config = env.db_url(variable, default="postgres://nobody@127.0.0.1:1/unset", engine="lib.postgres")
    options = {**UNREACHABLE, **config.get("OPTIONS", {}), **options}
    return {**config, "ATOMIC_REQUESTS": False, "CONN_MAX_AGE": 0, "OPTIONS": options}


WEB_POOL = env("WEB_POOL")
# `reconnect_timeout`: try twice, then wait for the next who wants a connection, not for a backoff that has grown.
POOL = {"min_size": 2, "max_size": WEB_POOL, "timeout": 3, "reconnect_timeout": 1}
# One that is open, to a server that says nothing though its network lives (chatsite.asgi has less patience).
DATABASE_SILENCE_S = env.float("DATABASE_SILENCE_S", default=600.0)
# The hot path's statements are prepared once per connection; a pooler in front that keeps none needs this off.
PREPARE = 0 if env("PREPARE_STATEMENTS") else None
DATABASES = {
    "default": database("DATABASE_URL", pool=POOL, prepare_threshold=PREPARE),
    "service": database("DATABASE_SERVICE_URL", pool=POOL, prepare_threshold=PREPARE),
    "owner": database("DATABASE_OWNER_URL"),
}
if env("DATABASE_BACKUP_URL"):
    DATABASES["backup"] = database("DATABASE_BACKUP_URL")
DATABASE_ROUTERS = ["lib.db.Router"]
DB_HOPS = env("DB_HOPS")  # threads that async code reaches the database through; fewer than the pool
DB_INLINE = False  # True only in rolled-back tests: run the hop on the test's own connection
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

BACKUP_DIR = env("BACKUP_DIR")

REDIS_URL = env("REDIS_URL")
CACHES = {
    "default": {
        "BACKEND": "lib.cache.RedisElseMemory",
        "LOCATION": REDIS_URL,
        "KEY_PREFIX": "chatsite",
    }
}

CELERY_BROKER_URL = REDIS_URL
# Reading files is slow and may be given workers of its own (`-Q files`); one that is told nothing works for both.
CELERY_TASK_DEFAULT_QUEUE = "celery"
CELERY_TASK_QUEUES = [Queue("celery"), Queue("files")]
CELERY_TASK_ROUTES = {"conversations.tasks.read_attachment": {"queue": "files"}}
CELERY_TASK_IGNORE_RESULT = True
CELERY_TASK_ACKS_LATE = True  # a task whose worker dies comes back
CELERY_WORKER_PREFETCH_MULTIPLIER = 1  # and takes few others with it
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_CONNECTION_MAX_RETRIES = None  # a worker waits for its queue as long as it takes
# Whoever queues something waits 5 s at most for a queue that does not answer (SiteTask.apply_async keeps it then).
CELERY_TASK_PUBLISH_RETRY_POLICY = {"max_retries": 1, "interval_start": 0, "interval_max": 0}
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 1,
    "socket_timeout": 5,
    "visibility_timeout": 15 * 60,  # seconds after which a task that nobody answered for comes back
}
CELERY_TIMEZONE = "UTC"
CELERY_BEAT_SCHEDULE = {
    name: {
        "task": task,
        "schedule": every_s,
        "options": {"expires": max(every_s, 10.0)},
    }  # a queue that waited holds one
    for name, task, every_s in (
        ("reap-turns", "conversations.tasks.reap_turns", 5.0),
        ("forget-deleted-messages", "conversations.tasks.forget_deleted_messages", 60.0),
        ("sweep-attachments", "conversations.tasks.sweep_attachments", 60.0),
        ("look-around", "chatsite.tasks.look_around", 60.0),
        ("tell-of-limits", "quotas.tasks.tell_of_limits", 20.0),
        ("tell-of-billing", "billing.tasks.tell_of_billing", 20.0),
        ("send-waiting-mail", "events.tasks.send_waiting_mail", 30.0),
        ("sweep-told", "events.tasks.sweep_told", 24 * 3600.0),
        ("report-overage", "billing.tasks.report_overage", 300.0),
        ("add-meter-lines", "billing.tasks.add_meter_lines", 300.0),
        ("apply-stripe-events", "billing.tasks.apply_waiting_stripe_events", 60.0),
        ("tend-exports", "conversations.tasks.tend_exports", 60.0),
        ("forget-lost-exports", "conversations.tasks.forget_lost_exports", 3600.0),
        ("forget-old-answers", "accounts.tasks.forget_old_answers", 3600.0),
        ("forget-short-lived-keys", "accounts.tasks.forget_short_lived_keys", 3600.0),
        ("add-calls-of-keys", "accounts.tasks.add_calls_of_keys", 60.0),
        ("forget-old-deliveries", "events.tasks.forget_old_deliveries", 3600.0),
        ("prove-balances", "quotas.tasks.prove_balances", 24 * 3600.0),
        ("prove-activity", "events.tasks.prove_activity", 24 * 3600.0),
        ("advance-subscriptions", "billing.tasks.advance_subscriptions", 300.0),
    )
}
# At every full hour, because midnight on the 1st, and 02:00, come at another one in each zone.
CELERY_BEAT_SCHEDULE |= {
    name: {"task": task, "schedule": crontab(minute="0"), "options": {"expires": 3600.0}}
    for name, task in (
        ("reset-monthly-usage", "quotas.tasks.reset_monthly_usage"),
        ("reset-monthly-overages", "quotas.tasks.reset_monthly_overages"),
        ("cleanup-expired-conversations", "conversations.tasks.cleanup_expired_conversations"),
    )
}
# Every quarter of an hour, because 8:00 comes at a quarter of UTC's in some zones.
CELERY_BEAT_SCHEDULE["send-digests"] = {
    "task": "chatsite.tasks.send_digests",
    "schedule": crontab(minute="3,18,33,48"),
    "options": {"expires": 900.0},
}

# Who is asking

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 10}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "conversations:new"
LOGOUT_REDIRECT_URL = "conversations:home"
ACCOUNT_ADAPTER = "chatsite.signup.Adapter"
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
# Where sign-up also signs in, a stranger learns whose address is known; development does without the mail.
ACCOUNT_EMAIL_VERIFICATION = "optional" if DEVELOPMENT else "mandatory"
ACCOUNT_EMAIL_SUBJECT_PREFIX = ""
ACCOUNT_LOGIN_ON_EMAIL_CONFIRMATION = True  # in the browser that signed up only: allauth looks for it in the session
ACCOUNT_LOGOUT_ON_GET = False
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
ACCOUNT_REAUTHENTICATION_TIMEOUT = 600  # seconds for which a proof of who is there counts (accounts/confirming.py)
ACCOUNT_CHANGE_EMAIL = True  # one address; the new one counts once it is confirmed
ACCOUNT_EMAIL_NOTIFICATIONS = True  # what changes how somebody gets in is mailed to them
FAILED_KEYS_PER_MINUTE = env("FAILED_KEYS_PER_MINUTE")
# Apps sign in at /api/app/v1/ (accounts/app_tokens.py).
HEADLESS_CLIENTS = ("app",)
HEADLESS_TOKEN_STRATEGY = "accounts.app_tokens.Strategy"  # noqa: S105
HEADLESS_JWT_ALGORITHM = "HS256"
HEADLESS_JWT_PRIVATE_KEY = salted_hmac("accounts.app_tokens", "jwt", secret=SECRET_KEY, algorithm="sha256").hexdigest()
HEADLESS_JWT_REFRESH_TOKEN_EXPIRES_IN = 60 * 60 * 24 * 30
MFA_ADAPTER = "accounts.second_factor.Adapter"
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
STAFF_NEED_MFA = env("STAFF_NEED_MFA")
COUNTRY_HEADER = env("COUNTRY_HEADER")
SOCIALACCOUNT_ADAPTER = "chatsite.signup.Elsewhere"
ELSEWHERE = {
    "google": (env("GOOGLE_CLIENT_ID"), env("GOOGLE_CLIENT_SECRET")),
    "github": (env("GITHUB_CLIENT_ID"), env("GITHUB_CLIENT_SECRET")),
}
SOCIALACCOUNT_PROVIDERS = {
    name: {"APPS": [{"client_id": client_id, "secret": secret}]}
    for name, (client_id, secret) in ELSEWHERE.items()
    if client_id
}
INSTALLED_APPS[-1:-1] = [f"allauth.socialaccount.providers.{name}" for name in SOCIALACCOUNT_PROVIDERS]
EMAIL_PROVIDER, EMAIL_WEBHOOK_SECRET = env("EMAIL_PROVIDER"), env("EMAIL_WEBHOOK_SECRET")
ANYMAIL = {
    f"{EMAIL_PROVIDER}_{name}".upper(): value for name, value in json.loads(env("EMAIL_PROVIDER_OPTIONS")).items()
}
EMAIL_BACKEND = env(
    "EMAIL_BACKEND",
    default=f"anymail.backends.{EMAIL_PROVIDER}.EmailBackend"
    if EMAIL_PROVIDER not in ("", "amazon_ses")  # whose API takes boto3, and which takes mail by SMTP as well
    else f"django.core.mail.backends.{'console' if DEVELOPMENT else 'smtp'}.EmailBackend",
)
EMAIL_CONFIG = env.email_url_config(env("EMAIL_URL"))
EMAIL_HOST, EMAIL_PORT = EMAIL_CONFIG["EMAIL_HOST"], EMAIL_CONFIG["EMAIL_PORT"]
EMAIL_HOST_USER, EMAIL_HOST_PASSWORD = EMAIL_CONFIG["EMAIL_HOST_USER"], EMAIL_CONFIG["EMAIL_HOST_PASSWORD"]
EMAIL_USE_TLS = EMAIL_CONFIG.get("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = EMAIL_CONFIG.get("EMAIL_USE_SSL", False)
DEFAULT_FROM_EMAIL = env("DEFAULT_FROM_EMAIL")
EMAIL_TIMEOUT = 10
ANYMAIL["REQUESTS_TIMEOUT"] = 10  # the same, for a provider's API
EMAIL_LOG_DAYS, NOTICES_DAYS = env("EMAIL_LOG_DAYS"), env("NOTICES_DAYS")
ADMINS = [(address, address) for address in env("ADMINS")]  # hear of alerts (events/alarms.py), never of requests

# Browser

SECURE = not DEVELOPMENT
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_SSL_REDIRECT = SECURE
SESSION_COOKIE_AGE = 60 * 60 * 24 * 30
SECURE_HSTS_SECONDS = 60 * 60 * 24 * 365 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
BEHIND_PROXY = env("BEHIND_PROXY")
FORWARDED_ALLOW_IPS = env("FORWARDED_ALLOW_IPS")
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if BEHIND_PROXY else None
ALLAUTH_TRUSTED_PROXY_COUNT = int(BEHIND_PROXY)  # whose address the limits on guessing count
SECURE_REFERRER_POLICY = "same-origin"
METRICS_TOKEN = env("METRICS_TOKEN")
# Asked by machines at the process itself, where there is no TLS.
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", *([r"^metrics$"] if METRICS_TOKEN else [])]
X_FRAME_OPTIONS = "DENY"
CSRF_FAILURE_VIEW = "chatsite.pages.csrf_failure"
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [SELF],
        "script-src": [SELF, NONCE],
        "style-src": [SELF, NONCE],
        "img-src": [SELF],
        "font-src": [SELF],
        "connect-src": [SELF],
        "object-src": [NONE],
        "base-uri": [NONE],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
    }
}
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024  # a request's body; a message is at most 256 kB (conversations.forms)

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS = [BASE_DIR / "static"]
FILES_STORAGE = env("FILES_STORAGE")
FILES_DIR = env.path("FILES_DIR", default=Path(VAR_DIR) / "files")()
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    # What people bring and take home (lib/files.py). For the eyes of this program only.
    "files": {"BACKEND": FILES_STORAGE, "OPTIONS": json.loads(env("FILES_STORAGE_OPTIONS"))}
    if FILES_STORAGE
    else {
        "BACKEND": "django.core.files.storage.FileSystemStorage",
        "OPTIONS": {
            "location": FILES_DIR,
            "file_permissions_mode": 0o600,
            "directory_permissions_mode": 0o700,
        },
    },
    "staticfiles": {
        "BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"
        if DEVELOPMENT
        else "whitenoise.storage.CompressedManifestStaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = WHITENOISE_AUTOREFRESH = DEVELOPMENT

LANGUAGE_CODE = "en"
LANGUAGES = [("en", "English"), ("de", "Deutsch")]  # each complete: tests/house/test_languages.py
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

# AI. Keys of the platform come from the environment under the SDKs' own names, and only from there.

OPENAI_API_KEY = env("OPENAI_API_KEY")
OPENAI_BASE_URL = env("OPENAI_BASE_URL")
ANTHROPIC_API_KEY = env("ANTHROPIC_API_KEY")
ANTHROPIC_BASE_URL = env("ANTHROPIC_BASE_URL")
OPENROUTER_API_KEY = env("OPENROUTER_API_KEY")
try:
    ENCRYPTION_KEYS = KeyRing.parse(env("ENCRYPTION_KEYS"), env("ENCRYPTION_KEY"))  # of members' own keys
except BadKeys as bad:
    raise ImproperlyConfigured(str(bad)) from None
# Where members' own keys go. Not from the environment: no gateway of ours may come to see them.
OWN_KEY_HOMES = {vendor.code: vendor.home for vendor in VENDORS.values()}
EGRESS_ALLOW = env("EGRESS_ALLOW")  # exact host:port of private servers the operator vouches for
WEBHOOK_ECHO_PORT = env("WEBHOOK_ECHO_PORT")
if WEBHOOK_ECHO_PORT:
    EGRESS_ALLOW = [*EGRESS_ALLOW, f"127.0.0.1:{WEBHOOK_ECHO_PORT}", f"localhost:{WEBHOOK_ECHO_PORT}"]
WEBHOOK_LIMITS = {"deadline_s": 15.0}  # of one delivery; who sends it may be dead after twice that
PROVIDER_LIMITS = {"connect_s": 5.0, "first_token_s": 30.0, "idle_s": 30.0, "total_s": 600.0, "thinking_s": 300.0}
PROVIDER_RETRIES = 2  # of a call that failed before its first piece, where a repeat can mend it
PROVIDER_BREAKER = {
    "failures": 5,
    "window_s": 60.0,
    "rest_s": 15.0,
    "longest_rest_s": 240.0,
    "longest_busy_s": 300.0,
}
TITLE_TOKENS = 30  # of a chat's title by the brand's cheapest model, which the house pays; 0 = its first words stay
DEMO_TOKENS_PER_SECOND = env("DEMO_TOKENS_PER_SECOND")

# REST and its description.

SPECTACULAR_SETTINGS = {
    "TITLE": "chatsite",
    "VERSION": "1",
    "OAS_VERSION": "3.1.0",
    "DESCRIPTION": "Chats, usage and what else a brand's members have, for programs. Every refusal is a Problem. "
    "Fields may be added at any time; nothing that is told is taken away within version 1.",
    "SCHEMA_PATH_PREFIX": "/api/v1/",
    "SORT_OPERATIONS": False,  # as the addresses stand
    "SORT_OPERATION_PARAMETERS": False,
    "COMPONENT_SPLIT_PATCH": False,  # nothing is required there anyway
    "ENUM_GENERATE_CHOICE_DESCRIPTION": False,
    "POSTPROCESSING_HOOKS": ["accounts.rest.schema.share_refusals"],
    "APPEND_COMPONENTS": {
        "securitySchemes": {
            "key": {
                "type": "http",
                "scheme": "bearer",
                "bearerFormat": "sk_…",
                "description": "An API key; `X-Api-Key: sk_…` does as well.",
            },
            "session": {
                "type": "apiKey",
                "in": "cookie",
                "name": "sessionid",
                "description": "A member's browser; what changes something carries `X-CSRFToken`.",
            },
        }
    },
}

# Money. What is paid arrives at /stripe/webhook/; the stand-in signs what it sends there with a secret that both can derive.

STRIPE_SECRET_KEY = env("STRIPE_SECRET_KEY")
STRIPE_STAND_IN = env.bool("STRIPE_STAND_IN", default=DEVELOPMENT) and not STRIPE_SECRET_KEY
STRIPE_WEBHOOK_SECRET = env("STRIPE_WEBHOOK_SECRET")
if STRIPE_STAND_IN and not STRIPE_WEBHOOK_SECRET:
    STRIPE_WEBHOOK_SECRET = "whsec_" + salted_hmac("billing.standin", "webhook", secret=SECRET_KEY).hexdigest()
# Where the stand-in posts its events: to ourselves and nowhere else. Empty: they wait.
STRIPE_STAND_IN_WEBHOOK = env("STRIPE_STAND_IN_WEBHOOK") or (
    f"http://127.0.0.1:{env('PORT')}/stripe/webhook/" if DEVELOPMENT and env.int("PORT", default=0) else ""
)
if STRIPE_STAND_IN:
    CELERY_BEAT_SCHEDULE["tend-stand-in"] = {
        "task": "billing.tasks.tend_stand_in",
        "schedule": 5.0,
        "options": {"expires": 10.0},
    }

# Turns

CHECKPOINT_EVERY_S = 1.0
TURN_LOST_AFTER_S = 15.0  # no heartbeat for this long: the reaper ends the turn
# A web process that is asked to end (chatsite/web.py): how long open connections are served, and how long answers may go on.
LAME_DUCK_S = env.float("LAME_DUCK_S", default=0.0 if DEVELOPMENT else 4.0)
DRAIN_S = env.float("DRAIN_S", default=5.0 if DEVELOPMENT else 30.0)
CONCURRENT_TURNS = {  # answers at once, 0 = no cap; what billing pushes down for an account (`concurrent_turns`) wins
    "member": env("CONCURRENT_TURNS_PER_MEMBER"),  # and visitor; all keys of a person together
    "brand": env("CONCURRENT_TURNS_PER_BRAND"),
}
# Realtime: streams at once, of one person (all their tabs; each of their keys for itself) and in one web process.
REALTIME_STREAMS = {"each": env("STREAMS_PER_PERSON"), "process": env("STREAMS_PER_PROCESS")}

BILLING_GRACE_DAYS = env("BILLING_GRACE_DAYS")  # a plan whose payment failed is kept this long

# What an operator sees; docs/monitoring.md says what to watch.

LOGGING = logs.config(
    json=env.bool("LOG_JSON", default=not DEVELOPMENT),
    level=env("LOG_LEVEL"),
    access=env.bool("ACCESS_LOG", default=not DEVELOPMENT),  # one line for each request
)
