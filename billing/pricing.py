"""What a brand sells, as the pricing page shows it: to a stranger, and to a member who is on one of the plans."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Brand
from billing.models import CreditPackOffer, Cycle, Plan, Subscription
from billing.promises import Promise, counted, each, months_free, promises
from lib.db import SERVICE, scope
from lib.money import price
from lib.windows import WindowKind
from quotas.words import unit_name


@dataclass(frozen=True, slots=True)
class Card:
    """One plan. `way` is what its button does: here, sign_up, buy, change, cancel (the present one first), or
    nothing when it cannot be chosen.

    `is_metered`: pay as you go, without a subscription's price; it stands below the others.
    """

    code: str
    name: str
    description: str
    price: str
    per: str
    yearly: str
    promises: list[Promise]
    way: str
    label: str
    label_yearly: str
    cycle: str
    is_current: bool
    is_metered: bool


@dataclass(frozen=True, slots=True)
class PackCard:
    code: str
    label: str
    keeps: str


@dataclass(frozen=True, slots=True)
class Question:
    asked: str
    answer: str


@dataclass(frozen=True, slots=True)
class Shop:
    """Everything that is on offer on one brand now."""

    brand: Brand
    plans: list[Plan]
    packs: list[CreditPackOffer]

    @property
    def has_years(self) -> bool:
        return any(plan.annual_price_microusd is not None for plan in self.plans)

    @property
    def months_free(self) -> int:
        """The same for every plan that is sold by the year, or 0."""
        found = {months_free(plan) for plan in self.plans if plan.annual_price_microusd is not None}
        return found.pop() if len(found) == 1 else 0


def shop(brand: Brand) -> Shop:
    """Read as the service: who may see prices is everybody, who has no account as well."""
    with scope(SERVICE):
        plans = Plan.objects.filter(brand=brand, subject=Plan.Subject.MEMBER, is_active=True, is_offered=True)
        return Shop(brand, list(plans.prefetch_related("limits")), packs(brand))


def packs(brand: Brand) -> list[CreditPackOffer]:
    """Runs in the open scope."""
    return list(CreditPackOffer.objects.filter(brand=brand, is_active=True))


def cards(shop: Shop, *, is_member: bool, current: Subscription | None, may_try: bool = True) -> list[Card]:
    """may_try  whether the reader could still begin with a trial: nobody has two"""
    return [
        _card(plan, promises(plan, shop.brand, may_try=may_try), is_member=is_member, current=current)
        for plan in shop.plans
    ]


def _card(plan: Plan, lines: list[Promise], *, is_member: bool, current: Subscription | None) -> Card:
    way = _way(plan, is_member=is_member, current=current)
    yearly = "" if plan.annual_price_microusd is None else price(plan.annual_price_microusd, plan.currency)
    label = _label(plan, way, current)
    return Card(
        code=plan.code,
        name=plan.name,
        description=plan.description,
        price=price(plan.price_microusd, plan.currency),
        per=_per(plan),
        yearly=yearly,
        promises=lines,
        way=way,
        label=label,
        label_yearly=_pay_yearly(way, label, current),
        cycle="year" if plan.period == Plan.Period.YEAR else "month",
        is_current=bool(current and current.plan_id == plan.pk),
        is_metered=not plan.price_microusd and plan.overage_by_default,
    )


def _pay_yearly(way: str, label: str, current: Subscription | None) -> str:
    if way != "here":
        return _("%(label)s, yearly") % {"label": label}
    by_month = current and current.provider_subscription_id and current.cycle == Cycle.MONTH
    return _("Pay by the year") if by_month else ""


def _per(plan: Plan) -> str:
    if not plan.price_microusd:
        return ""
    return {"month": _("a month"), "year": _("a year")}.get(plan.period, "")


def _way(plan: Plan, *, is_member: bool, current: Subscription | None) -> str:
    if not is_member:
        return "sign_up"
    if current and current.plan_id == plan.pk and not is_tried_for_nothing(current):
        return "here"
    if current and current.provider_subscription_id:
        both_cost = plan.price_microusd and current.plan.price_microusd
        return "change" if both_cost else "" if current.cancel_at_period_end else "cancel"
    return "buy" if plan.price_microusd or plan.overage_by_default else ""


def is_tried_for_nothing(current: Subscription) -> bool:
    """It ends by itself, and who wants to go on has to buy it."""
    return current.status == Subscription.Status.TRIALING and not current.provider_subscription_id


def _label(plan: Plan, way: str, current: Subscription | None) -> str:
    name = {"name": plan.name}
    if way == "cancel" and current:
        return _("Cancel %(name)s first") % {"name": current.plan.name}
    if way == "change" and current:
        if plan.price_microusd >= current.plan.price_microusd:
            return _("Move up to %(name)s") % name
        return _("Move down to %(name)s") % name
    if way == "sign_up" and not plan.price_microusd and not plan.overage_by_default:
        return _("Start free")
    return _("Choose %(name)s") % name


def pack_card(offer: CreditPackOffer) -> PackCard:
    keeps = (
        ngettext("expires after one day", "expires after %(days)s days", offer.expires_after_days)
        % {"days": offer.expires_after_days}
        if offer.expires_after_days
        else _("never expires")
    )
    words = {
        "amount": counted(offer.meter, offer.amount),
        "price": price(offer.price_microusd, offer.currency),
        "keeps": keeps,
    }
    return PackCard(offer.code, _("%(amount)s, %(price)s, %(keeps)s") % words, keeps)


def questions(shop: Shop) -> list[Question]:
    """What people ask before they pay; answered from this brand's own plans."""
    if not shop.plans:
        return []
    found = [Question(_("What happens when I reach my limit?"), _at_the_limit(shop))]
    found += [_what_counts(meter) for meter in dict.fromkeys(plan.unit for plan in shop.plans)]
    if any(plan.byok_allowed for plan in shop.plans):
        found.append(
            Question(
                _("Where does my own key go?"),
                _(
                    "It is encrypted before it is stored, shown to you only as its last four characters, and used for your "
                    "questions alone. Remove it at any time in settings."
                ),
            )
        )
    if any(plan.price_microusd for plan in shop.plans):
        found.append(
            Question(
                _("Can I cancel or change plan?"),
                _(
                    "Yes, on the page Plan and usage. Before you confirm, it says what will be charged and from when it "
                    "counts. A larger plan begins at once and only the difference is charged; a smaller one, and the end of "
                    "your plan, come when the period you paid for is over."
                ),
            )
        )
    return found


