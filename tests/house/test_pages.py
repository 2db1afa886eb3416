"""What every answer has in common: headers, refusals in words, and settings that refuse to start half-made."""

import base64
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings as site
from django.core.exceptions import PermissionDenied, RequestDataTooBig, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404, HttpResponse
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.test import Client, RequestFactory, override_settings
from django.urls import path
from django.utils.module_loading import import_string
from psycopg_pool import PoolTimeout

from chatsite import pages
from chatsite.urls import handler400, handler403, handler404, handler500  # noqa: F401 - these are the real ones
from conversations.models import Conversation
from lib.db import SERVICE, scope
from lib.errors import DomainError, TooLarge, Unavailable

ROOT = Path(__file__).resolve().parents[2]
ERRORS = {
    "bad": (SuspiciousOperation("odd"), 400, "cannot be used as it is"),
    "forbidden": (PermissionDenied(), 403, "not yours"),
    "missing": (Http404(), 404, ""),
    "large": (RequestDataTooBig(), 413, "larger than one request may be"),
    "too-large": (TooLarge(), 413, "cannot be used as it is"),
    "broken": (RuntimeError("canary-inside"), 500, "Something broke on our side"),
    "busy": (PoolTimeout("canary-inside"), 503, ""),
    "away": (OperationalError("canary-inside"), 500, "Something broke"),
    "unavailable": (Unavailable("Back soon.", retry_after=7), 503, ""),
}


def fail(request, name):
    error = ERRORS[name][0]
    if isinstance(error, PoolTimeout):
        raise OperationalError("canary-inside") from error
    raise error


def fine(request):
    return HttpResponse("fine")


urlpatterns = [
    path("fail/<name>/", fail),
    path("v1/fail/<name>/", fail),
    path("api/fail/<name>/", fail),
    path("fine/", fine),
]


@pytest.fixture
def browser(settings):
    return Client(headers={"host": "act.localhost"}, raise_request_exception=False)


@pytest.mark.parametrize("name", ERRORS)
@override_settings(ROOT_URLCONF=__name__)
def test_an_error_page_speaks_in_words_without_a_database(browser, name):
    """No database mark: a page that asked it anything would fail here."""
    _, status, words = ERRORS[name]

    answer = browser.get(f"/fail/{name}/", headers={"x-request-id": "request-4711"})

    text = answer.content.decode()
    assert answer.status_code == status
    assert words in text
    assert "<h1>" in text
    assert "request-4711" in text
    assert answer.headers["X-Request-Id"] == "request-4711"
    assert "canary-inside" not in text
    assert "Traceback" not in text
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("name", ERRORS)
@override_settings(ROOT_URLCONF=__name__)
def test_programs_get_the_same_refusals_as_json(browser, name):
    answer = browser.get(f"/api/fail/{name}/")

    assert answer.status_code == ERRORS[name][1]
    assert {"code", "detail", "request_id"} <= answer.json().keys()
    assert "canary-inside" not in answer.content.decode()


@pytest.mark.parametrize("name", ERRORS)
@override_settings(ROOT_URLCONF=__name__)
def test_programs_that_speak_openai_get_refusals_in_its_shape(browser, name):
    answer = browser.get(f"/v1/fail/{name}/")

    assert answer.status_code == ERRORS[name][1]
    assert {"message", "type", "param", "code"} <= answer.json()["error"].keys()
    assert "canary-inside" not in answer.content.decode()


@override_settings(ROOT_URLCONF=__name__)
def test_a_busy_site_says_when_to_come_back(browser):
    assert browser.get("/fail/unavailable/").headers["Retry-After"] == "7"
    assert browser.get("/fail/busy/").headers["Retry-After"] == "2"


@pytest.mark.parametrize("given", ["", "short", "x" * 65, "line\nbreak", "café-déjà-vu", "a\x00bcdefgh"])
@override_settings(ROOT_URLCONF=__name__)
def test_an_odd_request_id_is_replaced(given):
    answer = Client().get("/fine/", HTTP_X_REQUEST_ID=given)

    assert re.fullmatch(r"[0-9a-f]{32}", answer.headers["X-Request-Id"])


@pytest.mark.parametrize("status", [400, 403, 404, 409, 413, 418, 500, 503])
def test_each_refusal_has_a_page_of_its_status(status):
    error = DomainError("In words.")
    error.status = status

    answer = pages.refusal(RequestFactory().get("/"), error)

    assert answer.status_code == status


def policy(answer):
    said = answer.headers["Content-Security-Policy"]
    return {name: values.split() for name, _, values in (part.strip().partition(" ") for part in said.split(";"))}


PAGES = ["/", "/c/", "/account/login/", "/account/signup/", "/account/password/reset/", "/nothing/", "/admin/login/"]


@pytest.mark.parametrize("address", [*PAGES, "/admin/"])
def test_every_page_forbids_what_it_does_not_need(world, address):
    """V-04, V-03: a fresh nonce of 128 bits or more, nothing inline, nothing framed."""
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.staff if address == "/admin/" else world.bob)
    if address.startswith("/account/"):
        client.logout()
    nonces = set()
    for _ in range(2):
        answer = client.get(address)
        rules = policy(answer)
        assert answer.headers["X-Frame-Options"] == "DENY"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"
        assert answer.headers["Referrer-Policy"] == "same-origin"
        assert rules["default-src"] == rules["img-src"] == rules["connect-src"] == rules["form-action"] == ["'self'"]
        assert rules["object-src"] == rules["base-uri"] == rules["frame-ancestors"] == ["'none'"]
        assert not {"'unsafe-inline'", "'unsafe-eval'", "*", "data:", "https:", "http:"} & {
            value for rule in rules.values() for value in rule
        }
        text = answer.content.decode()
        assert not re.search(r"<[^>]+\s(on\w+|style)\s*=", text)
        nonce = next((rule[7:-1] for rule in rules["script-src"] if rule.startswith("'nonce-")), None)
        for tag in re.findall(r"<(?:style|script)(?![^>]*\ssrc=)[^>]*>", text):
            assert nonce
            assert f'nonce="{nonce}"' in tag or 'type="application/json"' in tag
        if nonce:
            assert len(base64.b64decode(nonce + "==", altchars=b"-_")) >= 16
            assert nonce not in nonces
            nonces.add(nonce)


