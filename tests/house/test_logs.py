"""What the log says, and what it never says. A-16, O-16."""

import json
import logging
import sys
import uuid

import pytest
from django.conf import settings
from django.db import DataError, IntegrityError, connection, transaction
from django.test import Client, override_settings
from django.urls import path

from chatsite.urls import handler400, handler403, handler404, handler500  # noqa: F401 - these are the real ones
from lib import logs
from lib.secret import Secret

CANARY = "canary-4711-text"


@pytest.fixture
def lines(monkeypatch):
    """Everything the root logger's own handler writes, in JSON, as the lines of production."""
    written = []
    formatter = logging.Formatter()
    production = logs.config(json=True, level="INFO", access=True)["formatters"]["line"]
    factory = production.pop("()")
    formatter = factory(**production)

    class Kept(logging.Handler):
        def emit(self, record):
            written.append(json.loads(formatter.format(record)))

    kept, root, access = Kept(), logging.getLogger(), logging.getLogger("chatsite.access")
    root.addHandler(kept)
    before, _ = access.level, access.setLevel("INFO")
    logs.request_id.set("")
    yield written
    access.setLevel(before)
    root.removeHandler(kept)


def boom(request, token=""):
    raise ValueError("sk_0123456789ab_" + "x" * 43)


urlpatterns = [path("boom/<token>/", boom), path("fine/<uuid:row_id>/", lambda request, row_id: boom(request))]
log = logging.getLogger("tests")


@pytest.mark.parametrize(
    "said",
    [
        "the key sk_0123456789ab_canary was sent", "Authorization: Bearer canaryXYZ123", "sk-proj-canary0123456789",
        "postgres://web:canary@db.internal/chat", "redis://:canary@127.0.0.1:6379/0", "whsec_canary0123",
        "/login?password=canary&next=/", "cookie: sessionid=canary0123456789; csrftoken=canary9876543210",
    ],
)  # fmt: skip
def test_what_looks_like_a_secret_is_blotted_out_wherever_it_stands(lines, said):
    log.warning("It said: %s", said)
    log.warning("event", extra={"reason": said})
    try:
        raise ValueError(said)
    except ValueError:
        log.exception("failed")

    assert len(lines) == 3
    assert "canary" not in json.dumps(lines)
    assert "[secret]" in json.dumps(lines)


def test_a_line_says_only_what_is_on_the_list_and_a_secret_never_prints(lines):
    log.info("event", extra={"route": "v1/models", "text": CANARY, "headers": {"a": CANARY}, "reason": Secret(CANARY)})

    assert lines[0] == {
        "event": "event", "route": "v1/models", "reason": "Secret(…)", "level": "info", "logger": "tests",
        "timestamp": lines[0]["timestamp"],
    }  # fmt: skip


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("sql", "error", "left"),
    [
        (
            "insert into django_content_type (app_label, model) values (null, %s)",
            IntegrityError,
            "null value in column",
        ),
        ("select %s::int", DataError, "SQLSTATE 22P02"),
        ("select %s::uuid", DataError, "SQLSTATE 22P02"),
    ],
)
def test_an_error_of_the_database_names_the_rule_and_not_the_row(lines, one_connection, sql, error, left):
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute("set local role app_service")
            cursor.execute(sql, [CANARY])
    except error:
        log.exception("refused")

    assert CANARY not in json.dumps(lines)
    assert left in lines[0]["exception"]
    assert "test_logs.py" in lines[0]["exception"], "where it happened is still told"


@override_settings(ROOT_URLCONF=__name__)
def test_a_crash_is_told_with_its_place_and_its_request_but_not_with_its_address(lines):
    answer = Client(raise_request_exception=False, headers={"x-request-id": "request-4711"}).get("/boom/reset-canary/")

    assert answer.status_code == 500
    crash, access = lines
    assert "canary" not in json.dumps(lines)
    assert (crash["level"], crash["request_id"], crash["event"]) == ("error", "request-4711", "Internal Server Error")
    assert "in boom" in crash["exception"]
    assert (access["route"], access["status"], access["request_id"]) == ("boom/<token>/", 500, "request-4711")


@override_settings(ROOT_URLCONF=__name__)
def test_the_access_line_names_routes_and_not_rows(lines):
    client = Client(raise_request_exception=False)
    client.get(f"/fine/{uuid.uuid4()}/?q={CANARY}")
    client.get(f"/nowhere/{CANARY}")
    client.generic("BREW", f"/{CANARY}")

    told = [(line["method"], line["route"], line["status"]) for line in lines if line["logger"] == "chatsite.access"]
    assert told == [("GET", "fine/<uuid:row_id>/", 500), ("GET", "nowhere", 404), ("other", "nowhere", 404)]
    assert all(line["ms"] >= 0 for line in lines if "ms" in line)


def test_nobody_is_mailed_whole_requests():
    """Django's own handler sends ADMINS the cookies and the form of whoever met a bug."""
    handlers = {handler for logger in settings.LOGGING["loggers"].values() for handler in logger.get("handlers", [])}

    assert handlers == set()
    assert [type(handler).__name__ for handler in logging.getLogger("django").handlers] == []


def test_people_get_text_with_the_same_care():
    production = logs.config(json=False, level="INFO", access=False)["formatters"]["line"]
    formatter = production.pop("()")(**production)
    try:
        raise ValueError("Bearer canary012345")
    except ValueError:
        record = logging.LogRecord("x", logging.ERROR, __file__, 1, "It %s", ("broke",), sys.exc_info())

    text = formatter.format(record)

    assert "error   x: It broke" in text
    assert "ValueError: [secret]" in text
    assert "canary" not in text
