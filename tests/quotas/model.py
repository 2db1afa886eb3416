"""The whole meter as dictionaries. No SQL, no locks: what reserve() and the others should come to (Q-01)."""

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from quotas import ledger

OVERAGE = "overage_microusd"


@dataclass(eq=False)
class Pot:
    """What the model knows of one bucket."""

    closes_at: datetime | None
    limit: int | None
    meter: str  # what its holds are asked in
    pocket: str = "plan"
    used: int = 0
    topped_up: int = 0
    held: dict = field(default_factory=dict)  # reservation -> (amount, rate)

    @property
    def taken(self):
        return self.used + sum(amount for amount, _ in self.held.values())

    def has_room(self, amount):
        return not amount or self.limit is None or self.taken + amount <= self.limit

    def numbers(self):
        return self.closes_at, self.limit, self.used, self.taken - self.used


@dataclass(eq=False)
class Pack(Pot):
    price: int = 0
    amount: int = 0
    taken_back: int = 0
    bought_at: datetime | None = None


class Who:
    """One account: what it is allowed, and its buckets."""

    def __init__(self):
        self.plan = {}  # meter -> (window, limit)
        self.features = {}
        self.overrides = {}  # meter -> (limit, until)
        self.on, self.cap = False, None
        self.owed = 0
        self.pots = {}  # (meter, window, opens_at) -> Pot
        self.packs = {}  # source -> Pack

    def all_pots(self):
        return [*self.pots.values(), *self.packs.values()]

    def limit(self, meter, now):
        override = self.overrides.get(meter)
        return override[0] if override and override[1] > now else self.plan[meter][1]

    def overage_cap(self):
        of_plan = self.features.get("overage_cap_microusd") or 0
        return of_plan if self.cap is None else min(of_plan, self.cap)

    def price(self):
        wanted = ("overage_allowed", "is_billable")
        chosen = self.on or self.features.get("overage_by_default")
        return (
            self.features["overage_price_microusd"]
            if all(map(self.features.get, wanted)) and chosen and not self.owed
            else 0
        )

    def why_not_beyond(self):
        """Why overage did not pay, where the plan has it and it is switched on."""
        if not self.features.get("overage_allowed") or not (self.on or self.features.get("overage_by_default")):
            return ""
        if self.owed:
            return "arrears"
        is_own = self.cap is not None and self.cap < self.features["overage_cap_microusd"]
        return "own_cap_reached" if is_own else "plan_cap_reached"

    def open_reservations(self):
        return set().union(*(pot.held for pot in self.all_pots()))

    def fit(self, now):
        self.overrides = {meter: one for meter, one in self.overrides.items() if one[1] > now}
        for (meter, kind, opens_at), pot in self.pots.items():
            if opens_at > now or (pot.closes_at and pot.closes_at <= now):
                continue
            if meter == OVERAGE:
                pot.limit = self.overage_cap()
            elif meter in self.plan and self.plan[meter][0] == kind:
                limit = self.limit(meter, now)
                pot.limit = None if limit is None else limit + pot.topped_up


