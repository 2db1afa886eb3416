"""Q-01: any order of events, on real PostgreSQL, against a model in plain Python; every invariant after every step.

CI runs a small version. `SOAK_EXAMPLES=1000 SOAK_STEPS=50` is the full one; `SOAK_SEED=…` repeats a run.
"""

import contextlib
import os
import random
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from lib.db import SERVICE, scope
from lib.errors import Invalid
from lib.ids import uuid7
from quotas import ledger
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import Bucket, Entry, Hold
from tests.factories import make_member
from tests.quotas.proofs import numbers, prove, together

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "40"))
STEPS = int(os.environ.get("SOAK_STEPS", "25"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))

START = datetime(2030, 1, 30, 12, tzinfo=UTC)
PLANS = {
    "none": {},
    "free": {"queries": ("lifetime", 4)},
    "day": {"queries": ("day", 3)},
    "two meters": {"queries": ("day", 6), "tokens": ("month", 900)},
    "no limit": {"queries": ("month", None)},
    "nothing": {"queries": ("month", 0)},
}
POOLS = [0, 500, 2000, None]
CAPS = {"free": 2, "two meters": 5}  # answers at once on these plans; the others have the default, which nobody reaches
POOL_CAPS = {2000: 7, None: 9}


@dataclass
class Pot:
    """What the model knows of one bucket."""

    closes_at: datetime | None
    limit: int | None
    used: int = 0
    topped_up: int = 0
    held: dict = field(default_factory=dict)  # reservation -> amount

    @property
    def taken(self):
        return self.used + sum(self.held.values())


class Meter:
    """The whole ledger as dictionaries. No SQL, no locks: what reserve() and the others should come to."""

    def __init__(self, zones):
        self.zones = zones  # brand id -> zone
        self.plans = {}  # (brand id, owner id) -> {meter: (window, limit)}
        self.pots = {}  # (brand id, owner id, meter, window, opens_at) -> Pot
        self.caps = {}  # (brand id, owner id) -> reservations that may be open at once, or None
        self.expires = {}  # reservation -> when its holds are void
        self.settled = set()

    def window(self, kind, brand_id, now):
        if kind == "lifetime":
            return datetime(1970, 1, 1, tzinfo=UTC), None
        zone = ZoneInfo(self.zones[brand_id])
        opens = now.astimezone(zone).replace(hour=0, minute=0, second=0, microsecond=0)
        closes = (opens.replace(tzinfo=None) + timedelta(days=1)).replace(tzinfo=zone)
        if kind == "month":
            opens = opens.replace(day=1)
            closes = (opens.replace(tzinfo=None) + timedelta(days=32)).replace(day=1, tzinfo=zone)
        return opens.astimezone(UTC), closes.astimezone(UTC)

    def pot(self, brand_id, owner_id, meter, now, *, make=True):
        kind, limit = self.plans[brand_id, owner_id][meter]
        opens_at, closes_at = self.window(kind, brand_id, now)
        key = brand_id, owner_id, meter, kind, opens_at
        return self.pots.setdefault(key, Pot(closes_at, limit)) if make else self.pots.get(key)

    def reserve(self, brand_id, owner_id, amounts, reservation, now):
        """Returns None, or the reason for the refusal."""
        if reservation in self.expires:
            return None  # before a window is opened for it
        lines = [
            (who, meter, amount, self.pot(brand_id, who, meter, now))
            for who in (owner_id, brand_id)
            for meter, amount in amounts.items()
            if meter in self.plans.get((brand_id, who), {})
        ]
        if not any(who == owner_id for who, _, _, _ in lines):
            return "no_plan"
        for who, meter, amount, pot in lines:
            if amount and pot.limit is not None and pot.taken + amount > pot.limit:
                side = "user" if who == owner_id else "brand"
                return f"{side}_{meter}_{'used_up' if pot.limit else 'not_included'}"
        for who, side in ((owner_id, "user"), (brand_id, "brand")):
            cap = self.caps[brand_id, who]
            if cap and len(self.open_of(brand_id, who)) >= cap and any(line[0] == who for line in lines):
                return f"{side}_concurrent_turns"
        for _, _, amount, pot in lines:
            pot.held[reservation] = amount
        self.expires[reservation] = now + ledger.HOLD_FOR
        return None

    def open_of(self, brand_id, owner_id):
        pots = [pot for key, pot in self.pots.items() if key[:2] == (brand_id, owner_id)]
        return set().union(*(pot.held for pot in pots))

    def settle(self, reservation, amounts):
        if reservation in self.settled:
            return False
        for (_, _, meter, _, _), pot in self.pots.items():
            if reservation in pot.held:
                pot.used += min(pot.held.pop(reservation), amounts.get(meter, 0))
        self.settled.add(reservation)
        return True

    def entitle(self, brand_id, owner_id, plan, now, cap):
        self.plans[brand_id, owner_id] = plan
        self.caps[brand_id, owner_id] = cap
        for meter, (_, limit) in plan.items():
            pot = self.pot(brand_id, owner_id, meter, now, make=False)
            if pot:
                pot.limit = None if limit is None else limit + pot.topped_up

    def top_up(self, brand_id, amount, now):
        open_pot = self.pot(brand_id, brand_id, "tokens", now, make=False)
        if open_pot.limit is None if open_pot else self.plans[brand_id, brand_id]["tokens"][1] is None:
            return False  # and no window was opened
        pot = self.pot(brand_id, brand_id, "tokens", now)
        pot.limit += amount
        pot.topped_up += amount
        return True

    def open_reservations(self):
        return [reservation for reservation in self.expires if reservation not in self.settled]