def _at_the_limit(shop: Shop) -> str:
    ways = []
    if any(_starts_again(plan) for plan in shop.plans):
        ways.append(_("wait until it starts again"))
    extra = next((plan for plan in shop.plans if plan.overage_allowed and not plan.overage_by_default), None)
    if extra:
        ways.append(_("allow extra ones at %(each)s up to a cap that you set") % {"each": each(extra)})
    if shop.packs:
        ways.append(_("buy a prepaid pack"))
    if any(plan.byok_allowed for plan in shop.plans):
        ways.append(_("use your own model key"))
    if len(shop.plans) > 1:
        ways.append(_("take a larger plan"))
    if not ways:
        return _("Your draft stays where it is, and nothing is charged.")
    return _(
        "Your draft stays where it is. Depending on your plan you can %(ways)s. Nothing is charged without that choice."
    ) % {"ways": _listed(ways)}


def _starts_again(plan: Plan) -> bool:
    return any(limit.window in (WindowKind.DAY, WindowKind.MONTH) and limit.limit for limit in plan.limits.all())


def _listed(ways: Sequence[str]) -> str:
    *first, last = ways
    return _("%(first)s, or %(last)s") % {"first": ", ".join(first), "last": last} if first else last


def _what_counts(meter: str) -> Question:
    if meter == "conversations":
        return Question(
            _("What counts as a conversation?"),
            _("A new chat, from its first answer on. Asking on in a chat that you have is not counted again."),
        )
    words = {"unit": unit_name(meter)}
    return Question(
        _("What counts as a %(unit)s?") % words,
        _(
            "One %(unit)s that gets an answer, also when you stop the answer half-way. What fails before the answer begins "
            "is not counted, and reading old chats never is."
        )
        % words,
    )
