"""What we ask of Stripe for a member: to buy, to store a card, to change, to end, to give money back.

Each of these talks to Stripe and so runs outside every scope. None of them grants anything: what was bought arrives as
an event at billing.webhooks, and billing.applying writes it down. Entitlements are read from our own rows only (S-13).

`origin`, where it is asked for, is the site as the member sees it (`https://chat.example.com`); without it the brand's.
"""

from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, cast
from uuid import UUID

import stripe as sdk
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import brands
from accounts.models import Brand, User
from billing import lifecycle
from billing.asking import id_of, in_our_words, micro, minor, moment, once, provider
from billing.asking import is_stand_in as is_stand_in
from billing.asking import stripe as stripe
from billing.books import BillingTransaction, CreditPackOffer, Customer
from billing.errors import NotForSale, NotNow
from billing.models import Cycle, Plan, Subscription
from billing.price_list import MONTH, ONCE, OVERAGE, key_of, price_ids
from events import activity
from lib import clock, dates
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound
from lib.money import dollars

# Why a member leaves, in Stripe's words.
REASONS = frozenset(
    (
        "too_expensive",
        "missing_features",
        "switched_service",
        "unused",
        "customer_service",
        "too_complex",
        "low_quality",
        "other",
    )
)
BACK = "/billing/return/"  # waits until what was paid has arrived here
PACK, PLAN, CARD = "pack", "plan", "card"  # what a Checkout session is for
Outcome = Literal["waiting", "done", "failed"]


@dataclass(frozen=True, slots=True)
class Change:
    """What a change of plan means in money and time. `due_microusd` is charged now; below 0 it is kept as a credit."""

    plan: Plan
    cycle: str
    is_upgrade: bool
    due_microusd: int
    starts_at: datetime

    def __str__(self) -> str:
        if not self.is_upgrade:
            return _("%(plan)s from %(day)s on. Until then everything stays; nothing is charged now.") % {
                "plan": self.plan,
                "day": dates.said(self.starts_at, "j F Y"),
            }
        if self.due_microusd > 0:
            return _("%(plan)s at once. %(sum)s is charged now: what is left of the present period is counted.") % {
                "plan": self.plan,
                "sum": dollars(self.due_microusd),
            }
        return _("%(plan)s at once. Nothing is charged now: what is left of the present period is counted.") % {
            "plan": self.plan
        }


def customer(brand: Brand, user: User) -> Customer:
    """The member as the provider knows them; made once, however many tabs ask."""
    mine = {"brand": brand, "owner_id": user.pk, "provider": provider()}
    with scope(SERVICE):
        known = Customer.objects.filter(**mine).first()
    if known:
        return known
    with in_our_words():
        made = stripe().v1.customers.create(
            params={"email": user.email, "metadata": {"brand": str(brand.pk), "user": str(user.pk)}},
            options=cast(Any, once("customer", brand.pk, user.pk, user.email)),
        )
    with scope(SERVICE):
        Customer.objects.bulk_create([Customer(stripe_customer_id=made.id, **mine)], ignore_conflicts=True)
        return Customer.objects.get(**mine)


def start_subscription(brand: Brand, user: User, plan: Plan, *, cycle: str, key: str, origin: str = "") -> str:
    """Where the member pays for a plan: a page of Stripe's. The same `key` is the same page.

    Raises  NotForSale for a plan that this brand does not offer so; NotNow for a member who pays for one already
    """
    _check_plan(brand, plan, cycle)
    with scope(SERVICE):
        paid = _paid_subscription(brand, user)
        may_try = bool(plan.trial_days) and not lifecycle.had_trial(brand, user.pk)
    if paid:
        raise NotNow(
            _("You pay for %(plan)s already. Change that plan instead. Nothing was charged.") % {"plan": paid.plan.name}
        )
    lines: list[dict[str, Any]] = [{"price": price} for price in price_ids(brand, *_keys(plan, cycle))]
    if _price(plan, cycle):
        lines[0]["quantity"] = 1
    whose = _whose(brand, user, kind=PLAN, plan=plan.code, cycle=cycle)
    terms: dict[str, Any] = {"metadata": whose}
    if may_try:
        terms |= {
            "trial_period_days": plan.trial_days,
            "trial_settings": {"end_behavior": {"missing_payment_method": "cancel"}},
        }
    return _checkout(
        brand,
        user,
        whose,
        key=key,
        origin=origin,
        mode="subscription",
        line_items=lines,
        subscription_data=terms,
        payment_method_collection="always" if not may_try or plan.overage_by_default else "if_required",
    )