def test_pages_of_people_are_never_kept_by_caches(world):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.bob)

    assert {client.get(address).headers["Cache-Control"] for address in PAGES} <= {
        "no-store", "max-age=0, no-cache, no-store, must-revalidate, private",
    }  # fmt: skip


@pytest.mark.parametrize(
    "address",
    [
        "/.env", "/.git/config", "/metrics", "/debug", "/__debug__/", "/static/../chatsite/settings.py", "/var/run/env",
        "/static/js/chat-stream.js.map", "/manage.py", "/server-status", "/static/%2e%2e/manage.py",
    ],
)  # fmt: skip
def test_what_is_not_there_is_not_there(world, address):
    """A-20"""
    assert Client(headers={"host": "act.localhost"}).get(address).status_code == 404


def test_what_only_takes_forms_says_so_to_who_comes_to_read(world):
    """Who loads the answer to a form again from its address; a program gets what Django says."""
    browser = Client(headers={"host": "act.localhost", "accept": "text/html"})
    browser.force_login(world.alice)
    refused = browser.get("/manage/webhooks/make/")
    assert (refused.status_code, refused.headers["Allow"]) == (405, "POST")
    assert "only takes what a form sends" in refused.content.decode()
    assert not browser.get("/manage/webhooks/make/", headers={"accept": "*/*"}).content


def test_nobody_learns_a_version(world):
    """A-20: neither from headers nor from a page."""
    import django

    client = Client(headers={"host": "act.localhost"}, raise_request_exception=False)
    for address in (*PAGES, "/healthz", "/readyz", "/v1/models"):
        answer = client.get(address)
        assert django.get_version() not in answer.content.decode()
        assert "Python" not in str(answer.headers)
        assert "Django" not in str(answer.headers)
        assert {"Server", "X-Powered-By"} & answer.headers.keys() == set()


def test_a_request_larger_than_allowed_is_refused_and_stores_nothing(world):
    """F-01"""
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.bob)

    answer = client.post("/c/send/", {"text": "a" * 10_000_000})

    assert answer.status_code == 413
    assert "larger than one request may be" in answer.content.decode()
    with scope(SERVICE):
        assert not Conversation.objects.exists()


PRODUCTION = {
    "DEVELOPMENT": "0", "DEBUG": "0", "SECRET_KEY": "x9" * 30 + "abcdefghij", "ALLOWED_HOSTS": "chat.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://chat.example.com", "DATABASE_URL": "postgres://web@127.0.0.1:1/chat",
}  # fmt: skip


def manage(tmp_path, *words, **env):
    """A process with an environment of its own, and no files of the development servers."""
    clean = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return subprocess.run(
        [sys.executable, "-W", "error::UserWarning", str(ROOT / "manage.py"), *words],
        env={**clean, "VAR_DIR": str(tmp_path), **env},
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )


def test_production_settings_pass_django_s_own_deployment_check(tmp_path):
    """A-18"""
    done = manage(tmp_path, "check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)

    assert done.returncode == 0, done.stderr
    assert "no issues" in done.stdout


@pytest.mark.parametrize(
    ("check", "middleware"),
    [
        ("security.W001", SecurityMiddleware),
        ("security.W002", XFrameOptionsMiddleware),
        ("security.W003", CsrfViewMiddleware),
    ],
)
def test_a_check_is_silenced_only_where_a_subclass_of_ours_does_its_work(check, middleware):
    assert len(site.SILENCED_SYSTEM_CHECKS) == 3
    assert check in site.SILENCED_SYSTEM_CHECKS
    assert any(issubclass(import_string(name), middleware) for name in site.MIDDLEWARE)


def test_nothing_starts_without_a_secret_key(tmp_path):
    done = manage(tmp_path, "check", **{**PRODUCTION, "SECRET_KEY": ""})

    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr


def test_production_settings_are_strict(tmp_path):
    """Nothing of development is left when its files are not there: no hosts, no debug, cookies only over TLS."""
    ask = (
        "from django.conf import settings as s; print(s.DEBUG, s.ALLOWED_HOSTS, s.SESSION_COOKIE_SECURE, "
        "s.CSRF_COOKIE_SECURE, s.SESSION_COOKIE_HTTPONLY, s.SECURE_SSL_REDIRECT, s.SECURE_PROXY_SSL_HEADER, "
        "s.ACCOUNT_EMAIL_VERIFICATION, s.ALLAUTH_TRUSTED_PROXY_COUNT, s.USE_X_FORWARDED_HOST, s.EMAIL_BACKEND)"
    )

    done = manage(tmp_path, "shell", "--no-imports", "-c", ask, SECRET_KEY="x" * 60)

    assert done.stdout.strip() == (
        "False [] True True True True None mandatory 0 False django.core.mail.backends.smtp.EmailBackend"
    ), done.stderr


def test_settings_name_no_secret():
    """What is secret comes from the environment: the file itself may be published."""
    assert site.SECRET_KEY not in (ROOT / "chatsite" / "settings.py").read_text()
