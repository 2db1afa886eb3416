"""The page says what the next question costs, where nothing is left which ways lead on, and afterwards who paid."""

import json

import pytest
from django.test import Client

from conversations.chats import reading
from conversations.doors import errors
from conversations.engine import beginning
from conversations.engine.turns import Question
from conversations.models import Turn
from lib.db import SERVICE, scope
from providers import offers
from providers.calls import Usage
from quotas import ledger, words
from quotas.errors import QuotaExceeded
from quotas.models import Account, Bucket, Hold
from tests import factories
from tests.conversations.test_turns import finish
from tests.quotas.proofs import entitle, pack, prove

BILLED = {
    "overage_allowed": True,
    "overage_price_microusd": 25_000,
    "overage_cap_microusd": 10_000_000,
    "is_billable": True,
    "byok_allowed": True,
}


@pytest.fixture
def world(world):
    offers.forget()
    yield world
    offers.forget()
    prove(world)


@pytest.fixture
def page(world):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.bob)
    return lambda path="/c/": client.get(path).content.decode()


def on_plan(world, limit, features=None, *, is_on=False):
    entitle(world.act, world.bob, ("queries", "day", limit), features=features or {})
    with scope(SERVICE):
        Account.objects.filter(owner_id=world.bob.pk).update(overage_on=is_on)


def price_on(text):
    return text.split('id="composer-price">')[1].split("<")[0]


def asked(world, **fields):
    begun = beginning.begin(factories.member(world.act, world.bob), world.act, Question(text="Hello?", **fields))
    finished = finish(begun, usage=Usage(12, 8))
    return begun, finished


def test_the_price_stands_beside_the_button_before_anything_is_sent(world, page):
    on_plan(world, 2, BILLED, is_on=True)
    assert price_on(page()) == "1 question"
    asked(world), asked(world)
    assert price_on(page()) == "$0.025 of your $10.00"
    pack(world.act, world.bob, 180)
    assert price_on(page()) == "Your pack: 180 left"


def test_asking_on_in_a_chat_that_is_paid_costs_nothing(world, page):
    """S2"""
    entitle(world.act, world.bob, ("conversations", "month", 1), features={"unit": "conversations"})
    assert price_on(page()) == "1 conversation"
    begun, _ = asked(world)

    assert price_on(page(f"/c/{begun.conversation_id}/")) == "Not counted in this chat"
    assert "All 1" not in page()
    assert "The one conversation of your plan is used." in page()


@pytest.mark.parametrize("free", ["stopped before a word came", "paid by an own key"])
def test_a_chat_counts_until_the_plan_has_paid_an_answer_of_it(world, page, free):
    """S2: whoever stops the first answer at once, or lets a key of his own pay it, has not begun a chat for nothing."""
    entitle(world.act, world.bob, ("conversations", "month", 1), features={"unit": "conversations"})
    begun = beginning.begin(factories.member(world.act, world.bob), world.act, Question(text="Hello?"))
    if free == "paid by an own key":
        with scope(SERVICE):
            Turn.objects.filter(pk=begun.turn_id).update(pocket="own_key")
            Hold.objects.filter(reservation=begun.turn_id).delete()
            Bucket.objects.update(held=0)
        finish(begun, usage=Usage(12, 8))
    else:
        finish(begun, status="stopped", text="", own=0)
    chat, path = begun.conversation_id, f"/c/{begun.conversation_id}/"
    assert price_on(page(path)) == "1 conversation"
    asked(world, conversation_id=chat)

    assert price_on(page(path)) == "Not counted in this chat"
    asked(world, conversation_id=chat)
    with scope(SERVICE):
        assert Bucket.objects.get(meter="conversations", owner_id=world.bob.pk).used == 1
    with pytest.raises(QuotaExceeded):
        asked(world)


def test_a_meter_grows_amber_at_four_fifths_and_then_says_that_nothing_is_left(world, page):
    on_plan(world, 5)
    levels = []
    for _ in range(5):
        asked(world)
        levels.append('data-level="high"' in page() or ('data-level="full"' in page() and "full"))

    assert levels == [False, False, False, True, "full"]


