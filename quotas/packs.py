"""Packs: bought or given once per source, used up before anything is charged, and taken back only as far as they are left.

Part of quotas.ledger, by which other rooms call it.
"""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import F

from accounts.models import Brand
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Invalid
from lib.money import dollars
from lib.windows import WindowKind
from quotas.buckets import MOST_UNITS, bucket_of, entry, locked, locked_account
from quotas.models import LOCK_RANK, Account, Bucket, Entry, Meter, Pack


@dataclass(frozen=True, slots=True)
class TakenBack:
    """What became of units whose money went back: those still there are gone, those used are owed."""

    units: int
    arrears_microusd: int


def grant_pack(
    brand: Brand,
    user_id: UUID,
    *,
    meter: str,
    amount: int,
    name: str,
    price_microusd: int,
    source: str,
    expires_at: datetime | None = None,
    reason: str,
    actor_id: UUID | None = None,
    now: datetime | None = None,
) -> Pack:
    """Give a member a pack of `amount` units. The same source again, however often and at once, gives the same pack.

    price_microusd  what was paid for all of it; what is owed for units that are taken back is counted from it
    source          what it came from, unique on the brand: "checkout:cs_1", "staff:..."
    expires_at      None = never; a question that holds on it then is still paid from it
    Raises          Invalid: an amount, a price, a meter or a date that is none; a source that gave another member a pack
    """
    now = now or clock.now()
    if meter not in Meter.values or meter == Meter.OVERAGE_MICROUSD:
        raise Invalid(f"There are no packs of {meter}.")
    if not 0 < amount <= MOST_UNITS:
        raise Invalid(f"A pack holds a whole number from 1 to {MOST_UNITS:,}.")
    if not 0 <= price_microusd <= MOST_UNITS:
        raise Invalid("The price of a pack is nothing or more, in micro-dollars.")
    if not source.strip() or not reason.strip():
        raise Invalid("A pack needs a source and a reason: they stand in the ledger for good.")
    if expires_at is not None and expires_at <= now:
        raise Invalid("The pack would be over before it begins: give a later date.")
    with scope(SERVICE):
        account = locked_account(brand, kind=Account.Kind.USER, owner_id=user_id)
        found = Pack.objects.select_related("bucket").filter(brand=brand, source=source).first()
        if found is None:
            mine = {"brand": brand, "owner_id": user_id}
            bucket = Bucket(
                **mine,
                account=account,
                meter=meter,
                pocket=Bucket.Pocket.PACK,
                window=WindowKind.NONE,
                lock_rank=LOCK_RANK[account.kind],
                opens_at=now,
                closes_at=expires_at,
                limit=amount,
            )
            found = Pack(**mine, bucket=bucket, name=name, price_microusd=price_microusd, amount=amount, source=source)
            bought = entry(bucket, Entry.Kind.TOP_UP, limit_delta=amount, reason=reason.strip(), actor_id=actor_id)
            Bucket.objects.bulk_create([bucket])
            Pack.objects.bulk_create([found])
            Entry.objects.bulk_create([bought])
        if found.owner_id != user_id:
            raise Invalid("This was given to another member already, and nothing is given twice.")
        return found


def take_back_pack(pack: Pack, *, amount: int, reason: str, actor_id: UUID | None) -> TakenBack:
    """Take back units of a pack whose money went back: those that are left, by a reversal; for the others it is owed.

    amount   at most what was not taken back before; more is cut to that
    Source   S1 credit packs; the catalogue's refund after partial use
    """
    if amount <= 0:
        raise Invalid("Take back one unit or more.")
    if not reason.strip():
        raise Invalid("Taking back needs a reason: it stands in the ledger for good.")
    with scope(SERVICE):
        account = locked(Bucket.objects.values_list("account_id", flat=True).get(pack=pack))
        pack = Pack.objects.select_related("bucket").get(pk=pack.pk)
        amount = min(amount, pack.amount - pack.taken_back)
        there = min(amount, pack.bucket.left or 0)
        owed = -(-pack.price_microusd * (amount - there) // pack.amount)  # rounded up
        if there:
            cut = entry(pack.bucket, Entry.Kind.REVERSAL, limit_delta=-there, reason=reason.strip(), actor_id=actor_id)
            Entry.objects.bulk_create([cut])
            Bucket.objects.filter(pk=pack.bucket_id).update(limit=F("limit") - there)
        if owed:
            _owe(account, owed, Entry.Kind.USE, reason, actor_id)
        Pack.objects.filter(pk=pack.pk).update(taken_back=F("taken_back") + amount)
        return TakenBack(there, owed)


def clear_arrears(
    brand: Brand, user_id: UUID, *, amount_microusd: int, reason: str, actor_id: UUID | None = None
) -> Account:
    """Write down that a member paid what is owed, or that it is forgiven; at nothing owed, overage works again.

    Raises  Invalid: more than is owed, or no reason
    """
    if not reason.strip():
        raise Invalid("It needs a reason: it stands in the ledger for good.")
    with scope(SERVICE):
        account = locked_account(brand, kind=Account.Kind.USER, owner_id=user_id)
        if not 0 < amount_microusd <= account.arrears_microusd:
            raise Invalid(f"{dollars(account.arrears_microusd)} is owed: give an amount up to that.")
        _owe(account, -amount_microusd, Entry.Kind.REVERSAL, reason, actor_id)
        account.refresh_from_db()
        return account


def _owe(account: Account, microusd: int, kind: str, reason: str, actor_id: UUID | None) -> None:
    """What is owed is a bucket without a limit; the account's own column is what reserve() reads."""
    bucket = bucket_of(
        account, Meter.OVERAGE_MICROUSD, WindowKind.NONE, None, account.brand, clock.now(), pocket=Bucket.Pocket.ARREARS
    )
    Entry.objects.bulk_create([entry(bucket, kind, used_delta=microusd, reason=reason.strip(), actor_id=actor_id)])
    Bucket.objects.filter(pk=bucket.pk).update(used=F("used") + microusd)
    Account.objects.filter(pk=account.pk).update(arrears_microusd=F("arrears_microusd") + microusd)
