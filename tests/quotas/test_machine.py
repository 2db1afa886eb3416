"""Q-01: any order of events, on real PostgreSQL, against a model in plain Python; every invariant after every step.

CI runs a small version. `SOAK_EXAMPLES=1000 SOAK_STEPS=50` is the full one; `SOAK_SEED=…` repeats a run.
"""

import contextlib
import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

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
from quotas.models import Account, Bucket, Entry, Hold, Pack
from tests.factories import make_member
from tests.quotas.model import Model
from tests.quotas.proofs import numbers, prove, together

EXAMPLES = int(os.environ.get("SOAK_EXAMPLES", "30"))
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
    "pay as you go": {"queries": ("month", 0), "tokens": ("day", 5000)},
}
OVERAGES = {"overage_allowed": True, "is_billable": True, "overage_price_microusd": 5, "overage_cap_microusd": 40}
FEATURES = {  # `concurrent_turns`: the others have the default, which nobody reaches
    "free": {"concurrent_turns": 2},
    "day": OVERAGES,
    "two meters": {"concurrent_turns": 5},
    "pay as you go": OVERAGES | {"overage_by_default": True, "overage_price_microusd": 7, "overage_cap_microusd": 60},
}
POOLS = [0, 500, 2000, None]
POOL_CAPS = {2000: 7, None: 9}
AMOUNTS = st.sampled_from([0, 1, 100, 400, 900, 2001])
LATER = [timedelta(minutes=1), timedelta(minutes=16), timedelta(hours=11), timedelta(days=2)]