def buy_pack(brand: Brand, user: User, offer: CreditPackOffer, *, key: str, origin: str = "") -> str:
    """Where the member pays for a pack. The same `key` is the same page; an older page for the same pack is closed (S-14).

    What is bought is what was offered at this moment: it travels with the payment.
    """
    if offer.brand_id != brand.pk or not offer.is_active:
        raise NotForSale(_("This pack is not on offer. Choose another one; nothing was charged."))
    _check_currency(brand, offer.currency)
    (price,) = price_ids(brand, key_of(brand, offer.code, ONCE))
    whose = _whose(
        brand,
        user,
        kind=PACK,
        offer=offer.code,
        name=offer.name,
        meter=offer.meter,
        amount=offer.amount,
        price_microusd=offer.price_microusd,
        days=offer.expires_after_days or "",
    )
    return _checkout(
        brand,
        user,
        whose,
        key=key,
        origin=origin,
        mode="payment",
        line_items=[{"price": price, "quantity": 1}],
        payment_intent_data={"metadata": whose},
        invoice_creation={"enabled": True},
    )


def store_payment_method(brand: Brand, user: User, *, key: str = "", origin: str = "") -> str:
    """Where the member stores a card for what goes beyond the plan. Nothing is charged by it.

    Whose plan allows that and is paid for by nobody agrees to be charged by the month for it: a subscription to nothing
    but the meter.
    """
    with scope(SERVICE):
        currency, row = _currency(brand), lifecycle.current(brand, user.pk)
    if row and not row.provider_subscription_id and row.plan.overage_allowed:
        whose = _whose(brand, user, kind=PLAN, plan=row.plan.code, cycle=MONTH)
        return _checkout(
            brand,
            user,
            whose,
            key=key or str(clock.now_ns()),
            origin=origin,
            mode="subscription",
            line_items=[{"price": price} for price in price_ids(brand, key_of(brand, OVERAGE, MONTH))],
            subscription_data={"metadata": whose},
            payment_method_collection="always",
        )
    whose = _whose(brand, user, kind=CARD)
    return _checkout(
        brand,
        user,
        whose,
        key=key or str(clock.now_ns()),
        origin=origin,
        mode="setup",
        currency=currency.lower(),
        setup_intent_data={"metadata": whose},
    )


def portal(brand: Brand, user: User, *, origin: str = "") -> str:
    """Stripe's own pages for this customer: cards, invoices, ending the plan."""
    back = f"{origin or brands.address(brand)}{reverse('plan-and-usage')}"
    mine = customer(brand, user)
    with in_our_words():
        made = stripe().v1.billing_portal.sessions.create(
            params={"customer": mine.stripe_customer_id, "return_url": back}
        )
    return made.url


def preview_change(brand: Brand, user: User, plan: Plan, *, cycle: str) -> Change:
    """What change_plan() would do, and cost, now."""
    row, theirs, item, price = _before_change(brand, user, plan, cycle)
    return _change(row, theirs, item, price, plan, cycle)


def change_plan(brand: Brand, user: User, plan: Plan, *, cycle: str, key: str) -> Change:
    """To a dearer plan at once, and charged for the rest of the period; to a cheaper one when the period is over.

    Raises  PaymentRefused when the difference could not be charged: then everything is as before
            NotNow for a member who pays for nothing, for the plan they have, and from yearly to monthly in a paid year
    """
    row, theirs, item, price = _before_change(brand, user, plan, cycle)
    change = _change(row, theirs, item, price, plan, cycle)
    with in_our_words():
        stripe().v1.subscriptions.update(
            row.provider_subscription_id,
            params=cast(
                Any,
                {
                    "items": _moved(theirs, item, price, plan, cycle),
                    "metadata": _whose(brand, user, kind=PLAN, plan=plan.code, cycle=cycle),
                    "proration_behavior": "always_invoice" if change.is_upgrade else "none",
                    **({"payment_behavior": "error_if_incomplete"} if change.is_upgrade else {}),
                },
            ),
            options=cast(Any, once("change", brand.pk, user.pk, key, price)),
        )
    return change


