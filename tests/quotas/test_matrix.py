"""Every plan of the four catalogues × who pays × how the turn ends, against the table in matrix.py."""

from uuid import uuid4

import pytest

from accounts.models import Brand
from billing import plans
from billing.models import Plan
from conversations.engine import beginning, reaper, turns
from conversations.engine.turns import Question
from conversations.models import Turn
from lib.db import SERVICE, scope
from providers import offers
from providers.calls import Usage
from providers.errors import CutOff
from quotas import ledger
from quotas.decision import can_user_query
from quotas.errors import QuotaExceeded
from quotas.models import Account, Bucket, Hold, UsageLog
from tests import factories
from tests.conversations.test_turns import finish
from tests.quotas.matrix import OUTCOMES, PLANS, PRICE_MICROUSD, STATES
from tests.quotas.proofs import pack, prove

PROMPT, COMPLETION = 12, 8
UNITS = {"queries": 1, "messages": 1, "conversations": 1}


@pytest.fixture
def world(world):
    offers.forget()
    yield world
    offers.forget()
    prove(world)


def make_brand(catalogue):
    with scope(SERVICE):
        brand = Brand.objects.create(slug=catalogue, name=catalogue, domain=f"{catalogue}.localhost", default_plan="")
        plans.install_catalogue(brand, catalogue)
        for pool in Plan.objects.filter(brand=brand, subject="brand"):
            plans.assign_plan(brand, pool)
    return brand


def prepare(brand, user, *, unit, limit, state):
    """Bring a member who is on a plan into the state that the table names."""
    if state != "room":
        if limit is None:  # what is spent of S0 is the brand's pool
            spend(brand, user, {"tokens": left_of_pool(brand)})
        elif limit:
            spend(brand, user, {unit: limit})
    if state == "pack":
        pack(brand, user, 10, meter=unit)
    if state == "charged":
        with scope(SERVICE):
            account = Account.objects.get(brand=brand, owner_id=user.pk)
            account.features["is_billable"] = True
            account.overage_on = True
            account.save()


def spend(brand, user, amounts):
    turn = uuid4()
    ledger.reserve(brand, asker=("user", user.pk), amounts={"queries": 0, **amounts}, reservation=turn)
    ledger.settle(turn, amounts=amounts)


def left_of_pool(brand):
    with scope(SERVICE):
        bucket = Bucket.objects.filter(brand=brand, owner_id=brand.pk, meter="tokens").get()
        return bucket.limit - bucket.used


def end(brand, user, outcome):
    """Ask one question in a new chat and let it end; returns the turn's id, and the pocket that was to pay."""
    principal = factories.member(brand, user)
    if outcome == "never begun":
        turn = uuid4()
        pocket = ledger.reserve(brand, asker=("user", user.pk), amounts=UNITS | {"tokens": 500}, reservation=turn)
        reaper.give_back(turn)
        return turn, pocket
    begun = beginning.begin(principal, brand, Question(text="Hello?"))
    match outcome:
        case "done":
            finish(begun, usage=Usage(PROMPT, COMPLETION))
        case "stopped":
            finish(begun, status="stopped", usage=Usage(PROMPT, COMPLETION))
        case "stopped before":
            finish(begun, status="stopped", text="", own=0)
        case "failed before":
            finish(begun, status="failed", text="", own=0, error=CutOff())
        case "cut off":
            finish(begun, status="failed", error=CutOff(), usage=Usage(PROMPT, COMPLETION))
        case "crashed with text" | "crashed before":
            if outcome == "crashed with text":
                turns.checkpoint([(begun.turn_id, "As far as", COMPLETION)])
            with scope(SERVICE):
                turn = Turn.objects.get(pk=begun.turn_id)
            reaper._end(turn, begun.offer)
    return begun.turn_id, begun.pocket