class Model:
    def __init__(self, zones):
        self.zones = zones  # brand id -> zone
        self.who = {}  # (brand id, owner id) -> Who
        self.expires = {}  # reservation -> when its holds are void
        self.paid = {}  # reservation -> pocket
        self.settled = set()
        self.charges = {}  # (reservation, pot) -> amount, of what was charged
        self.given_back = set()

    def account(self, brand_id, owner_id):
        return self.who.setdefault((brand_id, owner_id), Who())

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
        who = self.account(brand_id, owner_id)
        kind = "month" if meter == OVERAGE else who.plan[meter][0]
        opens_at, closes_at = self.window(kind, brand_id, now)
        key = meter, kind, opens_at
        if not make or key in who.pots:
            return who.pots.get(key)
        pot = Pot(closes_at, who.overage_cap(), "queries", "overage") if meter == OVERAGE else None
        return who.pots.setdefault(key, pot or Pot(closes_at, who.limit(meter, now), meter))

    def open(self, brand_id, lines, now):
        """What reserve() opens when it finds a window that nobody has opened, or an override that is over."""
        accounts = {owner: self.account(brand_id, owner) for owner, _, _ in lines}

        def is_open(owner, meter):
            over = accounts[owner].overrides.get(meter)
            return self.pot(brand_id, owner, meter, now, make=False) and not (over and over[1] <= now)

        if all(is_open(owner, meter) for owner, meter, _ in lines):
            return
        for owner, meter, _ in lines:
            if any(until <= now for _, until in accounts[owner].overrides.values()):
                accounts[owner].fit(now)
            self.pot(brand_id, owner, meter, now)

    def reserve(self, brand_id, owner_id, amounts, reservation, now, *, own_key=False):
        """Returns who pays and None, or None and the reason for the refusal."""
        if reservation in self.expires:
            return self.paid[reservation], None  # before a window is opened for it
        who = self.account(brand_id, owner_id)
        lines = [
            (owner, meter, 0 if own_key else amount)
            for owner in (owner_id, brand_id)
            for meter, amount in amounts.items()
            if meter in self.account(brand_id, owner).plan
        ]
        self.open(brand_id, lines, now)
        if not any(owner == owner_id for owner, _, _ in lines):
            return None, "no_plan"
        takes = [(self.pot(brand_id, owner, meter, now), amount, 1) for owner, meter, amount in lines]
        for number, (owner, meter, amount) in enumerate(lines):
            if (owner, meter) == (owner_id, "queries") and not takes[number][0].has_room(amount):
                takes[number] = self.beyond(brand_id, owner_id, amount, now) or takes[number]
        for (owner, meter, _), (pot, amount, _) in zip(lines, takes, strict=True):
            if not pot.has_room(amount):
                if (owner, meter) == (owner_id, "queries") and (why := who.why_not_beyond()):
                    return None, why
                side = "user" if owner == owner_id else "brand"
                return None, f"{side}_{meter}_{'used_up' if pot.limit else 'not_included'}"
        for owner, side in ((owner_id, "user"), (brand_id, "brand")):
            account = self.account(brand_id, owner)
            cap = account.features.get("concurrent_turns")
            if cap and len(account.open_reservations()) >= cap and any(line[0] == owner for line in lines):
                return None, f"{side}_concurrent_turns"
        for pot, amount, rate in takes:
            pot.held[reservation] = (amount, rate)
        self.expires[reservation] = now + ledger.HOLD_FOR
        beyond = [pot.pocket for pot, _, _ in takes if pot.pocket != "plan"]
        self.paid[reservation] = "own_key" if own_key else (beyond or ["plan"])[0]
        assert who.price() or "overage" not in beyond
        return self.paid[reservation], None

    def beyond(self, brand_id, owner_id, amount, now):
        """The pack, or the overage, that pays what the plan cannot."""
        who, forever = self.account(brand_id, owner_id), datetime.max.replace(tzinfo=UTC)
        for pack in sorted(who.packs.values(), key=lambda pack: (pack.closes_at or forever, pack.bought_at)):
            if (pack.closes_at is None or pack.closes_at > now) and pack.has_room(amount):
                return pack, amount, 1
        if not who.price():
            return None
        pot = self.pot(brand_id, owner_id, OVERAGE, now)
        cost = amount * who.price()
        return (pot, cost, who.price()) if pot.has_room(cost) else None

    def settle(self, reservation, amounts):
        if reservation in self.settled:
            return False
        for who in self.who.values():
            for pot in who.all_pots():
                if reservation in pot.held:
                    amount, rate = pot.held.pop(reservation)
                    charged = min(amounts.get(pot.meter, 0), amount // rate) * rate
                    pot.used += charged
                    if charged:
                        self.charges[reservation, pot] = charged
        self.settled.add(reservation)
        return True

    def reverse(self, reservation, pot):
        if (reservation, pot) not in self.given_back:
            self.given_back.add((reservation, pot))
            pot.used -= self.charges[reservation, pot]

    def entitle(self, brand_id, owner_id, plan, features, now):
        who = self.account(brand_id, owner_id)
        who.plan, who.features = plan, features
        who.fit(now)

    def override(self, brand_id, owner_id, meter, limit, until, now):
        who = self.account(brand_id, owner_id)
        if meter not in who.plan:
            return False
        who.overrides[meter] = (limit, until)
        who.fit(now)
        return True

    def choose(self, brand_id, owner_id, on, cap, now):
        """The member's switch and cap; False = refused."""
        who = self.account(brand_id, owner_id)
        allowed = not on or who.features.get("overage_allowed")
        if not allowed or (cap is not None and cap > (who.features.get("overage_cap_microusd") or 0)):
            return False
        if (who.on, who.cap) != (on, cap):
            who.on, who.cap = on, cap
            who.fit(now)
        return True

    def top_up(self, brand_id, amount, now):
        who = self.account(brand_id, brand_id)
        open_pot = self.pot(brand_id, brand_id, "tokens", now, make=False)
        if open_pot.limit is None if open_pot else who.plan["tokens"][1] is None:
            return False  # and no window was opened that has no limit
        pot = self.pot(brand_id, brand_id, "tokens", now)
        pot.limit += amount
        pot.topped_up += amount
        return True

    def grant_pack(self, brand_id, owner_id, source, amount, price, closes_at, now):
        pack = Pack(closes_at, amount, "queries", "pack", price=price, amount=amount, bought_at=now)
        return self.account(brand_id, owner_id).packs.setdefault(source, pack)

    def take_back(self, brand_id, owner_id, source, amount):
        who = self.account(brand_id, owner_id)
        pack = who.packs[source]
        amount = min(amount, pack.amount - pack.taken_back)
        there = min(amount, pack.limit - pack.taken)
        owed = -(-pack.price * (amount - there) // pack.amount)
        pack.limit -= there
        pack.taken_back += amount
        who.owed += owed
        return ledger.TakenBack(there, owed)

    def open_reservations(self):
        return [reservation for reservation in self.expires if reservation not in self.settled]
