"""The proof: every bucket against its entries and open holds.

`manage.py check_balances`, the nightly job and the admin's page call it.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db import connections

from lib.db import SERVICE, current_alias, scope

DRIFT = """
select b.id, b.brand_id, b.owner_id, b.meter, b.pocket, b.opens_at,
       b."limit", e.limit_sum, b.used, e.used_sum, b.held, h.held_sum
from quotas_bucket b
cross join lateral (
    select coalesce(sum(limit_delta), 0)::bigint as limit_sum, coalesce(sum(used_delta), 0)::bigint as used_sum
    from quotas_entry where bucket_id = b.id
) e
cross join lateral (select coalesce(sum(amount), 0)::bigint as held_sum from quotas_hold where bucket_id = b.id) h
where coalesce(b."limit", 0) <> e.limit_sum or b.used <> e.used_sum or b.held <> h.held_sum
order by b.id
"""


@dataclass(frozen=True, slots=True)
class Drift:
    """A bucket that does not equal its lines. `claims` and `proves` hold limit, used and held, in that order."""

    bucket_id: UUID
    brand_id: UUID
    owner_id: UUID
    meter: str
    claims: tuple[int | None, int, int]
    proves: tuple[int, int, int]

    def __str__(self) -> str:
        claims, proves = (
            ", ".join(f"{name} {number}" for name, number in zip(("limit", "used", "held"), numbers, strict=True))
            for numbers in (self.claims, self.proves)
        )
        return f"bucket {self.bucket_id} ({self.meter}) says {claims}; its lines prove {proves}"


def drifts() -> list[Drift]:
    """Every bucket whose numbers differ from its lines. Empty = every balance is proved, at one instant."""
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        cursor.execute(DRIFT)
        return [
            Drift(row[0], row[1], row[2], row[3], (row[6], row[8], row[10]), (row[7], row[9], row[11]))
            for row in cursor.fetchall()
        ]


def counts() -> dict[str, int]:
    """How much was proved: buckets, entries, open holds."""
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        cursor.execute(
            "select (select count(*) from quotas_bucket), (select count(*) from quotas_entry),"
            " (select count(*) from quotas_hold)"
        )
        buckets, entries, holds = cursor.fetchone()
        return {"buckets": buckets, "entries": entries, "open_holds": holds}
