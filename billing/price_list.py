"""Our plans and packs as Stripe's products and prices: matched by lookup key, made and moved by `stripe_sync`.

A price of Stripe's is never changed: another sum is another price, to which the lookup key moves. Whoever subscribed stays
on the price of that day, which says in its metadata what it was for.

`<brand>:<plan>:month|year`, `<brand>:<pack>:once`, and `<brand>:+overage:month|year`: the meter of what is used beyond any
plan. It counts micro-units of money, not questions, so that Stripe charges to the last one what our ledger posted, also
when the price of a question changed in between.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, cast

from django.utils.translation import gettext as _
from stripe import Price

from accounts.models import Brand
from billing.asking import in_our_words, is_stand_in, minor, minor_decimal, once, stripe
from billing.errors import NotForSale
from billing.models import CreditPackOffer, Plan
from lib.db import SERVICE, scope
from lib.errors import Conflict

MONTH, YEAR, ONCE = "month", "year", "once"
OVERAGE = "+overage"  # no code of a plan: those have no +
METER = "chatsite_overage_microusd"
MOST_KEYS = 10  # of one question to Stripe


@dataclass(frozen=True, slots=True)
class Wanted:
    """One price as it should be. `micro` is what it costs, of overage what one micro-unit of it costs: 1."""

    brand: Brand
    code: str
    cycle: str
    name: str
    micro: int
    currency: str

    @property
    def key(self) -> str:
        return f"{self.brand.slug}:{self.code}:{self.cycle}"

    @property
    def is_metered(self) -> bool:
        return self.code == OVERAGE

    @property
    def metadata(self) -> dict[str, str]:
        return {"brand": str(self.brand.pk), "code": self.code, "cycle": self.cycle}

    @property
    def amount(self) -> dict[str, Any]:
        if self.is_metered:
            return {"unit_amount_decimal": minor_decimal(self.micro, self.currency)}
        return {"unit_amount": minor(self.micro, self.currency)}


@dataclass(frozen=True, slots=True)
class Step:
    """What was, or would be, done for one lookup key: kept, made, repriced."""

    key: str
    did: str
    detail: str


def key_of(brand: Brand, code: str, cycle: str) -> str:
    return f"{brand.slug}:{code}:{cycle}"


def wanted(brand: Brand) -> list[Wanted]:
    """Every price that this brand needs at Stripe. Raises Conflict for a brand that sells in two currencies."""
    plans, prices = _of_rows(brand)
    currencies = {price.currency for price in prices} | {plan.currency for plan in plans if plan.overage_allowed}
    if len(currencies) > 1:
        raise Conflict(
            f"{brand} sells in {' and '.join(sorted(currencies))}. A member is charged in one currency: give all plans "
            "and packs of a brand the same one."
        )
    if any(plan.overage_allowed for plan in plans):
        cycles = [MONTH, *([YEAR] if any(price.cycle == YEAR for price in prices) else [])]
        prices += [Wanted(brand, OVERAGE, cycle, "Beyond the plan", 1, currencies.copy().pop()) for cycle in cycles]
    return prices


def _of_rows(brand: Brand) -> tuple[list[Plan], list[Wanted]]:
    """What the brand's plans and packs cost, as our rows say now."""
    with scope(SERVICE):
        plans = list(Plan.objects.filter(brand=brand, subject=Plan.Subject.MEMBER, is_active=True))
        offers = list(CreditPackOffer.objects.filter(brand=brand, is_active=True))
    prices = []
    for plan in plans:
        if plan.price_microusd and plan.period == Plan.Period.MONTH:
            prices.append(Wanted(brand, plan.code, MONTH, plan.name, plan.price_microusd, plan.currency))
        yearly = plan.price_microusd if plan.period == Plan.Period.YEAR else plan.annual_price_microusd
        if yearly:
            prices.append(Wanted(brand, plan.code, YEAR, plan.name, yearly, plan.currency))
    prices += [Wanted(brand, offer.code, ONCE, offer.name, offer.price_microusd, offer.currency) for offer in offers]
    return plans, prices


def sync(brand: Brand, *, apply: bool) -> list[Step]:
    """Make Stripe's prices what this brand's plans and packs are. Without `apply` nothing is made. Safe to repeat."""
    here = wanted(brand)
    with in_our_words():
        there = _by_key(price.key for price in here)
        meter = _meter(apply=apply) if any(price.is_metered for price in here) else ""
        return [_match(price, there.get(price.key), meter, apply=apply) for price in here]


