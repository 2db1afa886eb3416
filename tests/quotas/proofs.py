"""INV1-INV10 of RELIABILITY (b), as far as the meter alone can show them. Call `prove(world)` after every case.

INV8 (deleting content leaves the sums) is the same proof, called after a deletion; INV9 needs Stripe.
"""

import threading
from uuid import UUID

from django.db import connections

from lib.db import SERVICE, close_all, current_alias, scope
from lib.ids import uuid7
from quotas import ledger, proof
from quotas.models import Bucket, Hold, Pack

# Each names what must not be found, and selects it.
NEVER = {
    "INV1 a reservation is charged twice on one bucket": """
        select reservation, bucket_id from quotas_entry where reservation is not null and kind = 'use'
        group by 1, 2 having count(*) > 1""",
    "INV1 a reservation is paid from two pockets beside the plan": """
        select e.reservation from quotas_entry e join quotas_bucket b on b.id = e.bucket_id
        where e.kind = 'use' and b.pocket in ('pack', 'overage') group by 1 having count(*) > 1""",
    "INV1 a unit is taken from a pack or charged although its plan paid": """
        select h.reservation from quotas_hold h join quotas_bucket b on b.id = h.bucket_id
        group by h.reservation, b.account_id, h.meter having count(*) > 1""",
    "INV1 a question with one's own key was charged": """
        select id from quotas_entry where own_key and used_delta <> 0
        union all select id from quotas_hold where own_key and amount <> 0""",
    "INV1 a line's owner or brand is not its bucket's": """
        select e.id from quotas_entry e join quotas_bucket b on b.id = e.bucket_id
        where (e.brand_id, e.owner_id) <> (b.brand_id, b.owner_id)
        union all
        select h.id from quotas_hold h join quotas_bucket b on b.id = h.bucket_id
        where (h.brand_id, h.owner_id) <> (b.brand_id, b.owner_id)
            or case b.pocket when 'overage' then h.amount % h.rate <> 0 else h.meter <> b.meter or h.rate <> 1 end""",
    "INV2 a bucket is overspent": """
        select id from quotas_bucket where used + held > "limit" + excess
            or excess <> coalesce(greatest(0, used + held - "limit"), 0)""",
    "INV3 what is owed is not what the ledger says": """
        select a.id from quotas_account a
        left join quotas_bucket b on b.account_id = a.id and b.pocket = 'arrears'
        where a.arrears_microusd <> coalesce(b.used, 0)""",
    "INV4 a hold is open although it was settled": """
        select h.id from quotas_hold h join quotas_entry e on e.hold_id = h.id""",
    "INV4 a reservation is settled in one place and held in another": """
        select h.reservation from quotas_hold h join quotas_entry e on e.reservation = h.reservation""",
    "INV5 somebody may change or delete a line of the ledger": """
        select role, verb from unnest(array['app_user', 'app_brand', 'app_visitor', 'app_service', 'web', 'worker']) role,
            unnest(array['UPDATE', 'DELETE', 'TRUNCATE']) verb
        where has_table_privilege(role, 'quotas_entry', verb)""",
    "INV6 an amount is not a BIGINT": """
        select table_name, column_name from information_schema.columns
        where table_name in ('quotas_bucket', 'quotas_hold', 'quotas_entry', 'quotas_entitlement', 'quotas_pack')
            and column_name in ('limit', 'used', 'held', 'excess', 'rate', 'amount', 'taken_back', 'limit_delta',
                                'used_delta', 'cost_microusd')
            and data_type <> 'bigint'""",
    "INV6 an amount is negative": """
        select id from quotas_bucket where least(used, held, "limit") < 0
        union all select id from quotas_hold where amount < 0
        union all select id from quotas_entry where cost_microusd < 0 or (kind = 'use' and used_delta < 0)""",
    "INV7 two windows of one kind overlap": """
        select a.id, b.id from quotas_bucket a join quotas_bucket b using (account_id, meter, pocket, "window")
        where a.pocket = 'plan' and a.opens_at < b.opens_at and (a.closes_at is null or a.closes_at > b.opens_at)""",
}


def prove(world, *, now=None, zone_was_changed=False):
    """Assert every invariant. `now` is what the ledger was told it is: INV10 asks whether a hold outlived its turn."""
    drifts = proof.drifts()
    assert not drifts, "\n".join(str(drift) for drift in drifts)
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        for what, sql in NEVER.items():
            if zone_was_changed and what.startswith("INV7"):
                continue
            cursor.execute(sql)
            found = cursor.fetchall()
            assert not found, f"{what}: {found}"
        if now is not None:
            assert not Hold.objects.filter(expires_at__lt=now).exists(), "INV10 a hold outlived every turn"


def ask(brand, user, *, queries=1, tokens=1000, now=None, reservation=None) -> UUID:
    return asked(brand, user, queries=queries, tokens=tokens, now=now, reservation=reservation)[0]


def asked(brand, user, *, queries=1, tokens=1000, reservation=None, **fields) -> tuple[UUID, str]:
    """The reservation, and the pocket that pays for it."""
    reservation = reservation or uuid7()
    amounts = {"queries": queries, "tokens": tokens}
    asker = ("user", user.pk)
    return reservation, ledger.reserve(brand, asker=asker, amounts=amounts, reservation=reservation, **fields)


def bucket(brand, owner_id, meter, *, window=None, at=None, pocket="plan") -> Bucket:
    """The only bucket of its kind, or the one that is open `at`."""
    with scope(SERVICE):
        found = Bucket.objects.filter(brand=brand, owner_id=owner_id, meter=meter, pocket=pocket)
        if window:
            found = found.filter(window=window)
        if at:
            found = found.filter(opens_at__lte=at).exclude(closes_at__lte=at)
        return found.get()


def numbers(brand, owner_id, meter, **which) -> tuple[int | None, int, int]:
    row = bucket(brand, owner_id, meter, **which)
    return row.limit, row.used, row.held


def pack(brand, user, amount, *, meter="queries", price=0, source=None, expires_at=None, now=None) -> Pack:
    return ledger.grant_pack(
        brand,
        user.pk,
        meter=meter,
        amount=amount,
        name=f"{amount} {meter}",
        price_microusd=price,
        source=source or f"test:{uuid7()}",
        expires_at=expires_at,
        reason="bought",
        now=now,
    )


def balance(pack) -> tuple[int | None, int, int]:
    with scope(SERVICE):
        row = Bucket.objects.get(pack=pack)
    return row.limit, row.used, row.held


def entitle(brand, user, *grants, now=None, **fields):
    return ledger.entitle(
        brand, kind="user", owner_id=user.pk, grants=[ledger.Grant(*grant) for grant in grants], now=now, **fields
    )


def together(count, work):
    """Run `work(number)` in `count` threads that start at the same moment; returns results and errors, by number."""
    gate, outcomes = threading.Barrier(count), [None] * count

    def one(number):
        try:
            gate.wait(30)
            outcomes[number] = work(number)
        except Exception as error:
            outcomes[number] = error
        finally:
            close_all()

    threads = [threading.Thread(target=one, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert not any(thread.is_alive() for thread in threads), "a thread hangs"
    return outcomes