def capped(cap):
    return {"concurrent_turns": cap} if cap else {}


class Life(RuleBasedStateMachine):
    world = None

    def __init__(self):
        super().__init__()
        self.rollback = transaction.atomic(using="service")
        self.rollback.__enter__()
        world = self.world
        self.people = [(world.act, world.alice), (world.act, world.bob), (world.globex, world.charlie)]
        self.brands = [world.act, world.globex]
        self.model = Meter({brand.pk: brand.zone for brand in self.brands})
        self.house = dict.fromkeys((brand.pk for brand in self.brands), 0)
        self.now = START
        for brand in self.brands:
            self.set_pool(brand, 2000)
        for brand, user in self.people:
            self.set_plan(brand, user, "two meters")

    def teardown(self):
        try:
            prove(self.world, now=self.now if not self.late() else None)
        finally:
            transaction.set_rollback(True, using="service")
            self.rollback.__exit__(None, None, None)

    def set_plan(self, brand, user, name):
        grants = [ledger.Grant(meter, *line) for meter, line in PLANS[name].items()]
        cap = CAPS.get(name)
        ledger.entitle(brand, kind="user", owner_id=user.pk, grants=grants, features=capped(cap), now=self.now)
        self.model.entitle(brand.pk, user.pk, PLANS[name], self.now, cap)

    def set_pool(self, brand, limit):
        grants = [ledger.Grant("tokens", "month", limit)]
        cap = POOL_CAPS.get(limit)
        ledger.entitle(brand, kind="brand", owner_id=brand.pk, grants=grants, features=capped(cap), now=self.now)
        self.model.entitle(brand.pk, brand.pk, {"tokens": ("month", limit)}, self.now, cap)

    def late(self):
        return [one for one in self.model.open_reservations() if self.model.expires[one] < self.now]

    def begin(self, brand, user, amounts, reservation):
        expected = self.model.reserve(brand.pk, user.pk, amounts, reservation, self.now)
        try:
            ledger.reserve(brand, asker=("user", user.pk), amounts=amounts, reservation=reservation, now=self.now)
            reason = None
        except (QuotaExceeded, TooManyRunning) as refused:
            reason = refused.extra["reason"]
        assert reason == expected

    @rule(who=st.integers(0, 2), queries=st.integers(1, 3), tokens=st.sampled_from([0, 1, 100, 400, 900, 2001]))
    def reserve(self, who, queries, tokens):
        self.begin(*self.people[who], {"queries": queries, "tokens": tokens}, uuid7())

    @precondition(lambda self: self.model.expires)
    @rule(who=st.integers(0, 2), which=st.integers(0, 99), tokens=st.sampled_from([0, 300, 2001]))
    def retry(self, who, which, tokens):
        known = list(self.model.expires)
        reservation = known[which % len(known)]
        brand, user = next(
            (brand, user) for brand, user in self.people[who:] + self.people if self.brand_of(reservation) == brand.pk
        )
        self.begin(brand, user, {"queries": 1, "tokens": tokens}, reservation)

    def brand_of(self, reservation):
        with scope(SERVICE):
            rows = (model.objects.filter(reservation=reservation) for model in (Hold, Entry))
            return next(row.brand_id for found in rows for row in found)

    @precondition(lambda self: self.model.expires)
    @rule(which=st.integers(0, 99), queries=st.integers(0, 4), tokens=st.sampled_from([0, 1, 99, 400, 10**12]))
    def settle(self, which, queries, tokens):
        known = list(self.model.expires)
        reservation, amounts = known[which % len(known)], {"queries": queries, "tokens": tokens}
        expected = self.model.settle(reservation, amounts)
        assert ledger.settle(reservation, amounts=amounts, cost_microusd=3, now=self.now) is expected

    @precondition(lambda self: self.model.expires)
    @rule(which=st.integers(0, 99))
    def void(self, which):
        known = list(self.model.expires)
        reservation = known[which % len(known)]
        expected = self.model.settle(reservation, {})
        assert ledger.settle(reservation, amounts={}, reason="void", now=self.now) is expected

    @rule()
    def sweep(self):
        """What a crash left behind is given back."""
        late = self.late()
        assert ledger.void_expired(self.now) == len(late)
        for reservation in late:
            self.model.settle(reservation, {})

    @rule(which=st.integers(0, 1), amount=st.sampled_from([1, 250, 10_000]))
    def top_up(self, which, amount):
        brand = self.brands[which]
        expected = self.model.top_up(brand.pk, amount, self.now)
        try:
            ledger.top_up(brand, meter="tokens", amount=amount, reason="more", now=self.now)
        except Invalid:
            assert not expected
        else:
            assert expected

    @rule(who=st.integers(0, 2), plan=st.sampled_from(sorted(PLANS)))
    def change_plan(self, who, plan):
        self.set_plan(*self.people[who], plan)

    @rule(which=st.integers(0, 1), limit=st.sampled_from(POOLS))
    def change_pool(self, which, limit):
        self.set_pool(self.brands[which], limit)

    @rule(which=st.integers(0, 1), tokens=st.integers(1, 50))
    def charge_house(self, which, tokens):
        ledger.charge_house(self.brands[which].pk, tokens=tokens, reservation=uuid7(), now=self.now)
        self.house[self.brands[which].pk] += tokens

    @rule(later=st.sampled_from([timedelta(minutes=1), timedelta(minutes=16), timedelta(hours=11), timedelta(days=2)]))
    def let_time_pass(self, later):
        self.now += later

    @rule()
    def next_local_midnight(self):
        """To the very instant at which Toronto's day, and sometimes its month, begins."""
        _, self.now = self.model.window("day", self.world.globex.pk, self.now)

    @invariant()
    def the_database_is_the_model(self):
        with scope(SERVICE):
            stored = {
                (row.brand_id, row.owner_id, row.meter, row.window, row.opens_at): row
                for row in Bucket.objects.filter(pocket="plan")
            }
            house = dict.fromkeys(self.house, 0)
            for row in Bucket.objects.filter(pocket="house"):
                house[row.brand_id] += row.used
        told = {key: (row.closes_at, row.limit, row.used, row.held) for key, row in stored.items()}
        assert told == {
            key: (pot.closes_at, pot.limit, pot.used, sum(pot.held.values())) for key, pot in self.model.pots.items()
        }
        assert house == self.house

    @invariant()
    def nothing_is_broken(self):
        prove(self.world)