def cancel(brand: Brand, user: User, *, reason: str, comment: str = "") -> None:
    """End the plan with the period that is paid. Raises NotNow when nothing renews by itself, Invalid for another reason."""
    if reason not in REASONS:
        raise Invalid(_("Choose one of the reasons. Your plan was not cancelled."))
    row = _own_subscription(brand, user)
    details = {"feedback": reason, "comment": comment.strip()[:1000]}
    _update(row, {"cancel_at_period_end": True, "cancellation_details": details})


def resume(brand: Brand, user: User) -> None:
    """Take a cancellation back, while the period it waits for goes on."""
    row = _own_subscription(brand, user)
    if not row.cancel_at_period_end:
        raise NotNow(_("%(plan)s is not cancelled: it renews by itself.") % {"plan": row.plan.name})
    _update(row, {"cancel_at_period_end": False})


def refund(
    transaction: BillingTransaction, *, amount_microusd: int | None = None, reason: str, actor_id: UUID | None
) -> None:
    """Give money back, all that is left of it or a part. What it bought is taken back when Stripe's news of it arrives.

    Raises  Invalid for more than is left, for nothing, and without a reason
    """
    if not reason.strip():
        raise Invalid("A refund needs a reason: it stands in the books for good.")
    with scope(SERVICE):
        row = BillingTransaction.objects.get(pk=transaction.pk)
        back = list(
            BillingTransaction.objects.filter(
                brand=row.brand_id, payment_id=row.payment_id, type=BillingTransaction.Type.REFUND
            ).values_list("status", "total_amount_microusd")
        )
    undone = (BillingTransaction.Status.FAILED, BillingTransaction.Status.VOID)
    left = row.total_amount_microusd + sum(total for status, total in back if status not in undone)
    if not row.payment_id or row.payment_provider != provider() or row.total_amount_microusd <= 0:
        raise Invalid("Nothing was paid here that could be given back.")
    amount = left if amount_microusd is None else amount_microusd
    if not 0 < amount <= left:
        raise Invalid(f"Of this payment {dollars(left)} is left: give back a part of that, more than nothing.")
    with in_our_words():
        stripe().v1.refunds.create(
            params={
                "payment_intent": row.payment_id,
                "amount": minor(amount, row.currency),
                "reason": "requested_by_customer",
                "metadata": {"reason": reason.strip()[:200], "actor": str(actor_id or "")},
            },
            options=cast(Any, once("refund", row.pk, len(back), left, amount)),  # one that failed may be tried again
        )
    with scope(SERVICE):
        activity.record(
            row.brand_id,
            "payment.refunded",
            actor_id=actor_id,
            resource=("billing_transaction", row.pk),
            description=f"{dollars(amount)} of {row.description}: {reason.strip()}"[:300],
        )


def outcome(brand: Brand, user: User, session_id: str) -> Outcome:
    """How a Checkout session ended, as far as we were told: "done" once what was bought is there.

    Raises  NotFound for a session that is not this member's
    """
    with scope(SERVICE):
        mine = Customer.objects.filter(brand=brand, owner_id=user.pk, provider=provider()).first()
    if mine is None:
        raise NotFound(_("This address names no payment of yours."))
    try:
        with in_our_words():
            session = stripe().v1.checkout.sessions.retrieve(session_id)
    except sdk.InvalidRequestError as unknown:
        raise NotFound(_("This address names no payment of yours.")) from unknown
    if id_of(session.customer) != mine.stripe_customer_id:
        raise NotFound(_("This address names no payment of yours."))
    if session.status == "expired":
        return "failed"
    with scope(SERVICE):
        return "done" if session.status == "complete" and _has_arrived(session, mine) else "waiting"


def _has_arrived(session: Any, mine: Customer) -> bool:
    if session.mode == "setup":
        return Customer.objects.filter(pk=mine.pk, is_billable=True).exists()
    if session.mode == "subscription":
        rows = Subscription.objects.filter(brand=mine.brand_id, owner_id=mine.owner_id, provider=mine.provider)
        return rows.filter(provider_subscription_id=id_of(session.subscription)).exists()
    return BillingTransaction.objects.filter(
        brand=mine.brand_id,
        owner_id=mine.owner_id,
        type=BillingTransaction.Type.ONE_TIME,
        provider_transaction_id=session.id,
    ).exists()


