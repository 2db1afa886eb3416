"""Deleting an account that pays: the plan ends first, at Stripe too, and what Stripe told of the person is blotted out."""

import json

from billing import till
from billing.models import BillingTransaction, StripeEvent, Subscription
from chatsite import erasing
from lib.db import SERVICE, scope
from tests import factories
from tests.billing import shop


def test_a_plan_that_renews_is_ended_before_its_person_is_erased(world):
    """O-17: nobody is charged who cannot sign in any more; the payments stay, without an address."""
    cara = factories.make_user("canary-cara@example.com")
    factories.make_member(world.act, cara)
    shop.subscribe(world.act, cara)
    shop.deliver()
    with scope(SERVICE):
        row = Subscription.objects.get(owner_id=cara.pk, ended_at=None, plan__code="basic")
        paid = BillingTransaction.objects.filter(owner_id=cara.pk).count()

    erasing.erase(cara)
    after = shop.deliver()

    assert till.stripe().v1.subscriptions.retrieve(row.provider_subscription_id)["status"] == "canceled"
    assert "customer.subscription.deleted" in after
    with scope(SERVICE):
        assert not Subscription.objects.filter(owner_id=cara.pk, plan__code="basic", ended_at=None).exists()
        assert BillingTransaction.objects.filter(owner_id=cara.pk).count() == paid > 0
        told = [json.dumps(body) for body in StripeEvent.objects.values_list("body", flat=True)]
    assert [body for body in told if "canary" in body] == []
    assert erasing.erase(cara).rows >= 0  # a repeat is refused by nothing
