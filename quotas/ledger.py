"""reserve -> settle, exactly once; and all else that may change a bucket, which stands in the modules it is made of.

Every function here runs on the `service` alias in a short transaction of its own, or in the caller's service scope.
Members read their own buckets under row-level security and can change none.
"""

import logging
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID, uuid5

from django.db.models import F
from django.db.models.functions import Now

from accounts.models import Brand
from lib.db import SERVICE, Statement, scope, serve
from lib.errors import Invalid
from quotas import decision
from quotas.buckets import bucket_of, database_now, entry, locked, locked_account
from quotas.entitlements import MOST_CONCURRENT, Grant, entitle, override, set_overage, top_up
from quotas.models import Account, Bucket, Entry, Hold, Meter
from quotas.packs import TakenBack, clear_arrears, grant_pack, take_back_pack
from quotas.statements import LOCK, RESERVE, SETTLE

__all__ = [
    "MOST_CONCURRENT",
    "Grant",
    "TakenBack",
    "charge_house",
    "clear_arrears",
    "entitle",
    "grant_pack",
    "override",
    "reserve",
    "reverse",
    "set_overage",
    "settle",
    "settling",
    "take_back_pack",
    "top_up",
    "void_expired",
]

HOLD_FOR = timedelta(minutes=15)  # longer than a turn may last with all its calls; what is older is void (INV10)
REVERSALS = UUID("8d7c1c5e-6a0f-4d0b-9f4e-2f1f5f0f7a11")
log = logging.getLogger(__name__)


def reserve(
    brand: Brand,
    *,
    asker: tuple[str, UUID],
    amounts: Mapping[str, int],
    reservation: UUID,
    purpose: str = "turn",
    own_key: bool = False,
    also: Iterable[tuple[str, UUID]] = (),
    now: datetime | None = None,
) -> str:
    """Hold room on every account that applies: the asker's, those beside it, and the brand's. Settle it exactly once.

    The asker's unit (Account.features, "queries" where none is named) is paid from exactly one pocket: the plan, else the
    pack that ends soonest, else overage. Every other meter, and every other account, must have room in its plan.

    asker        (Account.Kind, id): ("user", user_id) or ("visitor", visitor_id)
    amounts      upper bounds in units of each meter: {"queries": 1, "tokens": prompt + max_tokens}
    reservation  the turn's id; a second call with it changes nothing
    purpose      what that id is an id of; what is not "turn" stands until it is settled, for HOLD_FOR at most
    own_key      the member's own key pays the vendor: nothing is charged, but it counts among the answers at once
    also         accounts of other kinds that must have room too: ("network", id), ("agent", id)
    Returns      who pays: "plan", "pack", "overage" or "own_key"
    Raises       QuotaExceeded, TooManyRunning; nothing is held then
    Durable      with the caller's next commit: until that one stores what the hold is for, nothing was asked
    Source       S0 "Check Before Sending", S1 can_user_query(), S2 check_conversation_limit()
    """
    names = decision.asking(brand, asker=asker, amounts=amounts, own_key=own_key, also=also, now=now)
    names |= {"reservation": reservation, "purpose": purpose, "own_key": own_key, "hold_for": HOLD_FOR}
    for _ in range(decision.ATTEMPTS):
        lines = serve((LOCK, names), (RESERVE, names), lazily=True)[-1]
        if lines[0].go:
            return decision.paid_by(lines, own_key=own_key)
        if lines[0].is_made:
            return _paid_from(reservation)
        if not (missing := decision.unopened(lines)):
            break
        decision.open_windows(brand, missing, now)
    raise decision.refused(brand, asker, lines)


def settle(
    reservation: UUID,
    *,
    amounts: Mapping[str, int],
    cost_microusd: int = 0,
    reason: str = "",
    now: datetime | None = None,
) -> bool:
    """Replace the holds of a reservation by their entries; a meter left out, or 0, gives its hold back whole.

    amounts  what was really used; at most the hold is charged, the rest goes to the house's account
    Returns  False when it had been settled before: nothing changes then
    """
    statement = settling(reservation, amounts=amounts, cost_microusd=cost_microusd, reason=reason, now=now)
    return bool(serve(statement)[0])


