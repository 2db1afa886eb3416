"""manage.py check_deployment: silent where all is well, and each thing that is wrong by cause, effect and remedy."""

import contextlib
import io
import json
import os
import secrets
import signal
import socket
import subprocess
import sys
import time
from datetime import timedelta
from urllib.parse import urlsplit, urlunsplit

import pytest
import redis
import stripe
from django.conf import settings as product
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db import connections
from django.db.migrations.loader import MigrationLoader

from accounts.models import Brand, Membership, User
from chatsite.deployment import configuration, data, databases, findings, payments, surroundings
from chatsite.embedded.valkey import Valkey
from conversations import tasks
from lib import clock
from lib.db import SERVICE, scope
from lib.keyring import KeyRing
from providers.models import AIProvider, Price
from quotas.models import Account
from tests import factories


def causes(check):
    found = list(check())
    for finding in found:
        assert len(finding.effect) > 10
        assert len(finding.remedy) > 10
    return " ".join(finding.cause for finding in found)


# Settings


@pytest.mark.parametrize(
    ("check", "changed", "cause"),
    [
        (configuration.development, {"DEVELOPMENT": True}, "DEVELOPMENT is on"),
        (configuration.django, {"DEBUG": True}, "DEBUG"),
        (configuration.django, {"SECRET_KEY": "short"}, "SECRET_KEY"),
        (configuration.django, {"ALLOWED_HOSTS": []}, "ALLOWED_HOSTS"),
        (configuration.django, {"SESSION_COOKIE_SECURE": False}, "SESSION_COOKIE_SECURE"),
        (configuration.proxy, {"BEHIND_PROXY": False}, "BEHIND_PROXY is off"),
        (configuration.mail, {"EMAIL_BACKEND": "django.core.mail.backends.console.EmailBackend"}, "console"),
        (configuration.mail, {"DEFAULT_FROM_EMAIL": "x <no-reply@localhost>"}, "The sender is"),
        (configuration.mail, {"ADMINS": []}, "ADMINS is empty"),
        (configuration.mail, {"EMAIL_PORT": 1}, "does not answer"),
        (configuration.stand_in, {"STRIPE_STAND_IN": True}, "STRIPE_STAND_IN is on"),
        (payments.keys, {"STRIPE_SECRET_KEY": "sk_live_1"}, "STRIPE_WEBHOOK_SECRET is not set"),
        (payments.keys, {"STRIPE_SECRET_KEY": "sk_live_1", "STRIPE_WEBHOOK_SECRET": "x"}, "no secret of an endpoint"),
        (payments.keys, {"STRIPE_SECRET_KEY": "pk_live_1", "STRIPE_WEBHOOK_SECRET": "whsec_1"}, "no secret key"),
        (payments.keys, {"STRIPE_SECRET_KEY": "sk_test_1", "STRIPE_WEBHOOK_SECRET": "whsec_1"}, "test mode"),
        (payments.keys, {"STRIPE_WEBHOOK_SECRET": "whsec_1"}, "STRIPE_SECRET_KEY is not"),
        (configuration.sealing, {"ENCRYPTION_KEYS": KeyRing.parse("")}, "ENCRYPTION_KEYS is not set"),
        (configuration.static_files, {"STATIC_ROOT": "/nowhere"}, "staticfiles.json is not there"),
        (databases.room, {"WEB_POOL": 300}, "a process may want 600"),
        (databases.room, {"DB_HOPS": 16}, "DB_HOPS is 16"),
        (surroundings.backups, {"BACKUP_DIR": ""}, "BACKUP_DIR is not set"),
        (surroundings.files, {"FILES_DIR": str(product.BASE_DIR / "var")}, "in the folder of this release"),
        (
            surroundings.files,
            {"FILES_STORAGE": "s3", "STORAGES": {"files": {"BACKEND": "no.such"}}},
            "Nothing can be stored",
        ),
        (surroundings.redis_server, {"REDIS_URL": "redis://127.0.0.1:1/0"}, "REDIS_URL does not answer"),
    ],
)
def test_a_setting_that_is_wrong_is_named(db, settings, tmp_path, check, changed, cause):
    (tmp_path / "staticfiles.json").write_text("{}")
    (tmp_path / "chatsite.backup").write_text("")
    with socket.create_server(("127.0.0.1", 0)) as mail:
        fit = {
            "DEVELOPMENT": False, "STRIPE_STAND_IN": False, "STRIPE_SECRET_KEY": "", "STRIPE_WEBHOOK_SECRET": "",
            "SECRET_KEY": secrets.token_urlsafe(64),
            "ALLOWED_HOSTS": [".localhost"],
            "SESSION_COOKIE_SECURE": True, "CSRF_COOKIE_SECURE": True, "SECURE_SSL_REDIRECT": True,
            "SECURE_HSTS_SECONDS": 1000, "SECURE_HSTS_INCLUDE_SUBDOMAINS": True, "SECURE_HSTS_PRELOAD": True,
            "BEHIND_PROXY": True, "EMAIL_BACKEND": configuration.SMTP, "EMAIL_HOST": "127.0.0.1",
            "EMAIL_PORT": mail.getsockname()[1], "DEFAULT_FROM_EMAIL": "x <no-reply@act.example>",
            "ADMINS": [("ann", "ann@act.example")], "STATIC_ROOT": str(tmp_path), "BACKUP_DIR": str(tmp_path),
            "FILES_DIR": str(tmp_path),
        }  # fmt: skip
        for name, value in fit.items():
            setattr(settings, name, value)
        assert causes(check) == ""

        for name, value in changed.items():
            setattr(settings, name, value)
        assert cause in causes(check)


