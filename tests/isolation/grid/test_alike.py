"""What tells nobody anything: a foreign row looks like none, and a header changes nothing."""

import re
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.db import transaction

from tests.isolation import policy
from tests.isolation.grid.routes import ROUTES, WHOLE, either, methods
from tests.isolation.grid.scene import ask, body_of

pytestmark = pytest.mark.timeout(600)  # one actor is hundreds of requests, on a busy machine too
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
SPOOFED = {
    "x-forwarded-host": "globex.localhost", "x-forwarded-for": "127.0.0.1", "x-forwarded-user": "alice@example.com",
    "x-forwarded-proto": "https", "x-brand-id": "globex", "x-http-method-override": "DELETE", "x-request-from": "internal",
    "x-original-url": "/admin/", "x-rewrite-url": "/admin/", "remote-user": "alice@example.com", "x-user-id": "1",
    "x-api-key": "sk_0123456789ab_" + "a" * 43, "x-real-ip": "127.0.0.1", "forwarded": "host=globex.localhost",
}  # fmt: skip


def plain(text, *ids):
    """A body without what differs between any two requests."""
    text = re.sub(r'nonce="[^"]+"|value="\w{64}"|"X-CSRFToken":"\w+"', "", text)
    text = re.sub(r'"exported_at": "[^"]+"', "", text)
    text = re.sub(r"/stand-in/(\w+)/\w+/", r"/stand-in/\1/", text)  # a page of one's own, made for this visit
    text = re.sub(r"whsec_[\w+/=-]+", "", text)  # a new one each time
    text = re.sub(r"\b(state|code_challenge)=[\w-]+", "", text)  # of a log-in elsewhere
    text = re.sub(r'"\d{4}-\d\d-\d\dT[\d:.]+\+00:00"', '""', text)  # when it was asked
    return UUID.sub("", text)


PRYING = ["same_brand", "brand_admin", "other_brand", "other_brand_at_home", "removed", "staff", "anonymous", "key"]
PRYING += ["visitor", "visitor_other"]


@pytest.mark.parametrize("actor", PRYING)
def test_a_foreign_row_looks_like_one_that_never_was(scene, actor):
    """I-03"""
    client = scene.browser(actor)
    for route in ROUTES:
        rule = policy.of(route.name, route.template)
        if not route.has_row:
            continue
        for method in methods(route, actor):
            seen = []
            is_rest = isinstance(rule, policy.Api | policy.Apis) and actor != "other_brand_at_home"  # whose own it is
            of_others = is_rest or (actor == "brand_admin" and route.name in policy.READ_BY_ADMINS)
            foreign = {name: scene.rows[f"their_{name}"] for name in ("conversation_id", "turn_id")}
            theirs = foreign if of_others else {}
            for rows in (theirs, {"conversation_id": uuid4(), "turn_id": uuid4()}):
                client.cookies.pop("messages", None)  # what the request before this one had to say
                with transaction.atomic():
                    answer, text = ask(client, method, scene.address(route, **rows), body_of(rule, method))
                    transaction.set_rollback(True)
                seen.append((answer.status_code, plain(text), plain(answer.headers.get("Location", ""))))

            assert seen[0] == seen[1], (method, route.name)


SPOOFING = ["anonymous", "owner", "key", "helper"]
SPOOFING += ["same_brand", "other_brand", "removed", "key_revoked"] if WHOLE else []


@pytest.mark.parametrize("actor", SPOOFING)
def test_no_header_gives_anybody_anything(scene, actor):
    """I-12"""
    for route in ROUTES:
        if route.is_admin and not WHOLE and (actor not in ("anonymous", "helper") or ROUTES.index(route) % 4):
            continue  # one door, which everybody comes to
        rule, address = policy.of(route.name, route.template), scene.address(route)
        for method in ("GET", "POST") if WHOLE else (either(route, actor),):
            seen = []
            spoofed = dict(SPOOFED)
            if isinstance(rule, policy.Key | policy.Api | policy.Apis):
                del spoofed[
                    "x-api-key"
                ]  # is a credential there; two that differ are refused (I-09, test_messages_door)
            for headers in ({}, spoofed):
                cache.clear()  # or the second of two is one too many in this minute
                with transaction.atomic():
                    answer, text = ask(scene.browser(actor), method, address, body_of(rule, method), **headers)
                    transaction.set_rollback(True)
                text = (
                    "" if isinstance(rule, policy.Key | policy.Api | policy.Apis) and method == "POST" else plain(text)
                )
                seen.append((answer.status_code, text, plain(answer.headers.get("Location", ""))))

            assert seen[0] == seen[1], (method, route.name)
