"""What is to be done with somebody's plan and payments before their account is deleted. It talks to Stripe, so it runs
outside every transaction.
"""

from typing import Any, cast

from django.db.models import Q

from accounts.models import User
from billing.asking import in_our_words, provider, stripe
from billing.models import Customer, StripeEvent, Subscription
from lib.db import SERVICE, scope


def end_what_renews(user: User) -> int:
    """End every plan that renews by itself, at once, and take the person's address from Stripe. Returns how many ended.

    Safe to repeat: what has ended is left alone. Invoices and payments stay, as the law asks; there, and here.
    """
    with scope(SERVICE):
        rows = Subscription.objects.filter(owner_id=user.pk, ended_at=None, provider=provider())
        renewing = list(rows.exclude(provider_subscription_id=""))
        customers = list(Customer.objects.filter(owner_id=user.pk, provider=provider()))
    with in_our_words():
        for row in renewing:
            theirs = cast(Any, stripe().v1.subscriptions.retrieve(row.provider_subscription_id))
            if theirs["status"] != "canceled":
                stripe().v1.subscriptions.cancel(row.provider_subscription_id)
        for customer in customers:
            stripe().v1.customers.update(customer.stripe_customer_id, params={"email": f"{user.pk}@erased.invalid"})
    return len(renewing)


def forget_what_stripe_told(user: User) -> int:
    """Blot out of the inbox what Stripe wrote of this person. What was made of it stands in the books. In service scope."""
    ids = list(Customer.objects.filter(owner_id=user.pk).values_list("stripe_customer_id", flat=True))
    of_them = Q(body__data__object__customer__in=ids) | Q(body__data__object__id__in=ids)
    applied = StripeEvent.objects.filter(of_them).exclude(outcome=StripeEvent.Outcome.WAITING)
    return applied.update(body={"erased": True})