class OneAnswer(stripe.HTTPClient):
    """The network's edge: what Stripe would say of our endpoints, or that it refuses the key."""

    name = "one answer"

    def __init__(self, status, body):
        super().__init__()
        self.status, self.body = status, body

    def request(self, method, url, headers, post_data=None, **_):
        assert url.startswith("https://api.stripe.com/v1/webhook_endpoints")
        return json.dumps(self.body), self.status, {}


def endpoint(**fields):
    row = {"id": "we_1", "object": "webhook_endpoint", "url": "https://act.example/stripe/webhook/", "status": "enabled",
           "api_version": stripe.api_version, "enabled_events": ["*"], **fields}  # fmt: skip
    return {"object": "list", "has_more": False, "url": "/v1/webhook_endpoints", "data": [row]}


@pytest.mark.parametrize(
    ("status", "body", "cause"),
    [
        (200, endpoint(), ""),
        (200, endpoint(url="https://act.example/other/"), "no endpoint of ours in the live mode"),
        (200, endpoint(status="disabled"), "no endpoint of ours in the live mode"),
        (200, endpoint(api_version="2031-01-01.oak"), "speaks the API version 2031-01-01.oak"),
        (200, endpoint(enabled_events=["invoice.paid"]), "is not told of charge.dispute.closed"),
        (401, {"error": {"message": "Invalid API Key provided", "type": "invalid_request_error"}}, "does not take"),
        (500, {"error": {"message": "down", "type": "api_error"}}, "could not be asked"),
    ],
    ids=["well", "elsewhere", "off", "version", "events", "key", "away"],
)
def test_whether_what_is_paid_can_arrive_is_asked_of_stripe(settings, monkeypatch, status, body, cause):
    settings.STRIPE_SECRET_KEY = "sk_live_1"
    client = stripe.StripeClient("sk_live_1", http_client=OneAnswer(status, body))
    monkeypatch.setattr(payments, "stripe", lambda: client)

    found = causes(payments.endpoint)

    assert cause in found
    assert bool(cause) == bool(found)


# Database