class Life(RuleBasedStateMachine):
    world = None

    def __init__(self):
        super().__init__()
        self.rollback = transaction.atomic(using="service")
        self.rollback.__enter__()
        world = self.world
        self.people = [(world.act, world.alice), (world.act, world.bob), (world.globex, world.charlie)]
        self.brands = [world.act, world.globex]
        self.model = Model({brand.pk: brand.zone for brand in self.brands})
        self.house = dict.fromkeys((brand.pk for brand in self.brands), 0)
        self.bought = {}  # source -> (brand, user, Pack)
        self.now = START
        for brand in self.brands:
            self.set_pool(brand, 2000)
        for (brand, user), plan in zip(self.people, ("two meters", "pay as you go", "day"), strict=True):
            self.set_plan(brand, user, plan)

    def teardown(self):
        try:
            prove(self.world, now=self.now if not self.late() else None)
        finally:
            transaction.set_rollback(True, using="service")
            self.rollback.__exit__(None, None, None)

    def set_plan(self, brand, user, name):
        grants, features = [ledger.Grant(meter, *line) for meter, line in PLANS[name].items()], FEATURES.get(name, {})
        ledger.entitle(brand, kind="user", owner_id=user.pk, grants=grants, features=features, now=self.now)
        self.model.entitle(brand.pk, user.pk, PLANS[name], features, self.now)

    def set_pool(self, brand, limit):
        grants = [ledger.Grant("tokens", "month", limit)]
        features = {"concurrent_turns": POOL_CAPS[limit]} if limit in POOL_CAPS else {}
        ledger.entitle(brand, kind="brand", owner_id=brand.pk, grants=grants, features=features, now=self.now)
        self.model.entitle(brand.pk, brand.pk, {"tokens": ("month", limit)}, features, self.now)

    def late(self):
        return [one for one in self.model.open_reservations() if self.model.expires[one] < self.now]

    def begin(self, brand, user, amounts, reservation, own_key):
        expected = self.model.reserve(brand.pk, user.pk, amounts, reservation, self.now, own_key=own_key)
        asking = {"asker": ("user", user.pk), "amounts": amounts, "reservation": reservation, "own_key": own_key}
        try:
            got = ledger.reserve(brand, **asking, now=self.now), None
        except (QuotaExceeded, TooManyRunning) as refused:
            got = None, refused.extra["reason"]
        assert got == expected

    @rule(
        who=st.integers(0, 2), queries=st.integers(1, 3), tokens=AMOUNTS, own_key=st.sampled_from([False] * 4 + [True])
    )
    def reserve(self, who, queries, tokens, own_key):
        self.begin(*self.people[who], {"queries": queries, "tokens": tokens}, uuid7(), own_key)

    @rule(who=st.integers(0, 2), times=st.integers(2, 6))
    def ask_much(self, who, times):
        """So that pockets are emptied, and not only touched."""
        for _ in range(times):
            reservation = uuid7()
            self.begin(*self.people[who], {"queries": 1, "tokens": 1}, reservation, False)
            if reservation in self.model.expires:
                self.end(reservation, {"queries": 1, "tokens": 1})

    def end(self, reservation, amounts, **fields):
        expected = self.model.settle(reservation, amounts)
        assert ledger.settle(reservation, amounts=amounts, now=self.now, **fields) is expected

    @precondition(lambda self: self.model.expires)
    @rule(who=st.integers(0, 2), which=st.integers(0, 99), tokens=st.sampled_from([0, 300, 2001]))
    def retry(self, who, which, tokens):
        reservation = self.known(which)
        brand, user = next(
            (brand, user) for brand, user in self.people[who:] + self.people if self.brand_of(reservation) == brand.pk
        )
        self.begin(brand, user, {"queries": 1, "tokens": tokens}, reservation, False)

    def known(self, which):
        return list(self.model.expires)[which % len(self.model.expires)]

    def brand_of(self, reservation):
        with scope(SERVICE):
            rows = (model.objects.filter(reservation=reservation) for model in (Hold, Entry))
            return next(row.brand_id for found in rows for row in found)

    @precondition(lambda self: self.model.expires)
    @rule(which=st.integers(0, 99), queries=st.integers(0, 4), tokens=st.sampled_from([0, 1, 99, 400, 10**12]))
    def settle(self, which, queries, tokens):
        self.end(self.known(which), {"queries": queries, "tokens": tokens}, cost_microusd=3)

    @precondition(lambda self: self.model.expires)
    @rule(which=st.integers(0, 99))
    def void(self, which):
        self.end(self.known(which), {}, reason="void")

    @rule()
    def sweep(self):
        """What a crash left behind is given back."""
        late = self.late()
        assert ledger.void_expired(self.now) == len(late)
        for reservation in late:
            self.model.settle(reservation, {})

    @precondition(lambda self: self.model.charges)
    @rule(which=st.integers(0, 99))
    def reverse(self, which):
        """Refund one use, perhaps for the second time."""
        reservation, pot = list(self.model.charges)[which % len(self.model.charges)]
        with scope(SERVICE):
            lines = Entry.objects.filter(reservation=reservation, kind="use", used_delta__gt=0)
            line = lines.get(bucket_id=self.bucket_id_of(pot))
        ledger.reverse(line.pk, reason="refund", actor_id=None)
        self.model.reverse(reservation, pot)

    def bucket_id_of(self, pot):
        for (brand_id, owner_id), who in self.model.who.items():
            for (meter, window, opens_at), one in who.pots.items():
                if one is pot:
                    same = Bucket.objects.filter(brand_id=brand_id, owner_id=owner_id, meter=meter, pocket=pot.pocket)
                    return same.get(window=window, opens_at=opens_at).pk
            for source, one in who.packs.items():
                if one is pot:
                    return self.bought[source][2].bucket_id
        raise LookupError(pot)

    @rule(
        who=st.integers(0, 2),
        amount=st.integers(1, 4),
        price=st.sampled_from([0, 10, 1000]),
        ends=st.sampled_from([None, *LATER]),
        again=st.booleans(),
    )
    def buy(self, who, amount, price, ends, again):
        """A pack; or a replay of the webhook that sold the last one."""
        brand, user = self.people[who]
        source = f"checkout:{len(self.bought)}"
        if again and self.bought:
            source = list(self.bought)[-1]
            brand, user, _ = self.bought[source]
        closes_at = ends and self.now + ends
        self.model.grant_pack(brand.pk, user.pk, source, amount, price, closes_at, self.now)
        fields = {"name": "Pack", "price_microusd": price, "expires_at": closes_at, "reason": "bought", "now": self.now}
        pack = ledger.grant_pack(brand, user.pk, meter="queries", amount=amount, source=source, **fields)
        self.bought[source] = brand, user, pack

    @precondition(lambda self: self.bought)
    @rule(which=st.integers(0, 99), amount=st.integers(1, 5))
    def take_back(self, which, amount):
        source = list(self.bought)[which % len(self.bought)]
        brand, user, pack = self.bought[source]
        expected = self.model.take_back(brand.pk, user.pk, source, amount)
        assert ledger.take_back_pack(pack, amount=amount, reason="chargeback", actor_id=None) == expected

    @rule(who=st.integers(0, 2), part=st.sampled_from([1, 2]))
    def pay_arrears(self, who, part):
        brand, user = self.people[who]
        account = self.model.account(brand.pk, user.pk)
        if amount := account.owed // part:
            ledger.clear_arrears(brand, user.pk, amount_microusd=amount, reason="paid")
            account.owed -= amount

    @rule(who=st.integers(0, 2), on=st.booleans(), cap=st.sampled_from([None, 0, 5, 20, 60, 61]))
    def choose_overage(self, who, on, cap):
        brand, user = self.people[who]
        expected = self.model.choose(brand.pk, user.pk, on, cap, self.now)
        refused = contextlib.nullcontext() if expected else pytest.raises(Invalid)
        with refused:
            ledger.set_overage(brand, user.pk, on=on, cap_microusd=cap, actor_id=user.pk, now=self.now)

    @rule(
        who=st.integers(0, 2),
        meter=st.sampled_from(["queries", "queries", "tokens"]),
        limit=st.sampled_from([0, 2, 8, None]),
        lasts=st.sampled_from(LATER),
    )
    def override(self, who, meter, limit, lasts):
        brand, user = self.people[who]
        until = self.now + lasts
        expected = self.model.override(brand.pk, user.pk, meter, limit, until, self.now)
        refused = contextlib.nullcontext() if expected else pytest.raises(Invalid)
        fields = {"until": until, "reason": "a favour", "actor_id": None, "now": self.now}
        with refused:
            ledger.override(brand, user.pk, meter=meter, limit=limit, **fields)

    @rule(which=st.integers(0, 1), amount=st.sampled_from([1, 250, 10_000]))
    def top_up(self, which, amount):
        brand = self.brands[which]
        expected = self.model.top_up(brand.pk, amount, self.now)
        refused = contextlib.nullcontext() if expected else pytest.raises(Invalid)
        with refused:
            ledger.top_up(brand, meter="tokens", amount=amount, reason="more", now=self.now)

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

    @rule(later=st.sampled_from(LATER))
    def let_time_pass(self, later):
        self.now += later

    @rule()
    def next_local_midnight(self):
        """To the very instant at which Toronto's day, and sometimes its month, begins."""
        _, self.now = self.model.window("day", self.world.globex.pk, self.now)

    @invariant()
    def the_database_is_the_model(self):
        with scope(SERVICE):
            stored, house = {}, dict.fromkeys(self.house, 0)
            for row in Bucket.objects.filter(pocket__in=["plan", "overage"]):
                key = row.brand_id, row.owner_id, row.meter, row.window, row.opens_at
                stored[key] = row.closes_at, row.limit, row.used, row.held
            for pack in Pack.objects.select_related("bucket"):
                row = pack.bucket
                stored[pack.brand_id, pack.source] = row.closes_at, row.limit, row.used, row.held
            for row in Bucket.objects.filter(pocket="house"):
                house[row.brand_id] += row.used
            owed = {(row.brand_id, row.owner_id): row.arrears_microusd for row in Account.objects.filter(kind="user")}
        accounts = self.model.who.items()
        told = {(*account, *key): pot.numbers() for account, who in accounts for key, pot in who.pots.items()}
        told |= {(brand, source): pack.numbers() for (brand, _), who in accounts for source, pack in who.packs.items()}
        assert stored == told
        assert house == self.house
        assert owed == {account: who.owed for account, who in accounts if account in owed}

    @invariant()
    def nothing_is_broken(self):
        prove(self.world)


