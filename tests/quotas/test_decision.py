"""can_user_query() says what reserve() will do, in the same words, and what else could be done."""

import os
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.db import SERVICE, scope, serve
from lib.errors import DomainError
from quotas import ledger
from quotas.decision import can_user_query, check_conversation_limit
from quotas.errors import QuotaExceeded
from quotas.models import Account, Bucket, Hold
from tests.factories import make_user
from tests.quotas.proofs import ask, entitle, pack, prove

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
PRICE, CAP = 25_000, 10_000_000
BILLED = {
    "overage_allowed": True,
    "overage_price_microusd": PRICE,
    "overage_cap_microusd": CAP,
    "is_billable": True,
    "byok_allowed": True,
}


def decide(world, user=None, *, queries=1, tokens=1000, now=NOON, **fields):
    user = user or world.bob
    amounts = {"queries": queries, "tokens": tokens}
    return can_user_query(world.act, asker=("user", user.pk), amounts=amounts, now=now, **fields)


def use_up(world, count):
    for _ in range(count):
        ledger.settle(ask(world.act, world.bob, now=NOON), amounts={"queries": 1, "tokens": 10}, now=NOON)


def on_plan(world, limit, features=None, window="day"):
    entitle(world.act, world.bob, ("queries", window, limit), features=features or {}, now=NOON)


def chosen(world, **fields):
    with scope(SERVICE):
        Account.objects.filter(owner_id=world.bob.pk).update(**fields)


def rows():
    with scope(SERVICE):
        return Hold.objects.count(), sum(Bucket.objects.values_list("held", flat=True))


def test_a_question_in_the_plan_is_allowed_and_nothing_is_held(world):
    on_plan(world, 15)
    use_up(world, 3)
    before = rows()
    decision = decide(world)

    assert (decision.can_query, decision.reason, decision.pocket) == (True, "allowed", "plan")
    assert (decision.price_microusd, decision.ways, decision.requires_payment) == (0, (), False)
    assert decision.detail == "Your plan has 12 of 15 questions left."
    (meter,) = decision.meters
    assert (meter.meter, meter.limit, meter.used, meter.held, meter.left) == ("queries", 15, 3, 0, 12)
    assert meter.resets_at == datetime(2030, 6, 13, tzinfo=UTC)
    assert rows() == before
    prove(world)


def test_a_pack_and_overage_say_what_they_cost(world):
    on_plan(world, 1, BILLED)
    chosen(world, overage_on=True)
    use_up(world, 1)
    bought = pack(world.act, world.bob, 180, now=NOON, expires_at=NOON + timedelta(days=30))

    first = decide(world)
    ledger.take_back_pack(bought, amount=180, reason="refunded", actor_id=None)
    second = decide(world)
    own = decide(world, own_key=True)

    assert (first.pocket, first.price_microusd, first.detail) == ("pack", 0, "Your packs have 180 questions left.")
    assert [(row.left, row.limit, row.expires_at) for row in first.packs] == [(180, 180, NOON + timedelta(days=30))]
    assert (second.pocket, second.price_microusd) == ("overage", PRICE)
    assert second.detail == "It costs $0.025; $10.00 of your limit for this month are left."
    assert second.beyond is not None
    assert (second.beyond.cap_microusd, second.beyond.left_microusd) == (CAP, CAP)
    assert (own.pocket, own.price_microusd, own.can_query) == ("own_key", 0, True)
    prove(world)