def price_ids(brand: Brand, *keys: str) -> list[str]:
    """Stripe's prices under these lookup keys, each of which asks what our pages say.

    Raises NotForSale where stripe_sync has not made one, or has not followed a change of ours
    """
    here = {price.key: price for price in _of_rows(brand)[1]}
    there = _by_key(keys)
    if is_stand_in() and _due(keys, here, there):
        sync(brand, apply=True)  # nobody runs commands to try the stand-in
        there = _by_key(keys)
    if missing := _due(keys, here, there):
        raise NotForSale(
            _(
                "This cannot be bought yet, because the payment service does not know its price. Nothing was "
                "charged; tell those who run this site: stripe_sync is due (%(missing)s)."
            )
            % {"missing": ", ".join(missing)}
        )
    return [there[key].id for key in keys]


def _due(keys: Iterable[str], here: Mapping[str, Wanted], there: Mapping[str, Price]) -> list[str]:
    """Keys whose price at Stripe is not there, or is another one than ours. That of the meter never changes."""
    return [key for key in keys if key not in there or (key in here and not _is_same(here[key], there[key], meter=""))]


def _by_key(keys: Iterable[str]) -> dict[str, Price]:
    found: dict[str, Price] = {}
    asked = list(dict.fromkeys(keys))
    for start in range(0, len(asked), MOST_KEYS):
        page = stripe().v1.prices.list(params={"lookup_keys": asked[start : start + MOST_KEYS], "active": True})
        found |= {cast(str, price.lookup_key): price for price in page.data}
    return found


def _match(price: Wanted, there: Price | None, meter: str, *, apply: bool) -> Step:
    said = "a micro-unit each" if price.is_metered else f"{price.micro / 1_000_000:g} {price.currency}"
    if there and _is_same(price, there, meter):
        return Step(price.key, "kept", said)
    if apply:
        _make(price, there, meter)
    return Step(price.key, "repriced" if there else "made", said)


def _is_same(price: Wanted, there: Price, meter: str) -> bool:
    if (
        there.currency != price.currency.lower()
        or (there.metadata.to_dict() if there.metadata else {}) != price.metadata
    ):
        return False
    if price.is_metered:
        return bool(there.recurring and there.recurring.meter == meter)
    return there.unit_amount == minor(price.micro, price.currency)


def _make(price: Wanted, replaced: Price | None, meter: str) -> None:
    client, before = stripe().v1, replaced.id if replaced else ""
    if replaced:
        product = replaced.product if isinstance(replaced.product, str) else replaced.product.id
    else:
        product = client.products.create(
            params={"name": f"{price.brand.name} · {price.name}", "metadata": price.metadata},
            options=cast(Any, once("product", price.key, price.name, price.brand.name)),
        ).id
    recurring: dict[str, Any] = {"interval": price.cycle}
    if price.is_metered:
        recurring |= {"usage_type": "metered", "meter": meter}
    client.prices.create(
        params=cast(
            Any,
            {
                "product": product,
                "currency": price.currency.lower(),
                "lookup_key": price.key,
                "transfer_lookup_key": True,
                "metadata": price.metadata,
                **price.amount,
                **({} if price.cycle == ONCE else {"recurring": recurring}),
            },
        ),
        options=cast(Any, once("price", price.key, price.micro, price.currency, before, meter)),
    )
    if replaced:
        client.prices.update(before, params={"active": False})


def _meter(*, apply: bool) -> str:
    """The one meter of the installation, by the name of its events; "" when it would still have to be made."""
    meters = stripe().v1.billing.meters
    for meter in meters.list(params={"status": "active", "limit": 100}).auto_paging_iter():
        if meter.event_name == METER:
            return str(meter.id)
    if not apply:
        return ""
    made = meters.create(
        params={
            "display_name": "Used beyond the plan, in millionths of the currency",
            "event_name": METER,
            "default_aggregation": {"formula": "sum"},
            "customer_mapping": {"type": "by_id", "event_payload_key": "stripe_customer_id"},
            "value_settings": {"event_payload_key": "value"},
        },
        options=cast(Any, once("meter", METER)),
    )
    return str(made.id)
