"""What is to be done for somebody who was put out of a brand, once nobody takes that back any more."""

from contextlib import suppress
from uuid import UUID

from accounts.models import ApiKey, Brand, Membership, User
from billing import till
from billing.errors import NotNow
from lib.db import SERVICE, scope


def part(brand_id: UUID, user_id: UUID) -> bool:
    """A plan that renews ends with the period that is paid, and the keys of who was removed are revoked.

    Returns False for who is back by then: nothing is done. Talks to Stripe, outside every scope. Safe to repeat.
    """
    with scope(SERVICE):
        brand, user = Brand.objects.get(pk=brand_id), User.objects.get(pk=user_id)
        membership = Membership.objects.filter(brand=brand, user=user).first()
        if membership and membership.suspended_at is None:
            return False
        if membership is None:
            ApiKey.objects.filter(brand=brand, user=user, is_active=True).update(is_active=False)
    with suppress(NotNow):  # nothing renews
        till.cancel(brand, user, reason="other", comment="Access ended by the brand")
    return True
