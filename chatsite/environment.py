"""Every variable of the environment that the product reads: its type, its default, and what it means.

The one declaration: settings take type and default from it, docs/configuration.md is written from it
(`manage.py env_reference`), and a test fails when the product reads a variable that does not stand here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import environ


@dataclass(frozen=True, slots=True)
class Variable:
    """One line of the reference.

    kind      bool, int, float, str or list (commas between)
    default   a value; a sentence in round brackets where settings work it out
    required  whether production cannot do without
    """

    name: str
    kind: type
    default: Any
    meaning: str
    required: bool = False

    @property
    def is_worked_out(self) -> bool:
        return isinstance(self.default, str) and self.default.startswith("(")


SECTIONS: dict[str, tuple[Variable, ...]] = {
    "The site": (
        Variable(
            "SECRET_KEY",
            str,
            "",
            "Signs sessions and links; 50 or more random characters, the same in every process. Whoever knows it can "
            "sign in as anybody; changing it signs everybody out.",
            required=True,
        ),
        Variable(
            "SECRET_KEY_FALLBACKS",
            list,
            [],
            "Keys that signed before, the newest first: what they signed still counts (sessions, links, visitors' cookies). "
            "Take them out again when all of that has expired, 30 days later.",
        ),
        Variable(
            "ALLOWED_HOSTS",
            list,
            "(none; on the machine of a developer: localhost)",
            "Host names that are answered, one for each brand's domain. `.example.com` stands for all below it.",
            required=True,
        ),
        Variable(
            "CSRF_TRUSTED_ORIGINS",
            list,
            [],
            "Origins whose forms are taken, with scheme: `https://chat.example.com`. Needed only where the proxy does not "
            "pass the Host header on.",
        ),
        Variable(
            "BEHIND_PROXY",
            bool,
            False,
            "Believe X-Forwarded-Proto and the last address of X-Forwarded-For. On exactly when every request comes "
            "through a proxy that sets both; otherwise strangers choose their own address.",
        ),
        Variable(
            "FORWARDED_ALLOW_IPS",
            list,
            ["127.0.0.1"],
            "Addresses and networks the proxy asks from, with BEHIND_PROXY: only they are believed when they say who asked, "
            "and the audit log has their own address otherwise. `*` where nobody but the proxy reaches the process.",
        ),
        Variable("DEBUG", bool, False, "Show errors with their inside. Never in production."),
        Variable(
            "DEVELOPMENT",
            bool,
            "(on where `make run` keeps its data, else off)",
            "Plain http, mail to the terminal, no address to verify. Never in production.",
        ),
    ),
    "What an operator sees": (
        Variable("LOG_LEVEL", str, "INFO", "DEBUG, INFO, WARNING or ERROR; lines go to standard error."),
        Variable(
            "LOG_JSON",
            bool,
            "(on; on the machine of a developer: off)",
            "One JSON object a line instead of text for people.",
        ),
        Variable(
            "ACCESS_LOG",
            bool,
            "(on; on the machine of a developer: off)",
            "One line for each request: route, status, milliseconds, brand, request id.",
        ),
        Variable(
            "METRICS_TOKEN",
            str,
            "",
            "Prometheus sends it as `Authorization: Bearer …` to /metrics. Empty: there is no such address.",
        ),
        Variable("ADMINS", list, [], "Mail addresses that hear of alerts when one begins and when it is over."),
    ),
    "Databases": (
        Variable(
            "DATABASE_URL",
            str,
            "",
            "PostgreSQL as the log-in `web`: `postgres://web:…@db.internal/chat?sslmode=verify-full`. May be a pgbouncer.",
            required=True,
        ),
        Variable(
            "DATABASE_SERVICE_URL",
            str,
            "",
            "The same database as the log-in `worker`: the meter, the worker, the staff's site. May be a pgbouncer.",
            required=True,
        ),
        Variable(
            "DATABASE_OWNER_URL",
            str,
            "",
            "The same database as the log-in `owner`, past any pooler. Only `migrate` and `restore` need it, so the "
            "processes that serve do without.",
        ),
        Variable(
            "DATABASE_BACKUP_URL",
            str,
            "",
            "The log-in `worker`, past any pooler, for `backup`. Empty: DATABASE_SERVICE_URL.",
        ),
        Variable(
            "DATABASE_TESTER_URL", str, "", "The log-in `tester` of development and tests. Never set in production."
        ),
        Variable(
            "WEB_POOL",
            int,
            16,
            "Connections that one process keeps to each of the two log-ins, at most. All processes together must stay "
            "below the server's max_connections.",
        ),
        Variable(
            "DATABASE_SILENCE_S",
            float,
            "(10 in a web process, else 600)",
            "Seconds that the database may say nothing in the middle of a statement. Then the connection is given up, and "
            "whoever asked gets a 503.",
        ),
        Variable("DB_HOPS", int, 12, "Threads through which async code reaches the database; fewer than WEB_POOL."),
        Variable(
            "PREPARE_STATEMENTS",
            bool,
            True,
            "Prepare the hot path's statements once per connection. Off behind a pgbouncer older than 1.21, or one with "
            "max_prepared_statements = 0.",
        ),
        Variable(
            "REDIS_URL",
            str,
            "redis://127.0.0.1:1/0",
            "Valkey or Redis 6.2 or newer: the worker's queue, the copy of running answers, the cache. It must not evict "
            "(maxmemory-policy noeviction).",
            required=True,
        ),
        Variable(
            "BACKUP_DIR",
            str,
            "",
            "Where `backup` writes unless told otherwise, and where `check_deployment` looks for yesterday's.",
        ),
    ),
    "Files": (
        Variable(
            "FILES_DIR",
            str,
            "(var/files in the clone)",
            "A folder for what people bring and take home, the same for every web process and worker, and outside of any "
            "release.",
            required=True,
        ),
        Variable(
            "FILES_STORAGE",
            str,
            "",
            "Instead of that folder, the dotted path of a storage of Django: `storages.backends.s3.S3Storage`, once its "
            "package is installed ([deployment.md](deployment.md)). Empty: FILES_DIR.",
        ),
        Variable(
            "FILES_STORAGE_OPTIONS",
            str,
            "{}",
            'Its options as one JSON object: `{"bucket_name": "chatsite", "querystring_auth": false}`.',
        ),
    ),
    "Mail": (
        Variable(
            "EMAIL_URL",
            str,
            "smtp://localhost:25",
            "How mail leaves: `smtp+tls://user:password@mail.example.com:587`. Sign-up and forgotten passwords need it.",
        ),
        Variable("DEFAULT_FROM_EMAIL", str, "chatsite <no-reply@localhost>", "The sender people see."),
        Variable(
            "EMAIL_BACKEND",
            str,
            "(EMAIL_PROVIDER's, or Django's smtp; on the machine of a developer: the terminal)",
            "Dotted path of another way to send mail.",
        ),
        Variable(
            "EMAIL_PROVIDER",
            str,
            "",
            "A mail provider whose API is used instead of EMAIL_URL: brevo, mailersend, mailgun, mailjet, postmark, resend, "
            "sendgrid or sparkpost. It also reports what was delivered, and what came back ([mail.md](mail.md)). amazon_ses "
            "reports too, and takes mail at EMAIL_URL.",
        ),
        Variable(
            "EMAIL_PROVIDER_OPTIONS",
            str,
            "{}",
            'Its options as one JSON object, under the names of django-anymail: `{"api_key": "…"}`, and for Mailgun '
            '`"sender_domain"` too.',
        ),
        Variable(
            "EMAIL_WEBHOOK_SECRET",
            str,
            "",
            "What the provider proves itself with when it calls `https://…/mail/reports/<provider>/`: its signing key "
            "(mailgun, mailersend, resend), its public key (sendgrid), or `user:password` that stands in the address you "
            "gave it. Empty: none reports.",
        ),
        Variable("EMAIL_LOG_DAYS", int, 90, "Days that the log of mails is kept."),
        Variable("NOTICES_DAYS", int, 365, "Days that people's notices behind the bell are kept."),
    ),
    "Signing in": (
        Variable(
            "FAILED_KEYS_PER_MINUTE",
            int,
            100,
            "How many calls with keys that are not valid one network (IPv4 /24, IPv6 /48) may make in a minute. Beyond that "
            "it gets 429, but for keys that work.",
        ),
        Variable(
            "STAFF_NEED_MFA",
            bool,
            False,
            "Let staff into /admin/ only with a second factor. Off: they are asked to set one up.",
        ),
        Variable(
            "GOOGLE_CLIENT_ID",
            str,
            "",
            "Of an OAuth client at Google, whose redirect address is `https://…/account/elsewhere/google/login/callback/` "
            "for each brand's domain. Empty: nobody is offered to sign in with Google.",
        ),
        Variable("GOOGLE_CLIENT_SECRET", str, "", "The secret of that client."),
        Variable(
            "GITHUB_CLIENT_ID",
            str,
            "",
            "The same of an OAuth app at GitHub: `https://…/account/elsewhere/github/login/callback/`.",
        ),
        Variable("GITHUB_CLIENT_SECRET", str, "", "The secret of that app."),
        Variable(
            "COUNTRY_HEADER",
            str,
            "",
            "A header in which your proxy says the visitor's country in two letters (`CF-IPCountry`); people see it in the "
            "list of their sessions, and events of chats carry it. It must overwrite what a visitor sends. Empty: no country "
            "is known.",
        ),
    ),
    "Models": (
        Variable("OPENAI_API_KEY", str, "", "The platform's key at OpenAI, or at OPENAI_BASE_URL."),
        Variable("OPENAI_BASE_URL", str, "", "Another server that speaks OpenAI's protocol, `/v1` included."),
        Variable("ANTHROPIC_API_KEY", str, "", "The platform's key at Anthropic, or at ANTHROPIC_BASE_URL."),
        Variable("ANTHROPIC_BASE_URL", str, "", "Another server that speaks Anthropic's protocol."),
        Variable("OPENROUTER_API_KEY", str, "", "The platform's key at OpenRouter, sent to its own host only."),
        Variable(
            "ENCRYPTION_KEYS",
            str,
            "",
            "Seal members' own keys, webhooks' secrets and second steps: `2026b:<64 hex>,2026a:<64 hex>`, the same in every "
            "process. The first one seals, all of them open; `openssl rand -hex 32` makes one. Empty: nobody can store a key "
            "of their own, and second steps are stored open. Keep them apart from "
            "the backups, which are of no use for those keys without them ([own-keys.md](own-keys.md)).",
        ),
        Variable("ENCRYPTION_KEY", str, "", "One such key without a name, 64 hex; it is taken as `0:<64 hex>`."),
        Variable(
            "EGRESS_ALLOW",
            list,
            [],
            "Private servers that you vouch for, as exact host:port: `ollama.internal:11434`. All other private addresses "
            "are refused. Brands' webhooks may lead there too.",
        ),
        Variable(
            "WEBHOOK_ECHO_PORT",
            int,
            0,
            "Port of this machine where `manage.py webhook_echo` listens, which webhooks may then be sent to. `make run` "
            "starts one and knows it; in production leave it empty.",
        ),
        Variable("DEMO_TOKENS_PER_SECOND", int, 40, "Speed of the demo model; 0 = at once."),
    ),
    "Money": (
        Variable(
            "STRIPE_SECRET_KEY",
            str,
            "",
            "The key of your Stripe account: `sk_live_…`, or `sk_test_…` to try. Empty: nothing can be bought, unless "
            "STRIPE_STAND_IN is on.",
        ),
        Variable(
            "STRIPE_WEBHOOK_SECRET",
            str,
            "",
            "`whsec_…` of the endpoint `https://…/stripe/webhook/` that you made at Stripe, in the same mode as the key. "
            "Without it nothing that is paid arrives.",
        ),
        Variable(
            "STRIPE_STAND_IN",
            bool,
            "(on; with a key, or in production: off)",
            "Sell at a local stand-in for Stripe, where no money moves: to try, never in production.",
        ),
        Variable(
            "STRIPE_STAND_IN_WEBHOOK",
            str,
            "",
            "Where the stand-in posts its events: this site's own `http://…/stripe/webhook/`. `make run` knows it.",
        ),
    ),
    "Limits": (
        Variable(
            "CONCURRENT_TURNS_PER_MEMBER",
            int,
            10,
            "Answers that one member or visitor may have running at once, all their keys together; 0 = no cap. A plan's "
            "`concurrent_turns` wins.",
        ),
        Variable(
            "CONCURRENT_TURNS_PER_BRAND",
            int,
            200,
            "Answers that one brand may have running at once; 0 = no cap. Its plan's `concurrent_turns` wins.",
        ),
        Variable(
            "STREAMS_PER_PERSON",
            int,
            10,
            "Realtime streams that one person may have open at once at one web process; each of their keys as many again, "
            "all together five times as many.",
        ),
        Variable(
            "STREAMS_PER_PROCESS",
            int,
            2000,
            "Realtime streams that one web process keeps open; who comes then is sent to another one.",
        ),
        Variable(
            "BILLING_GRACE_DAYS",
            int,
            7,
            "Days that a member keeps a plan whose payment failed; then the brand's default plan holds until it is paid.",
        ),
    ),
    "Processes": (
        Variable(
            "LAME_DUCK_S",
            float,
            "(4; on the machine of a developer: 0)",
            "Seconds after SIGTERM in which a web process, which takes no new connection any more, still answers what comes "
            "on open ones: longer than the proxy keeps idle ones.",
        ),
        Variable(
            "DRAIN_S",
            float,
            "(30; on the machine of a developer: 5)",
            "Seconds after that in which it goes on writing its answers; the rest ends as interrupted, with its text.",
        ),
        Variable("PORT", int, "(8000)", "Port of `make run`. In production the unit names the port."),
        Variable(
            "VAR_DIR",
            str,
            "(var/ in the clone)",
            "Where `make run` and the tests keep their servers. Production keeps nothing there.",
        ),
        Variable("FAULT", str, "", "Ends the process at a named point: for tests of crashes. Never in production."),
    ),
}


def variables() -> Iterator[Variable]:
    for section in SECTIONS.values():
        yield from section


def reader() -> environ.Env:
    """`env("WEB_POOL")` with the declared type and default; a worked-out default is given where it is read."""
    return environ.Env(
        **{
            variable.name: (variable.kind, environ.Env.NOTSET if variable.is_worked_out else variable.default)
            for variable in variables()
        }
    )


def reference() -> str:
    """docs/configuration.md."""
    lines = [
        "# Configuration",
        "",
        "Everything that differs between machines comes from the environment. This page is written by",
        "`manage.py env_reference` from `chatsite/environment.py`; a test fails when it is stale. A ready file to fill in:",
        "[deploy/chatsite.env](../deploy/chatsite.env).",
    ]
    for title, section in SECTIONS.items():
        lines += ["", f"## {title}", "", "| variable | type | default | meaning |", "|---|---|---|---|"]
        for variable in section:
            default = "**required**" if variable.required else _shown(variable)
            meaning = variable.meaning.replace("|", "\\|")
            lines.append(f"| `{variable.name}` | {variable.kind.__name__} | {default} | {meaning} |")
    return "\n".join(lines) + "\n"


def _shown(variable: Variable) -> str:
    if variable.is_worked_out:
        return str(variable.default).strip("()")
    if variable.kind is bool:
        return "on" if variable.default else "off"
    return f"`{variable.default}`" if variable.default not in ("", []) else ""