@contextlib.contextmanager
def logged_in(alias, other):
    """The log-in of one alias with the name and password of another's."""
    login, given = connections[alias].settings_dict, connections[other].settings_dict
    before = {name: login[name] for name in ("USER", "PASSWORD")}
    connections[alias].close()
    login.update({name: given[name] for name in before})
    try:
        yield
    finally:
        connections[alias].close()
        login.update(before)


@contextlib.contextmanager
def changed(there, back):
    for statement in (there, back):
        if statement is back:
            yield
        with connections["owner"].cursor() as owner:
            owner.execute(statement)


def test_a_fit_database_is_not_mentioned(live_world):
    for check in (databases.log_ins, databases.one_database, databases.server, databases.pooler, databases.migrations):
        assert causes(check) == ""
    for check in (databases.walls, databases.clock, data.brands, data.default_plans):
        assert causes(check) == ""


def test_log_ins_that_can_do_too_much_or_too_little_are_named(live_world):
    """I-20"""
    with logged_in("default", "owner"):
        assert "owner of DATABASE_URL owns the tables" in causes(databases.log_ins)
    with logged_in("default", "service"):
        assert "worker of DATABASE_URL may become app_service" in causes(databases.log_ins)
    with logged_in("service", "default"):
        assert "web of DATABASE_SERVICE_URL may not become app_service" in causes(databases.log_ins)


def test_a_database_that_is_away_is_said_once_for_each_log_in(live_world, settings):
    ports = {alias: connections[alias].settings_dict["PORT"] for alias in ("default", "service")}
    for alias in ports:
        connections[alias].close()
        connections[alias].settings_dict["PORT"] = 1
    try:
        found = [finding for finding in findings() if finding.topic not in ("configuration", "mail", "disk", "redis")]
    finally:
        for alias, port in ports.items():
            connections[alias].close()
            connections[alias].settings_dict["PORT"] = port

    assert sum(finding.topic == "database" for finding in found) == 2
    assert not {finding.topic for finding in found} & {"migrations", "walls", "brands", "models", "staff"}


def test_a_missing_migration_is_named(live_world):
    last = sorted(name for app, name in MigrationLoader(None).disk_migrations if app == "quotas")[-1]
    with changed(
        f"delete from django_migrations where app = 'quotas' and name = '{last}'",
        f"insert into django_migrations (app, name, applied) values ('quotas', '{last}', now())",
    ):
        assert f"Not applied yet: quotas.{last}" in causes(databases.migrations)


def test_a_fallen_wall_is_named(live_world):
    with changed(
        "alter table conversations_message no force row level security",
        "alter table conversations_message force row level security",
    ):
        assert "conversations_message does not force" in causes(databases.walls)


def test_two_databases_are_not_one(live_world):
    login = connections["default"].settings_dict
    name = login["NAME"]
    connections["default"].close()
    login["NAME"] = urlsplit(os.environ["DATABASE_URL"]).path.strip("/")
    try:
        assert "two different databases" in causes(databases.one_database)
    finally:
        connections["default"].close()
        login["NAME"] = name


@pytest.mark.parametrize(("seconds", "level"), [(10, "warning"), (600, "error"), (-600, "error")])
def test_a_clock_that_is_off_is_found_by_the_database(db, monkeypatch, seconds, level):
    """O-12"""
    real = time.time_ns
    monkeypatch.setattr("lib.clock.time.time_ns", lambda: real() + seconds * 10**9)

    (finding,) = databases.clock()

    assert finding.level == level
    assert ("ahead of" if seconds > 0 else "behind") in finding.cause


# What staff enter


