"""Subscriptions that the installation's own changes have left behind, and how each is brought along.

Staff allow overage on a plan after somebody subscribed to it: their subscription at Stripe has no line of the meter, so
nobody would be charged, and lifecycle.entitle() lets nothing go beyond the plan until it has one.

The installation sells by another payment service than before (from the stand-in, or from Stripe's test mode, to real money):
nobody collects for the old subscriptions, and nobody would ever end them.
"""

import logging
from dataclasses import dataclass
from typing import Any, cast

from django.conf import settings
from django.db.models import F, QuerySet

from billing import lifecycle
from billing.asking import in_our_words, is_stand_in, once, provider, stripe
from billing.books import Customer, Provider
from billing.lifecycle import Facts
from billing.models import Subscription
from billing.price_list import OVERAGE, key_of, price_ids
from billing.subscribed import ALIVE, has_meter
from lib.db import SERVICE, scope
from lib.errors import DomainError

MOST_AT_ONCE = 500
# What no money moves in, by what is in use now. Never the other way round: whoever tries a test key on a deployment
# that sells must not end what people pay for.
PLAYED: dict[str, list[Provider]] = {
    Provider.STRIPE: [Provider.STAND_IN, Provider.STRIPE_TEST],
    Provider.STRIPE_TEST: [Provider.STAND_IN],
}
log = logging.getLogger(__name__)


@dataclass(slots=True)
class Done:
    """How many were brought along, and why some could not be, each reason once."""

    mended: int = 0
    failed: int = 0
    reasons: frozenset[str] = frozenset()


def without_meter() -> QuerySet[Subscription]:
    """Subscriptions in force whose plan allows overage, and of which we do not know that Stripe has the meter on them.

    In the service scope.
    """
    rows = Subscription.objects.filter(ended_at=None, provider=_in_use(), plan__overage_allowed=True)
    return (
        rows.exclude(provider_subscription_id="").exclude(has_meter=True).select_related("brand", "plan").order_by("pk")
    )


def of_another_service() -> QuerySet[Subscription]:
    """Subscriptions in force at a payment service that is not in use any more, and where no money moved. In service scope."""
    rows = Subscription.objects.filter(ended_at=None, provider__in=PLAYED.get(_in_use(), []))
    return rows.select_related("brand", "plan").order_by("pk")


def add_meter_lines() -> Done:
    """Put the meter on every subscription that lacks it. Safe to repeat; what fails is tried again the next time."""
    with scope(SERVICE):
        rows = list(without_meter()[:MOST_AT_ONCE])
    done = Done()
    for row in rows:
        try:
            _add_meter_line(row)
            done.mended += 1
        except DomainError as refused:  # stripe_sync is due, or Stripe is away: the others may go on
            done.failed += 1
            done.reasons |= {f"{row.brand.slug}: {refused.detail}"}
        except Exception:
            log.exception("the subscription %s could not be given the meter", row.pk)
            done.failed += 1
            done.reasons |= {f"{row.brand.slug}: Stripe does not take it; the log says why."}
    return done


def end_those_of_another_service() -> int:
    """End what nobody collects money for any more; its members fall back, and are told. Returns how many. Safe to repeat."""
    with scope(SERVICE):
        rows = list(of_another_service())
    for row in rows:
        facts = Facts(
            row.plan,
            status=Subscription.Status.CANCELLED,
            cycle=row.cycle,
            provider=row.provider,
            provider_subscription_id=row.provider_subscription_id,
            reason="other",
            comment=f"It was begun at {Provider(row.provider).label}, where no money moves and which is in use no more.",
        )
        with scope(SERVICE):
            lifecycle.take(row.brand, row.owner_id, facts)
            lifecycle.set_billable(row.brand, row.owner_id, False)  # that card is one of theirs
    return len(rows)


def _in_use() -> str:
    """The payment service that this installation sells by; "" where it sells nothing: nobody knows then."""
    return provider() if is_stand_in() or settings.STRIPE_SECRET_KEY else ""


def _add_meter_line(row: Subscription) -> None:
    client, its_id = stripe().v1, row.provider_subscription_id
    with in_our_words():
        theirs = client.subscriptions.retrieve(its_id).to_dict()
        if theirs["status"] in ALIVE and not has_meter(theirs):
            (price,) = price_ids(row.brand, key_of(row.brand, OVERAGE, row.cycle))
            theirs = client.subscriptions.update(
                its_id,
                params=cast(Any, {"items": [{"price": price}], "proration_behavior": "none"}),
                options=cast(Any, once("meter-line", its_id, price)),
            ).to_dict()
    with scope(SERVICE):
        # Who looked at Stripe before this looks again, and finds the line.
        Customer.objects.filter(brand=row.brand, owner_id=row.owner_id, provider=row.provider).update(
            revision=F("revision") + 1
        )
        lifecycle.set_metered(row.brand, row.owner_id, its_id, has_meter(theirs))
