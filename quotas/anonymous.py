"""What people without an account may ask: each visitor in all, their network in a day, all of a brand's in a day.

The brand's settings say how much. They become entitlements like a plan's, when somebody asks who has others, so that the one
rule of the meter decides and no job has to run.
"""

from uuid import UUID

from accounts.models import Brand
from lib.db import SERVICE, scope
from quotas.entitlements import Grant, entitle
from quotas.models import Account, Bucket, Entitlement, Meter

Subject = tuple[str, UUID]


def allow(brand: Brand, visitor_id: UUID, network_id: UUID) -> tuple[Subject, ...]:
    """Give a visitor and those beside them what the brand's settings say now; the accounts for `ledger.reserve(also=)`.

    One statement when they have it already. With no scope open, or the service's.
    """
    wanted: dict[Subject, Grant] = {
        (Account.Kind.VISITOR.value, visitor_id): Grant(Meter.QUERIES.value, "lifetime", brand.anonymous_allowance),
        (Account.Kind.NETWORK.value, network_id): Grant(Meter.QUERIES.value, "day", brand.anonymous_per_network),
        (Account.Kind.VISITORS.value, brand.pk): Grant(Meter.QUERIES.value, "day", brand.anonymous_per_day),
    }
    owners = {owner_id for _, owner_id in wanted}
    in_force = Entitlement.objects.filter(brand=brand, owner_id__in=owners, meter=Meter.QUERIES, ends_at=None)
    with scope(SERVICE):
        has = {
            (kind, owner): limit for kind, owner, limit in in_force.values_list("account__kind", "owner_id", "limit")
        }
        for (kind, owner_id), grant in wanted.items():
            if has.get((kind, owner_id), -1) != grant.limit:
                entitle(brand, kind=kind, owner_id=owner_id, grants=[grant])
    return tuple(subject for subject in wanted if subject[0] != Account.Kind.VISITOR)


def left(brand: Brand, visitor_id: UUID) -> int:
    """How many of the visitor's own questions are left, in the visitor's scope. What others take of a day nobody is told."""
    own = Bucket.objects.filter(brand=brand, owner_id=visitor_id, meter=Meter.QUERIES, pocket=Bucket.Pocket.PLAN)
    taken = sum(bucket.used + bucket.held for bucket in own.only("used", "held"))
    return max(0, brand.anonymous_allowance - taken)