def _checkout(brand: Brand, user: User, whose: dict[str, str], *, key: str, origin: str, **terms: Any) -> str:
    site = origin or brands.address(brand)
    back_to = "pricing" if whose["kind"] != CARD else "plan-and-usage"
    mine = customer(brand, user)
    sessions = stripe().v1.checkout.sessions
    with in_our_words():
        made = sessions.create(
            params=cast(
                Any,
                {
                    "customer": mine.stripe_customer_id,
                    "client_reference_id": str(user.pk),
                    "metadata": whose,
                    "success_url": f"{site}{BACK}?session_id={{CHECKOUT_SESSION_ID}}",
                    "cancel_url": f"{site}{reverse(back_to)}?left=1",
                    **terms,
                },
            ),
            options=cast(
                Any, once("checkout", brand.pk, user.pk, *map(whose.get, ("kind", "plan", "cycle", "offer")), key)
            ),
        )
        if made.status != "open" or not made.url:
            raise NotNow(
                _("This was paid or closed already. Reload the page to begin anew; nothing was charged again.")
            )
        _close_older(mine, made, whose)
    return made.url


def _close_older(mine: Customer, made: Any, whose: dict[str, str]) -> None:
    """One page to pay for one thing: what was opened before for the same in another tab cannot be paid any more (S-14)."""
    sessions = stripe().v1.checkout.sessions
    about = (whose["kind"], whose.get("offer"))
    for other in sessions.list(params={"customer": mine.stripe_customer_id, "status": "open", "limit": 100}).data:
        theirs = other.metadata.to_dict() if other.metadata else {}
        is_older = (other.created, other.id) < (made.created, made.id)
        if is_older and (theirs.get("kind"), theirs.get("offer")) == about:
            # Refused when it is paid or closed at this moment: what was paid twice is given back when it arrives.
            with suppress(sdk.InvalidRequestError):
                sessions.expire(other.id)


def _check_plan(brand: Brand, plan: Plan, cycle: str) -> None:
    if plan.brand_id != brand.pk or not (plan.is_active and plan.is_offered) or plan.subject != Plan.Subject.MEMBER:
        raise NotForSale(_("This plan is not on offer. Choose another one; nothing was charged."))
    if cycle not in Cycle.values or not (_price(plan, cycle) or plan.overage_by_default):
        raise NotForSale(
            (
                _("%(plan)s cannot be bought by the year. Nothing was charged.")
                if cycle == Cycle.YEAR
                else _("%(plan)s cannot be bought by the month. Nothing was charged.")
            )
            % {"plan": plan.name}
        )
    _check_currency(brand, plan.currency)


def _check_currency(brand: Brand, currency: str) -> None:
    with scope(SERVICE):
        if currency != _currency(brand):
            raise NotForSale(
                _("This is priced in %(currency)s, in which nothing is sold here. Nothing was charged.")
                % {"currency": currency}
            )


def _currency(brand: Brand) -> str:
    plans = Plan.objects.filter(brand=brand, subject=Plan.Subject.MEMBER, is_active=True, is_offered=True)
    return plans.order_by("-price_microusd", "pk").values_list("currency", flat=True).first() or "USD"


def _price(plan: Plan, cycle: str) -> int:
    if (plan.period == Plan.Period.YEAR) == (cycle == Cycle.YEAR):
        return plan.price_microusd
    return (plan.annual_price_microusd or 0) if cycle == Cycle.YEAR else 0


def _keys(plan: Plan, cycle: str) -> list[str]:
    """The plan's own price, if it costs anything, and the meter of what goes beyond it."""
    keys = [key_of(plan.brand, plan.code, cycle)] if _price(plan, cycle) else []
    return [*keys, *([key_of(plan.brand, OVERAGE, cycle)] if plan.overage_allowed else [])]


def _whose(brand: Brand, user: User, **more: object) -> dict[str, str]:
    given = {"brand": brand.pk, "user": user.pk, **more}
    return {name: str(value) for name, value in given.items() if value != ""}


def _paid_subscription(brand: Brand, user: User) -> Subscription | None:
    row = lifecycle.current(brand, user.pk)
    return row if row and row.provider_subscription_id else None


def _own_subscription(brand: Brand, user: User) -> Subscription:
    with scope(SERVICE):
        row = _paid_subscription(brand, user)
    if row is None or row.provider != provider():
        raise NotNow(_("There is nothing to change here: no plan of yours is paid for and renews by itself."))
    return row