def settling(
    reservation: UUID,
    *,
    amounts: Mapping[str, int],
    cost_microusd: int = 0,
    reason: str = "",
    now: datetime | None = None,
) -> Statement:
    """settle() as a statement, for a caller whose own service transaction it belongs to."""
    meters = list(amounts)
    names = {
        "reservation": reservation,
        "meters": meters,
        "amounts": [amounts[meter] for meter in meters],
        "costs": [cost_microusd if meter == Meter.TOKENS else 0 for meter in meters],
        "reason": reason,
        "now": now,
    }
    return SETTLE, names


def charge_house(
    brand_id: UUID, *, tokens: int, reservation: UUID, reason: str = "beyond the hold", now: datetime | None = None
) -> None:
    """Book on our own account what no member pays: what a provider reported beyond the hold, or what we asked ourselves.

    A repeat for the same reservation changes nothing.
    """
    with scope(SERVICE):
        brand = Brand.objects.get(pk=brand_id)
        account = locked_account(brand, kind=Account.Kind.HOUSE, owner_id=brand_id)
        if Entry.objects.filter(reservation=reservation, bucket__account=account).exists():
            return
        at = now or database_now()
        bucket = bucket_of(account, Meter.TOKENS, "month", None, brand, at, pocket=Bucket.Pocket.HOUSE)
        Entry.objects.bulk_create(
            [entry(bucket, Entry.Kind.USE, used_delta=tokens, reservation=reservation, reason=reason)]
        )
        Bucket.objects.filter(pk=bucket.pk).update(used=F("used") + tokens)


def reverse(entry_id: UUID, *, reason: str, actor_id: UUID | None) -> Entry:
    """Give back one use, by another line: what was used of the bucket grows smaller, and history stays as it was.

    A repeat changes nothing: the line's id is made of the one it gives back, so the database says "once".

    Returns  the line that gives it back
    Raises   Invalid: not a use that cost something, or no reason
    """
    if not reason.strip():
        raise Invalid("A reversal needs a reason: it stands in the ledger for good.")
    with scope(SERVICE):
        use = Entry.objects.select_related("bucket").filter(pk=entry_id, kind=Entry.Kind.USE, used_delta__gt=0).first()
        if use is None or use.bucket.pocket in (Bucket.Pocket.ARREARS, Bucket.Pocket.HOUSE):
            raise Invalid("Only a use that was charged can be given back.")
        locked(use.bucket.account_id)
        reversal_id = uuid5(REVERSALS, str(entry_id))
        if done := Entry.objects.filter(pk=reversal_id).first():
            return done
        back = entry(
            use.bucket,
            Entry.Kind.REVERSAL,
            id=reversal_id,
            used_delta=-use.used_delta,
            rate=use.rate,
            reservation=use.reservation,
            reason=reason.strip(),
            actor_id=actor_id,
        )
        Entry.objects.bulk_create([back])
        bucket = Bucket.objects.get(pk=use.bucket_id)
        bucket.used -= use.used_delta
        bucket.excess = max(0, min(bucket.excess, bucket.used + bucket.held - (bucket.limit or 0)))
        bucket.save(update_fields=["used", "excess"])
        return back


def void_expired(now: datetime | None = None) -> int:
    """Give back holds that outlived every turn, each in a transaction of its own. Returns how many turns had any."""
    with scope(SERVICE):
        late = Hold.objects.filter(expires_at__lt=now or Now()).values_list("reservation", flat=True)
        reservations = set(late[:1000])
    voided = 0
    for reservation in reservations:
        try:
            voided += settle(reservation, amounts={}, reason="expired", now=now)
        except Exception:  # one that cannot be settled must not keep the others from it
            log.exception("the hold of %s is expired and could not be given back", reservation)
    return voided


def _paid_from(reservation: UUID) -> str:
    """The pocket that a reservation made before was taken from: of the asker's lines, the one that is not the plan's."""
    with scope(SERVICE):
        lines = [
            *Hold.objects.filter(reservation=reservation).values_list("own_key", "bucket__pocket"),
            *Entry.objects.filter(reservation=reservation, kind=Entry.Kind.USE).values_list(
                "own_key", "bucket__pocket"
            ),
        ]
    if any(own_key for own_key, _ in lines):
        return "own_key"
    beyond = (pocket for _, pocket in lines if pocket in (Bucket.Pocket.PACK, Bucket.Pocket.OVERAGE))
    return next(beyond, Bucket.Pocket.PLAN.value)
