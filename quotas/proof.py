"""The proof: every number that is kept against the lines it is the sum of.

`manage.py check_balances`, the nightly job and the admin's page call it.
"""

from dataclasses import dataclass
from uuid import UUID

from django.db import connections

from lib.db import SERVICE, current_alias, scope

# Each selects what is wrong: row id, brand, owner, bucket, meter, then the numbers claimed and those proved, by these names.
# One statement each, so that it sees one instant.
DRIFTS = {
    ("bucket", ("limit", "used", "held", "excess")): """
        select b.id, b.brand_id, b.owner_id, b.id, b.meter,
               b."limit", b.used, b.held, b.excess, e.limits, e.uses, h.holds, beyond
        from quotas_bucket b
        cross join lateral (
            select coalesce(sum(limit_delta), 0)::bigint as limits, coalesce(sum(used_delta), 0)::bigint as uses
            from quotas_entry where bucket_id = b.id
        ) e
        cross join lateral (
            select coalesce(sum(amount), 0)::bigint as holds from quotas_hold where bucket_id = b.id
        ) h
        cross join lateral (select coalesce(greatest(0, b.used + b.held - b."limit"), 0) as beyond) excess
        where coalesce(b."limit", 0) <> e.limits or b.used <> e.uses or b.held <> h.holds or b.excess <> beyond
        order by b.id""",
    ("pack", ("amount", "taken_back")): """
        select b.id, b.brand_id, b.owner_id, b.id, b.meter, p.amount, p.taken_back, e.bought, e.cut
        from quotas_bucket b left join quotas_pack p on p.bucket_id = b.id
        cross join lateral (
            select coalesce(sum(limit_delta) filter (where kind = 'top_up'), 0)::bigint as bought,
                   coalesce(-sum(limit_delta) filter (where kind = 'reversal'), 0)::bigint as cut
            from quotas_entry where bucket_id = b.id
        ) e
        where b.pocket = 'pack' and (p.amount is distinct from e.bought or p.taken_back < e.cut)
        order by b.id""",
    ("account", ("arrears_microusd",)): """
        select a.id, a.brand_id, a.owner_id, b.id, 'what is owed', a.arrears_microusd, coalesce(e.owed, 0)
        from quotas_account a
        left join quotas_bucket b on b.account_id = a.id and b.pocket = 'arrears'
        cross join lateral (select sum(used_delta)::bigint as owed from quotas_entry where bucket_id = b.id) e
        where a.arrears_microusd <> coalesce(e.owed, 0)
        order by a.id""",
    ("reservation", ("settlements",)): """
        select e.reservation, e.brand_id, e.owner_id, e.bucket_id, b.meter, 1, count(*)
        from quotas_entry e join quotas_bucket b on b.id = e.bucket_id
        where e.kind = 'use' and e.reservation is not null
        group by 1, 2, 3, 4, 5 having count(*) > 1
        order by 1, 4""",
    ("reservation", ("pockets beside the plan",)): """
        select e.reservation, e.brand_id, e.owner_id, null::uuid, 'its unit', 1, count(*)
        from quotas_entry e join quotas_bucket b on b.id = e.bucket_id
        where e.kind = 'use' and e.reservation is not null and b.pocket in ('pack', 'overage')
        group by 1, 2, 3 having count(distinct e.bucket_id) > 1
        order by 1""",
    ("reservation", ("open holds after its settlement",)): """
        select h.reservation, h.brand_id, h.owner_id, h.bucket_id, h.meter, 0, 1
        from quotas_hold h
        where exists (select from quotas_entry e where e.reservation = h.reservation and e.kind = 'use')
        order by 1, 4""",
}


def prove_also(row: str, names: tuple[str, ...], sql: str) -> None:
    """Add a proof of what a higher room makes of the ledger, as a statement like those of DRIFTS. For its ready()."""
    DRIFTS[row, names] = sql


@dataclass(frozen=True, slots=True)
class Drift:
    """A row whose numbers do not equal its lines. `claims` and `proves` are in the order of `names`."""

    row: str
    row_id: UUID
    brand_id: UUID
    owner_id: UUID
    bucket_id: UUID | None
    meter: str
    names: tuple[str, ...]
    claims: tuple[int | None, ...]
    proves: tuple[int, ...]

    def __str__(self) -> str:
        claims, proves = (
            ", ".join(f"{name} {number}" for name, number in zip(self.names, numbers, strict=True))
            for numbers in (self.claims, self.proves)
        )
        return f"{self.row} {self.row_id} ({self.meter}) says {claims}; its lines prove {proves}"


def drifts() -> list[Drift]:
    """Every row whose numbers differ from its lines. Empty = every balance is proved, each of its kind at one instant."""
    found = []
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        for (row, names), sql in DRIFTS.items():
            cursor.execute(sql)
            for row_id, brand_id, owner_id, bucket_id, meter, *numbers in cursor.fetchall():
                claims, proves = tuple(numbers[: len(names)]), tuple(numbers[len(names) :])
                found.append(Drift(row, row_id, brand_id, owner_id, bucket_id, meter, names, claims, proves))
    return found


def counts() -> dict[str, int]:
    """How much was proved: buckets, packs, entries, open holds."""
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        cursor.execute(
            "select (select count(*) from quotas_bucket), (select count(*) from quotas_pack),"
            " (select count(*) from quotas_entry), (select count(*) from quotas_hold)"
        )
        return dict(zip(("buckets", "packs", "entries", "open_holds"), cursor.fetchone(), strict=True))