@pytest.mark.timeout(120 + 10 * EXAMPLES)
def test_any_order_of_events_leaves_every_balance_proved(world):
    """Q-01, Q-10, Q-17, Q-18, Q-19, Q-20, Q-34, INV1-INV7, INV10"""
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
    ended, open_holds = [], []  # (pocket, tokens charged) of what was charged; tokens of what a crash left
    packs, back = [], []

    def change_plan(rng):
        name = rng.choice(["day", "two meters", "no limit", "nothing", "pay as you go"])
        grants = [ledger.Grant(meter, *line) for meter, line in PLANS[name].items()]
        features = FEATURES.get(name, {}) | {"concurrent_turns": 1000}
        fields = {"owner_id": rng.choice(people).pk, "features": features, "now": START}
        ledger.entitle(world.act, kind="user", grants=grants, **fields)

    def change_pool(rng):
        grants = [ledger.Grant("tokens", "month", rng.choice([500, 20_000, None]))]
        ledger.entitle(world.act, kind="brand", owner_id=world.act.pk, grants=grants, now=START)

    def top_up(rng):
        with contextlib.suppress(Invalid):  # when the pool has no limit just now
            ledger.top_up(world.act, meter="tokens", amount=rng.randrange(1, 900), reason="more", now=START)

    def buy(rng):
        source, user = f"checkout:{rng.randrange(12)}", rng.choice(people)
        fields = {"name": "Pack", "price_microusd": 30, "source": source, "reason": "bought", "now": START}
        with contextlib.suppress(Invalid):  # another member's already
            packs.append(ledger.grant_pack(world.act, user.pk, meter="queries", amount=rng.randrange(1, 9), **fields))

    def take_back(rng):
        if packs:
            ledger.take_back_pack(rng.choice(packs), amount=rng.randrange(1, 4), reason="chargeback", actor_id=None)

    def choose(rng):
        with contextlib.suppress(Invalid):  # a plan without overage, or with a lower cap
            chosen = {"on": rng.random() < 0.8, "cap_microusd": rng.choice([None, 20, 60])}
            ledger.set_overage(world.act, rng.choice(people).pk, **chosen, actor_id=None, now=START)

    def override(rng):
        chosen = {"limit": rng.choice([0, 5, None]), "until": START + timedelta(days=1)}
        ledger.override(
            world.act, rng.choice(people).pk, meter="queries", **chosen, reason="a favour", actor_id=None, now=START
        )

    def turn(rng):
        reservation, amounts = uuid7(), {"queries": 1, "tokens": rng.randrange(1, 400)}
        asking = {"asker": ("user", rng.choice(people).pk), "amounts": amounts, "own_key": rng.random() < 0.1}
        try:
            paid = [
                ledger.reserve(world.act, **asking, reservation=reservation, now=START)
                for _ in range(rng.choice([1, 1, 2]))
            ]
        except QuotaExceeded:
            return
        assert len(set(paid)) == 1
        held = 0 if asking["own_key"] else amounts["tokens"]
        end = rng.random()
        if end < 0.1:
            open_holds.append(held)  # a crash
        elif end < 0.25:
            ledger.settle(reservation, amounts={}, now=START)
        else:
            used = rng.randrange(1, 800)
            assert ledger.settle(reservation, amounts={"queries": 1, "tokens": used}, now=START)
            assert not ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=START)
            ended.append((paid[0], min(used, held)))
            if paid[0] in ("pack", "overage") and rng.random() < 0.2:
                refund(reservation, paid[0])

    def refund(reservation, pocket):
        with scope(SERVICE):
            use = Entry.objects.get(reservation=reservation, kind="use", bucket__pocket=pocket)
        ledger.reverse(use.pk, reason="refund", actor_id=None)
        back.append(pocket)

    others = {top_up: 2, change_plan: 1, change_pool: 1, buy: 2, take_back: 1, choose: 1, override: 1}

    def live(number):
        rng = random.Random(SEED + number)
        for _ in range(STEPS):
            rng.choices([turn, *others], weights=[20, *others.values()])[0](rng)

    def used_of(pocket):
        with scope(SERVICE):
            uses = Entry.objects.filter(bucket__pocket=pocket, bucket__owner_id__in=[user.pk for user in people])
            lines = uses.exclude(bucket__meter="tokens")
            return sum(line.used_delta // line.rate for line in lines)

    for _ in range(max(1, EXAMPLES // 20)):
        outcomes = together(8, live)
        assert outcomes == [None] * 8, next(one for one in outcomes if one)
        prove(world)
        tokens = sum(charged for _, charged in ended)
        assert numbers(world.act, world.act.pk, "tokens")[1:] == (tokens, sum(open_holds))
        expected = Counter(pocket for pocket, _ in ended)
        expected.subtract(back)
        assert {pocket: used_of(pocket) for pocket in ("plan", "pack", "overage")} == {
            pocket: expected[pocket] for pocket in ("plan", "pack", "overage")
        }
    with scope(SERVICE):
        left = Hold.objects.values("reservation").distinct().count()
    late = START + timedelta(minutes=16)
    assert ledger.void_expired(late) == left == len(open_holds)
    assert numbers(world.act, world.act.pk, "tokens")[1:] == (tokens, 0)
    prove(world, now=late)