def test_what_staff_forgot_is_named(live_world, settings):
    settings.DEVELOPMENT, settings.ALLOWED_HOSTS, settings.OPENAI_API_KEY = False, ["act.localhost"], ""
    factories.make_provider("no-price", protocol="demo", priced=False)
    factories.make_provider("no-key", protocol="openai")
    with scope(SERVICE):
        User.objects.filter(is_superuser=True).update(is_superuser=False)
        Brand.objects.filter(slug="act").update(default_plan="basic")

    assert "New members of Act should get Basic, which costs $9.99 a month" in causes(data.default_plans)
    assert "globex.localhost is not in ALLOWED_HOSTS" in causes(data.brands)
    assert "act.localhost" not in causes(data.brands)
    assert "There is no superuser" in causes(data.staff)
    told = causes(data.models)
    assert "is offered without a price" in told
    assert "There is no key for No-Key's vendor" in told
    assert "is the demo model" in told


def test_a_price_of_tomorrow_is_none_today(live_world):
    provider = factories.make_provider("dear", priced=False)
    prices = {"input_microusd_per_mtok": 0, "output_microusd_per_mtok": 0}
    with scope(SERVICE):
        tomorrow = Price.objects.create(provider=provider, starts_at=clock.now() + timedelta(days=1), **prices)
    assert "Dear is offered without a price for today" in causes(data.models)
    with scope(SERVICE):
        Price.objects.create(provider=provider, starts_at=tomorrow.starts_at - timedelta(days=2), **prices)

    assert "Dear is offered without a price" not in causes(data.models)


def test_the_demos_people_are_not_for_production(transactional_db, settings):
    call_command("demo_data", "--force", stdout=io.StringIO())  # it says how its people sign in
    settings.DEVELOPMENT = False

    assert "staff@example.com" in causes(data.staff)


# Around


def test_a_queue_that_evicts_is_an_error(db, settings, tmp_path):
    valkey = Valkey(tmp_path / "valkey")
    valkey.start()
    try:
        settings.REDIS_URL = valkey.url()
        assert causes(surroundings.redis_server) == ""
        with redis.Redis.from_url(valkey.url()) as server:
            server.config_set("maxmemory-policy", "allkeys-lru")
        assert "maxmemory-policy is allkeys-lru" in causes(surroundings.redis_server)
    finally:
        valkey.stop()


def test_background_work_is_proved_by_what_it_did(world, monkeypatch):
    monkeypatch.setattr(surroundings.app.control, "ping", lambda timeout: [{"worker@here": "pong"}])
    tasks.reap_turns()
    assert causes(surroundings.background_work) == ""

    cache.set(tasks.RAN_AT, clock.now() - timedelta(minutes=10))
    assert "nothing has been queued for it by the clock for 600 s" in causes(surroundings.background_work)
    monkeypatch.setattr(surroundings.app.control, "ping", lambda timeout: [])
    cache.delete(tasks.RAN_AT)
    assert "No worker answers, and no periodic work has been done at all" in causes(surroundings.background_work)


def test_yesterdays_backup_is_missed(db, settings, tmp_path):
    settings.BACKUP_DIR = str(tmp_path)
    assert "There is no backup" in causes(surroundings.backups)

    backup = tmp_path / "chatsite-20260101T031700Z.backup"
    backup.write_text("")
    assert causes(surroundings.backups) == ""
    os.utime(backup, (time.time() - 3 * 86400,) * 2)
    assert "is 3 days and 0 hours old" in causes(surroundings.backups)


def test_a_disk_that_fills_up_is_named_before_it_is_full(monkeypatch):
    usage = surroundings.shutil.disk_usage("/")
    for free, level in ((10**9, "warning"), (10**8, "error")):
        monkeypatch.setattr(surroundings.shutil, "disk_usage", lambda folder, free=free: usage._replace(free=free))
        assert [finding.level for finding in surroundings.disks()] == [level]


# All of it