USED = "user_queries_used_up"
DAY = "New ones come on 13 June at 00:00 (UTC)."
PACK, PLAN = "pack", "plan"
# plan's limit, features, the account's own, then: reason, ways, what the sentence says beside "All 2 questions of your plan
# are used."
REFUSALS = {
    "nothing else": (2, {}, {}, USED, ["wait", PACK, PLAN], DAY),
    "an own key would do": (2, {"byok_allowed": True}, {}, USED, ["wait", "own_key", PACK, PLAN], DAY),
    "overage was not chosen": (2, BILLED, {}, USED, ["wait", "overage", "own_key", PACK, PLAN], "at $0.025 each"),
    "not chosen, and no card": (
        2, BILLED | {"is_billable": False}, {}, USED, ["wait", "payment_method", "own_key", PACK, PLAN], DAY,
    ),
    "chosen, and no card": (
        2, BILLED | {"is_billable": False}, {"overage_on": True},
        "no_payment_method", ["wait", "payment_method", "own_key", PACK, PLAN], "once a payment method is stored",
    ),
    "something is owed": (
        2, BILLED, {"overage_on": True, "arrears_microusd": 500_000},
        "arrears", ["wait", "payment_method", "own_key", PACK, PLAN], "$0.50 are owed",
    ),
    "the member's own cap": (
        2, BILLED, {"overage_on": True, "overage_cap_microusd": 0},
        "own_cap_reached", ["wait", "overage", "own_key", PACK, PLAN], "Your own limit",
    ),
    "the plan's cap": (
        2, BILLED | {"overage_cap_microusd": PRICE - 1}, {"overage_on": True, "overage_cap_microusd": 9 * PRICE},
        "plan_cap_reached", ["wait", "own_key", PACK, PLAN], "The $0.024999 a month that may be charged",
    ),
    "the last payment failed": (
        2, BILLED | {"overage_allowed": False, "is_past_due": True}, {"overage_on": True},
        "past_due", ["wait", "payment_method", "own_key", PACK, PLAN], "Your last payment failed",
    ),
    "nothing is included": (0, {}, {}, "user_queries_not_included", [PACK, PLAN], "includes no questions"),
    "pay as you go without a card": (
        0, BILLED | {"is_billable": False, "overage_by_default": True}, {},
        "no_payment_method", ["payment_method", "own_key", PACK, PLAN], "Each costs $0.025, once a payment method",
    ),
    "pay as you go, cap reached": (
        0, BILLED | {"overage_by_default": True, "overage_cap_microusd": 0}, {},
        "plan_cap_reached", ["wait", "own_key", PACK, PLAN], "New ones come on 1 July at 00:00 (UTC).",
    ),
    "pay as you go, payment failed": (
        0, BILLED | {"overage_allowed": False, "is_past_due": True}, {},
        "past_due", ["payment_method", "own_key", PACK, PLAN], "Your last payment failed",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSALS)
def test_a_refusal_says_why_and_what_can_be_done(world, case):
    limit, features, own, reason, ways, said = REFUSALS[case]
    on_plan(world, limit, features)
    use_up(world, limit)
    chosen(world, **own)

    decision = decide(world)
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=NOON)

    assert (decision.can_query, decision.pocket, decision.reason, decision.ways) == (False, "", reason, ways)
    assert said in decision.detail
    assert decision.detail.endswith("Your text is kept, and nothing was charged.")
    assert decision.requires_payment
    assert (refused.value.detail, refused.value.extra) == (decision.detail, decision.refusal.extra)
    chosen(world, arrears_microusd=0)  # no line of the ledger proves what this test made up
    prove(world)


def test_an_empty_pool_is_the_brands_and_no_payment_of_the_members_helps(world):
    on_plan(world, None, {"byok_allowed": True})
    decision = decide(world, tokens=2_000_001)

    assert (decision.reason, decision.requires_payment) == ("brand_tokens_used_up", False)
    assert decision.ways == ["ask_admin", "wait", "own_key"]
    assert decide(world, tokens=2_000_001, own_key=True).can_query


def test_of_two_meters_that_are_short_the_same_one_is_told_however_the_database_orders_its_rows(world, monkeypatch):
    entitle(world.act, world.bob, ("queries", "day", 1), ("tokens", "day", 10), now=NOON)

    def backwards(*statements):
        lines, *others = serve(*statements)
        return [lines[::-1], *others]

    told = decide(world, queries=2)
    monkeypatch.setattr("quotas.decision.serve", backwards)
    assert decide(world, queries=2).reason == told.reason == "user_queries_used_up"


def test_without_a_plan_there_is_nothing_to_ask_with(world):
    decision = decide(world, make_user("dora@example.com"))

    assert (decision.can_query, decision.reason, decision.ways) == (False, "no_plan", ["plan", "ask_admin"])
    assert (decision.meters, decision.packs) == ([], [])


def test_no_limit_is_said_as_none(world):
    on_plan(world, None)
    use_up(world, 2)
    decision = decide(world)

    assert (decision.meters[0].limit, decision.meters[0].left, decision.meters[0].used) == (None, None, 2)
    assert decision.detail == "Your plan sets no limit to questions."


def test_too_many_at_once_is_not_a_matter_of_money(world):
    on_plan(world, 15, {"concurrent_turns": 1})
    ask(world.act, world.bob, now=NOON)
    decision = decide(world)

    assert (decision.can_query, decision.reason, decision.ways) == (False, "user_concurrent_turns", ["wait"])
    assert not decision.requires_payment


def test_the_sixth_conversation_waits_and_asking_on_does_not(world):
    """S2: 5 conversations a month; what was begun goes on."""
    entitle(world.act, world.bob, ("conversations", "month", 5), features={"unit": "conversations"}, now=NOON)
    for _ in range(5):
        amounts, reservation = {"queries": 1, "messages": 1, "conversations": 1, "tokens": 9}, uuid4()
        ledger.reserve(world.act, asker=("user", world.bob.pk), amounts=amounts, reservation=reservation, now=NOON)
        ledger.settle(reservation, amounts=amounts, now=NOON)
    sixth = check_conversation_limit(world.act, asker=("user", world.bob.pk), now=NOON)
    on = {"queries": 1, "messages": 1, "conversations": 0, "tokens": 9}
    further = can_user_query(world.act, asker=("user", world.bob.pk), amounts=on, now=NOON)
    next_month = check_conversation_limit(world.act, asker=("user", world.bob.pk), now=NOON + timedelta(days=20))

    assert (sixth.can_query, sixth.reason) == (False, "user_conversations_used_up")
    assert sixth.detail.startswith("All 5 conversations of your plan are used. New ones come on 1 July")
    assert further.can_query
    assert next_month.can_query
    prove(world)