@pytest.mark.timeout(120 + 10 * EXAMPLES)
def test_any_order_of_events_leaves_every_balance_proved(world):
    """Q-01, Q-10, Q-17, Q-18, Q-34, INV1-INV7, INV10"""
    print(f"SOAK_SEED={SEED} SOAK_EXAMPLES={EXAMPLES} SOAK_STEPS={STEPS}")
    world.globex.zone = "America/Toronto"
    machine = seed(SEED)(type("Life", (Life,), {"world": world}))
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
            phases=set(Phase)
            - {Phase.explain},  # it traces every line of every step, which takes longer than the steps
        ),
    )


@pytest.mark.timeout(60 + EXAMPLES)
def test_eight_threads_at_once_leave_every_balance_proved(live_world):
    """Q-01 with 8 threads on the real log-ins: no error, no deadlock, and the sums are those of the answers given."""
    print(f"SOAK_SEED={SEED}")
    world = live_world
    make_member(world.act, world.charlie)
    people = [world.alice, world.bob, world.charlie]
    charged, open_holds = [], []

    def change_plan(rng):
        plan = PLANS[rng.choice(["day", "two meters", "no limit", "nothing"])]
        grants = [ledger.Grant(meter, *line) for meter, line in plan.items()]
        ledger.entitle(world.act, kind="user", owner_id=rng.choice(people).pk, grants=grants, now=START)

    def change_pool(rng):
        grants = [ledger.Grant("tokens", "month", rng.choice([500, 20_000, None]))]
        ledger.entitle(world.act, kind="brand", owner_id=world.act.pk, grants=grants, now=START)

    def top_up(rng):
        with contextlib.suppress(Invalid):  # when the pool has no limit just now
            ledger.top_up(world.act, meter="tokens", amount=rng.randrange(1, 900), reason="more", now=START)

    def turn(rng):
        reservation, amounts = uuid7(), {"queries": 1, "tokens": rng.randrange(1, 400)}
        asker = ("user", rng.choice(people).pk)
        try:
            for _ in range(rng.choice([1, 1, 2])):
                ledger.reserve(world.act, asker=asker, amounts=amounts, reservation=reservation, now=START)
        except QuotaExceeded:
            return
        end = rng.random()
        if end < 0.1:
            open_holds.append(amounts["tokens"])  # a crash
        elif end < 0.25:
            ledger.settle(reservation, amounts={}, now=START)
        else:
            used = rng.randrange(1, 800)
            assert ledger.settle(reservation, amounts={"queries": 1, "tokens": used}, now=START)
            assert not ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=START)
            charged.append(min(used, amounts["tokens"]))

    def live(number):
        rng = random.Random(SEED + number)
        for _ in range(STEPS):
            rng.choices([turn, top_up, change_plan, change_pool], weights=[20, 2, 1, 1])[0](rng)

    for _ in range(max(1, EXAMPLES // 20)):
        outcomes = together(8, live)
        assert outcomes == [None] * 8, next(one for one in outcomes if one)
        prove(world)
        assert numbers(world.act, world.act.pk, "tokens")[1:] == (sum(charged), sum(open_holds))
    late = START + timedelta(minutes=16)
    with scope(SERVICE):
        crashed = Hold.objects.values("reservation").distinct().count()
    assert ledger.void_expired(late) == crashed == len(open_holds)
    assert numbers(world.act, world.act.pk, "tokens")[1:] == (sum(charged), 0)
    prove(world, now=late)