def with_own_key(brand, user, outcome):
    """The same for a call with an own key, which the meter sees as holds of nothing (test_own_keys asks with real ones)."""
    turn = uuid4()
    amounts = UNITS | {"tokens": 500}
    pocket = ledger.reserve(brand, asker=("user", user.pk), amounts=amounts, reservation=turn, own_key=True)
    used = UNITS | {"tokens": PROMPT + COMPLETION} if OUTCOMES[outcome] else {}
    ledger.settle(turn, amounts=used)
    return turn, pocket


def used(brand, user):
    """What stands as used, by pocket and meter; of the brand's pool too."""
    with scope(SERVICE):
        assert not Hold.objects.filter(brand=brand).exists()
        rows = Bucket.objects.filter(brand=brand, owner_id__in=[user.pk, brand.pk], used__gt=0)
        return {(row.pocket, row.meter): row.used for row in rows}


@pytest.mark.parametrize("catalogue", ["s0", "s1", "s2", "s3"])
def test_the_table_holds_in_every_cell(world, catalogue):
    """Q-05 to Q-10, Q-20, Q-21, Q-27 for each plan; 13 plans × 5 states × 8 outcomes."""
    brand, wrong, cells = make_brand(catalogue), [], 0
    with scope(SERVICE):
        here = {plan.code: plan for plan in Plan.objects.filter(brand=brand, subject="member")}
    assert set(here) == {code for of, code in PLANS if of == catalogue}
    for (of, code), (unit, limit, window, payers) in PLANS.items():
        if of != catalogue:
            continue
        states = dict(zip(STATES, payers, strict=True))
        for state, payer in states.items():
            user = factories.make_user(f"{code}-{state}@example.com")
            with scope(SERVICE):
                factories.Membership.objects.create(brand=brand, user=user)
                plans.assign_plan(brand, here[code], user_id=user.pk)
            prepare(brand, user, unit=unit, limit=limit, state=state)
            decision = can_user_query(brand, asker=("user", user.pk), amounts=UNITS | {"tokens": 1})
            meter = decision.meter(unit)
            assert (decision.unit, meter and (meter.limit, meter.window)) == (unit, (limit, window))
            assert decision.is_own_key_allowed == (states["key"] == "own_key")
            for outcome, counts in OUTCOMES.items():
                cells += 1
                before = used(brand, user)
                ask = with_own_key if state == "key" and payer else end
                try:
                    turn, pocket = ask(brand, user, outcome)
                except QuotaExceeded:
                    turn, pocket = None, None
                after = used(brand, user)
                grown = {
                    place: after[place] - before.get(place, 0) for place in after if after[place] != before.get(place)
                }
                with scope(SERVICE):
                    logged = list(
                        UsageLog.objects.filter(reservation=turn).values_list(
                            "pocket", "overage", "total_cost_microusd"
                        )
                    )
                expected = expect(payer, unit, counts, has_pool=catalogue == "s0")
                grown = {place: count for place, count in grown.items() if place[1] != "tokens"} | (
                    {("plan", "tokens"): True} if ("plan", "tokens") in grown else {}
                )
                lines = [] if state == "key" or not (payer and counts) else [(payer, *cost(payer))]
                if (pocket, grown, logged) != (payer, expected, lines):
                    wrong.append(
                        f"{code}, {state}, {outcome}: {(pocket, grown, logged)}, not {(payer, expected, lines)}"
                    )

    assert wrong == [], "\n".join(wrong)
    assert cells == sum(of == catalogue for of, _ in PLANS) * 5 * len(OUTCOMES)


def expect(payer, unit, counts, *, has_pool):
    """What must have grown, and by how much: of exactly one pocket; the brand's pool beside it, by the tokens."""
    if not counts or payer in (None, "own_key"):
        return {}
    grown = {("overage", "overage_microusd"): PRICE_MICROUSD} if payer == "overage" else {(payer, unit): 1}
    return grown | ({("plan", "tokens"): True} if has_pool else {})


def cost(payer):
    return (True, PRICE_MICROUSD) if payer == "overage" else (False, 0)