UNITS = ["queries", "messages", "conversations"]
flags = st.booleans()
small = st.integers(0, 3)
ACCOUNTS = st.fixed_dictionaries(
    {
        "has_plan": st.sampled_from([True] * 9 + [False]),
        "unit": st.sampled_from(UNITS),
        "limit": st.none() | small,
        "has_tokens": flags,
        "token_limit": st.none() | st.integers(0, 40),
        "packs": st.lists(st.tuples(st.integers(1, 3), st.none() | st.integers(1, 48)), max_size=3),
        "overage_allowed": flags,
        "overage_by_default": flags,
        "is_billable": flags,
        "is_past_due": flags,
        "byok_allowed": flags,
        "price": st.sampled_from([0, 1, PRICE]),
        "plan_cap": st.sampled_from([0, PRICE, 3 * PRICE]),
        "own_cap": st.none() | st.sampled_from([0, PRICE, 9 * PRICE]),
        "overage_on": flags,
        "arrears": st.sampled_from([0, 0, 0, 5]),
        "concurrent_turns": st.none() | st.integers(1, 2),
        "pool": st.none() | st.integers(0, 60),
        "asked_before": st.lists(st.tuples(small, st.integers(0, 20), flags), max_size=5),
        "amount": small,
        "tokens": st.integers(0, 30),
        "own_key": flags,
        "hours": st.sampled_from([0, 0, 13, 49, 24 * 40]),
    }
)


@settings(
    max_examples=int(os.environ.get("DECISION_EXAMPLES", "60")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(account=ACCOUNTS)
def test_the_decision_is_what_reserve_does(world, account):
    """For whatever account: allowed if and only if it is held, from the same pocket, refused in the same words."""
    asker, brand = ("user", uuid4()), world.act
    brand_grants = [] if account["pool"] is None else [ledger.Grant("tokens", "month", account["pool"])]
    ledger.entitle(brand, kind="brand", owner_id=brand.pk, grants=brand_grants, now=NOON)
    features = {
        "unit": account["unit"],
        "overage_price_microusd": account["price"],
        "overage_cap_microusd": account["plan_cap"],
        **{name: account[name] for name in ("overage_allowed", "overage_by_default", "is_billable", "is_past_due")},
        **{name: account[name] for name in ("byok_allowed", "concurrent_turns")},
    }
    grants = [ledger.Grant(account["unit"], "day", account["limit"])]
    if account["has_tokens"]:
        grants.append(ledger.Grant("tokens", "lifetime", account["token_limit"]))
    ledger.entitle(
        brand, kind="user", owner_id=asker[1], grants=grants if account["has_plan"] else [], features=features, now=NOON
    )
    for amount, hours in account["packs"]:
        ends = hours and NOON + timedelta(hours=hours)
        person = type("Person", (), {"pk": asker[1]})
        pack(brand, person, amount, meter=account["unit"], expires_at=ends, now=NOON)
    with scope(SERVICE):
        Account.objects.filter(owner_id=asker[1]).update(
            overage_on=account["overage_on"], overage_cap_microusd=account["own_cap"]
        )
    for amount, tokens, is_settled in account["asked_before"]:
        amounts, turn = {account["unit"]: amount, "tokens": tokens}, uuid4()
        try:
            ledger.reserve(brand, asker=asker, amounts=amounts, reservation=turn, now=NOON)
        except DomainError:
            continue
        if is_settled:
            ledger.settle(turn, amounts=amounts, now=NOON)
    with scope(SERVICE):
        Account.objects.filter(owner_id=asker[1]).update(arrears_microusd=account["arrears"])
    now = NOON + timedelta(hours=account["hours"])
    asked = {"asker": asker, "amounts": {account["unit"]: account["amount"], "tokens": account["tokens"]}, "now": now}

    decision = can_user_query(brand, own_key=account["own_key"], **asked)
    try:
        pocket, refusal = ledger.reserve(brand, own_key=account["own_key"], reservation=uuid4(), **asked), None
    except DomainError as refused:
        pocket, refusal = "", refused

    assert (decision.can_query, decision.pocket) == (refusal is None, pocket)
    if refusal is not None:
        assert (type(decision.refusal), decision.detail, decision.refusal.extra) == (
            type(refusal),
            refusal.detail,
            refusal.extra,
        )
        assert decision.ways
    if pocket == "overage":
        assert decision.price_microusd == account["amount"] * account["price"]
