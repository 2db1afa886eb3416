"""What a German member is refused is said in German: every sentence, wherever it was made."""

import re
from types import SimpleNamespace

import pytest
from django.test import Client
from django.utils import translation

from conversations.errors import StillAnswering
from lib import clock
from providers import breaker, errors
from quotas import alerts, words
from quotas.models import Account, Bucket

BOB = {"login": "bob@act.example", "password": "bob"}
ENGLISH = re.compile(r"\b(the|this|your|you|is|are|not|nothing|of|and|it|try again)\b", re.IGNORECASE)


def assert_german(text):
    assert text
    assert not ENGLISH.search(text), text


def used_up(**facts):
    usual = {
        "kind": "user", "meter": "queries", "limit": 30, "taken": 30, "amount": 1, "closes_at": clock.now(), "cap": 5_000_000,
        "arrears_microusd": 20_000, "cap_closes_at": None, "is_unit": True, "overage_on": True, "own_cap": None,
        "bucket_id": None, "plan_code": "free",
    }  # fmt: skip
    return SimpleNamespace(**(usual | facts))


def every_limit(brand):
    """The refusals of quotas, one of each sentence."""
    yield words.no_plan(brand)
    for own, limit in (("user", 1), ("user", 3), ("brand", 1), ("brand", 3)):
        yield words.too_many_running(own, limit)
    paying = {"overage_allowed": True, "overage_price_microusd": 25_000, "overage_cap_microusd": 10_000_000}
    for features in ({}, {"is_past_due": True}, paying, paying | {"is_billable": True}):
        for facts in (
            {},
            {"limit": 0},
            {"limit": 1},
            {"taken": 12},
            {"arrears_microusd": 0},
            {"own_cap": 1, "arrears_microusd": 0},
        ):
            for meter in ("queries", "tokens"):
                yield words.refusal(used_up(meter=meter, **facts), features, brand=brand, is_own=True)
    for kind in ("brand", "agent", "user"):
        for closes_at in (None, clock.now()):
            yield words.refusal(used_up(kind=kind, closes_at=closes_at), {}, brand=brand, is_own=False)


@pytest.mark.django_db
def test_a_german_member_is_refused_in_german(world):
    client = Client(headers={"host": "act.localhost", "accept-language": "de", "hx-request": "true"})
    nobody = "00000000-0000-7000-8000-000000000000"
    refused = [
        client.get(f"/c/{nobody}/"),
        client.get("/no-such-page/"),
    ]
    assert client.post("/account/login/", BOB).status_code in (200, 302)
    client.force_login(world.bob, backend="django.contrib.auth.backends.ModelBackend")
    refused += [
        client.get(f"/c/{nobody}/"),
        client.post("/settings/keys/change/", {"do": "store", "vendor": "openai", "key": "sk-x"}),
        client.get("/manage/plan/"),
        client.post("/c/send/", {"text": ""}),
        client.post("/c/send/", {"text": "x" * 100_001}),
    ]
    for response in refused:
        if response.status_code >= 400 and response.status_code != 405:
            text = re.sub(r"<script.*?</script>|<[^>]*>|&\w+;", " ", response.content.decode(), flags=re.S)
            assert_german(text)
    assert sum(response.status_code >= 400 for response in refused) >= 4

    with translation.override("de"):
        for limit in every_limit(world.act):
            assert_german(limit.detail)
        assert_german(str(StillAnswering()))
        for kind in (
            errors.ProviderError,
            errors.KeyRefused,
            errors.Busy,
            errors.Rejected,
            errors.Down,
            errors.Garbled,
        ):
            failure = kind(retry_after=7)
            failure.name("Swift")
            assert_german(failure.detail)
            assert failure.detail.startswith("Swift "), failure.detail
        rest = SimpleNamespace(is_busy=False, wait_s=lambda: 3.0)
        assert_german(breaker.refusal(rest).detail)
        for pocket in (Bucket.Pocket.PLAN, Bucket.Pocket.OVERAGE):
            for kind in (Account.Kind.USER, Account.Kind.BRAND):
                bucket = SimpleNamespace(
                    kind=kind, pocket=pocket, meter="queries", used=90, limit=100, closes_at=clock.now(), id=1
                )
                for said in alerts.words(alerts.Alert(bucket, world.act, world.bob.pk)):
                    assert_german(said)
    assert (
        client.get("/api/v1/conversations/no/", headers={"accept-language": "de"}).headers["Content-Language"] == "en"
    )