@pytest.mark.parametrize(
    ("features", "links"),
    [
        (
            BILLED,
            {"/settings/keys/": "Use my key", "/settings/plan/": "Allow extra, $0.025 each", "/pricing/": "See plans"},
        ),
        ({}, {"/pricing/": "See plans and packs"}),
        (BILLED | {"is_billable": False}, {"/settings/plan/": "Store a payment method"}),
    ],
)
def test_where_nothing_is_left_the_ways_on_are_links_before_and_after_sending(world, page, features, links):
    on_plan(world, 0, features)
    client = Client(headers={"host": "act.localhost", "hx-request": "true"})
    client.force_login(world.bob)
    refused = client.post("/c/send/", {"text": "Hello?"})
    plain = Client(headers={"host": "act.localhost"})
    plain.force_login(world.bob)
    without_js = plain.post("/c/send/", {"text": "Keep this"})

    assert (refused.status_code, without_js.status_code) == (402, 402)
    assert "Keep this" in without_js.content.decode()
    for text in (page(), refused.content.decode(), without_js.content.decode()):
        note = text.split('id="composer-note"')[1].split("data-retry")[0]
        for address, label in links.items():
            assert f'href="{address}' in note
            assert label in note
    assert price_on(page()) == ""


def test_a_used_up_plan_says_what_pays_instead(world, page):
    on_plan(world, 1)
    asked(world)
    assert "Nothing left. Starts again" in page()

    pack(world.act, world.bob, 180)

    assert "Nothing left on this plan. Your packs have 180 questions left." in page()


def test_pay_per_use_has_no_meter_of_nothing_and_at_the_own_limit_that_is_raised(world, page):
    """What may go beyond the plan is allowed already: "Allow extra" would lead nowhere."""
    on_plan(world, 0, BILLED | {"overage_by_default": True})
    assert price_on(page()) == "$0.025 of your $10.00"
    assert "Nothing left" not in page()

    ledger.set_overage(world.act, world.bob.pk, on=False, cap_microusd=10_000, actor_id=None)

    assert "Raise my limit" in page()
    assert "Allow extra" not in page()


@pytest.mark.parametrize("pocket", ["plan", "pack", "overage"])
def test_the_receipt_says_who_paid(world, page, pocket):
    on_plan(world, 1 if pocket == "plan" else 0, BILLED, is_on=True)
    if pocket == "pack":
        pack(world.act, world.bob, 1)
    begun, finished = asked(world)
    said = {"plan": "", "pack": "from your pack", "overage": "$0.025 beyond your plan"}[pocket]
    alice = factories.member(world.act, world.bob)
    with scope(alice):
        owed = reading.owed(alice, begun.turn_id)
        _, stored = reading.progress(alice, begun.turn_id)
        (_, listed) = reading.messages(alice, begun.conversation_id)
    live = reading.ended(begun.answer_id, "Demo", finished, "", begun.pocket, owed)

    assert begun.pocket == pocket
    assert [message["receipt"]["paid"] for message in (stored, listed, live)] == [said] * 3
    assert said in page(f"/c/{begun.conversation_id}/")


def test_an_own_key_is_not_counted(world, page):
    """Both are on the page, for whichever model is picked."""
    on_plan(world, 2, BILLED)

    assert 'data-plan="1 question" data-own="Your key: not counted"' in page()
    assert price_on(page()) == "1 question"
    assert words.paid("own_key", 0) == "your own key"


def test_a_program_is_told_the_ways_on_in_its_vendors_shape(world):
    on_plan(world, 0, BILLED)
    with pytest.raises(QuotaExceeded) as refused:
        asked(world)
    openai = json.loads(errors.openai(refused.value).content)["error"]
    anthropic = json.loads(errors.anthropic(refused.value).content)["error"]

    assert (openai["code"], openai["requires_payment"]) == ("insufficient_quota", True)
    assert openai["ways"] == anthropic["details"]["ways"] == ["overage", "own_key", "pack", "plan"]
    assert anthropic["details"]["reason"] == openai["reason"] == "user_queries_not_included"