def through(url, name):
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def test_a_deployment_made_as_the_manual_says_has_nothing_wrong(live_world, tmp_path):
    """The product's own settings in production, its own commands, a real worker with its clock."""
    name = connections["owner"].settings_dict["NAME"]
    login = connections["service"].settings_dict
    (tmp_path / "backups").mkdir()
    with socket.create_server(("127.0.0.1", 0)) as mail:
        env = {
            **{name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"},
            "DEVELOPMENT": "0",
            "VAR_DIR": str(tmp_path / "var"),
            "SECRET_KEY": secrets.token_urlsafe(64),
            "ALLOWED_HOSTS": ".localhost",
            "BEHIND_PROXY": "1",
            "EMAIL_URL": f"smtp://127.0.0.1:{mail.getsockname()[1]}",
            "DEFAULT_FROM_EMAIL": "act <no-reply@act.example>",
            "ADMINS": "ann@act.example",
            "OPENAI_API_KEY": "sk-test",
            "REDIS_URL": os.environ["REDIS_URL"].rpartition("/")[0] + "/7",  # a queue that no other test has
            "BACKUP_DIR": str(tmp_path / "backups"),
            "WEB_POOL": "8",
            "DB_HOPS": "4",
            **{variable: through(os.environ[variable], name) for variable in ("DATABASE_URL", "DATABASE_SERVICE_URL")},
        }
        assert login["NAME"] == name
        factories.make_provider("gpt", protocol="openai")
        with scope(SERVICE):
            AIProvider.objects.filter(protocol="demo").update(is_active=False)

        queue = redis.Redis.from_url(env["REDIS_URL"])
        queue.flushdb()
        celery = [sys.executable, "-m", "celery", "-A", "chatsite", "worker", "--beat", "--pool", "threads"]
        celery += ["--without-gossip", "--without-mingle"]  # it is alone
        with open(tmp_path / "worker.log", "w") as log:
            worker = subprocess.Popen(
                [*celery, "--concurrency", "1", "--schedule", tmp_path / "beat"],
                cwd=product.BASE_DIR, env=env, stdout=log, stderr=log, start_new_session=True,
            )  # fmt: skip
        try:
            call_command("backup", "--to", tmp_path / "backups")  # while the worker starts
            for _ in range(600):
                if queue.exists(f"chatsite:1:{tasks.RAN_AT}"):
                    break
                assert worker.poll() is None, (tmp_path / "worker.log").read_text()
                time.sleep(0.1)
            after = subprocess.run(
                [sys.executable, "manage.py", "check_deployment", "--json"],
                cwd=product.BASE_DIR, env=env, capture_output=True, text=True,
            )  # fmt: skip
        finally:
            worker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                worker.wait(30)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)  # its clock is a process of its own
            worker.wait(60)
            queue.close()
    found = json.loads(after.stdout)["findings"]

    # what collectstatic writes would stay in the clone, so it is not called here
    assert [finding["cause"] for finding in found if finding["topic"] != "static files"] == []


def test_a_brand_is_made_with_all_that_a_question_needs(live_world, capsys):
    words = ["--slug", "initech", "--name", "Initech", "--domain", "Chat.Initech.example", "--zone", "America/Toronto"]

    call_command("create_brand", *words, "--owner", "bob@example.com", "--json")

    assert json.loads(capsys.readouterr().out)["domain"] == "chat.initech.example"
    with scope(SERVICE):
        brand = Brand.objects.get(slug="initech")
        assert brand.default_plan == "free"
        assert Membership.objects.get(brand=brand).role == "owner"
        assert {account.kind for account in Account.objects.filter(brand=brand)} == {"brand", "user"}
    with pytest.raises(CommandError, match="already exists"):
        call_command("create_brand", *words)
    with pytest.raises(CommandError, match="host name without port"):
        call_command("create_brand", "--slug", "x", "--name", "X", "--domain", "http://x.example")
    with pytest.raises(CommandError, match="Nobody has the address"):
        call_command("create_brand", "--slug", "x", "--name", "X", "--domain", "x.example", "--owner", "no@no.example")


def test_staff_are_made_by_the_worker_log_in(live_world, monkeypatch):
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "correct horse battery")

    call_command("createsuperuser", "--noinput", "--email", "root@act.example")

    with scope(SERVICE):
        assert User.objects.get(email="root@act.example").is_superuser