def _update(row: Subscription, params: dict[str, Any]) -> None:
    with in_our_words():
        stripe().v1.subscriptions.update(row.provider_subscription_id, params=cast(Any, params))


def _before_change(brand: Brand, user: User, plan: Plan, cycle: str) -> tuple[Subscription, dict[str, Any], str, str]:
    _check_plan(brand, plan, cycle)
    row = _own_subscription(brand, user)
    if not _price(plan, cycle) or not _price(row.plan, row.cycle):
        raise NotNow(
            _("Cancel %(plan)s first, and begin %(other)s when it has ended. Nothing was charged.")
            % {"plan": row.plan.name, "other": plan.name}
        )
    if (plan.pk, cycle) == (row.plan_id, row.cycle) and row.next_plan_id is None:
        raise NotNow(_("%(plan)s is the plan you have. Nothing was changed.") % {"plan": plan.name})
    is_back = (plan.pk, cycle) == (row.plan_id, row.cycle)
    if row.next_plan and not is_back and plan.monthly_microusd >= row.plan.monthly_microusd:
        # Stripe's line has the cheaper price already, so it would charge the difference to what is paid once more.
        raise NotNow(
            _("A change to %(next_plan)s is planned. Take that back first. Nothing was changed or charged.")
            % {"next_plan": row.next_plan.name}
        )
    if (row.cycle, cycle) == (Cycle.YEAR, Cycle.MONTH):
        raise NotNow(
            _("The year is paid. Cancel it for its end, and begin by the month then. Nothing was changed or charged.")
        )
    if row.cycle != cycle and plan.monthly_microusd < row.plan.monthly_microusd:
        raise NotNow(_("Change to %(plan)s by the month first. Nothing was changed or charged.") % {"plan": plan.name})
    with in_our_words():
        theirs = stripe().v1.subscriptions.retrieve(row.provider_subscription_id).to_dict()
    metered = {True: "", False: ""}
    for item in theirs["items"]["data"]:
        metered[(item["price"]["recurring"] or {}).get("usage_type") == "metered"] = item["id"]
    if not metered[False]:
        raise NotNow(
            _(
                "%(plan)s was given to you, and you pay only for what goes beyond it. Cancel that first, then choose "
                "%(other)s. Nothing was changed or charged."
            )
            % {"plan": row.plan.name, "other": plan.name}
        )
    (price,) = price_ids(brand, key_of(brand, plan.code, cycle))
    return row, theirs, metered[False], price


def _moved(theirs: dict[str, Any], item: str, price: str, plan: Plan, cycle: str) -> list[dict[str, Any]]:
    """The subscription's lines as they shall be: another price for the plan, and the meter by the same cycle.

    Without the meter nobody would be charged for what the new plan allows beyond it.
    """
    lines: list[dict[str, Any]] = [{"id": item, "price": price, "quantity": 1}]
    others = [other for other in theirs["items"]["data"] if other["id"] != item]
    if any(other["price"]["recurring"]["interval"] != cycle for other in others) or (
        plan.overage_allowed and not others
    ):
        (meter,) = price_ids(plan.brand, key_of(plan.brand, OVERAGE, cycle))
        lines += [{"id": other["id"], "price": meter} for other in others] or [{"price": meter}]
    return lines


def _change(row: Subscription, theirs: dict[str, Any], item: str, price: str, plan: Plan, cycle: str) -> Change:
    """A dearer plan, and a year instead of a month, is at once; a cheaper plan waits, as lifecycle has it.

    To take a cheaper one back costs nothing: the dearer is paid until its period ends.
    """
    if (plan.pk, cycle) == (row.plan_id, row.cycle):
        return Change(plan, cycle, False, 0, clock.now())
    if plan.monthly_microusd < row.plan.monthly_microusd:
        return Change(plan, cycle, False, 0, row.period_ends_at or clock.now())
    with in_our_words():
        invoice = stripe().v1.invoices.create_preview(
            params=cast(
                Any,
                {
                    "customer": id_of(theirs["customer"]),
                    "subscription": row.provider_subscription_id,
                    "subscription_details": {
                        "items": _moved(theirs, item, price, plan, cycle),
                        "proration_behavior": "always_invoice",
                    },
                },
            )
        )
    return Change(plan, cycle, True, micro(invoice.amount_due, plan.currency), moment(invoice.created) or clock.now())
