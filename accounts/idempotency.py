"""The same request twice is one request. Keys are the caller's own; answers are kept for 24 hours."""

import hashlib
from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import IdempotencyRecord
from lib import clock
from lib.db import Principal, send
from lib.errors import Conflict, DomainError, Invalid
from lib.ids import uuid7

KEEP = timedelta(hours=24)
TAKE_OVER_AFTER = timedelta(seconds=60)  # a first request that died this long ago may be done again, under the same id

CLAIM = """
insert into accounts_idempotencyrecord (id, brand_id, owner_id, route, key, request_hash, created_at)
values (%(id)s, %(brand)s, %(owner)s, %(route)s, %(key)s, %(hash)s, %(now)s)
on conflict (brand_id, owner_id, route, key) do nothing
returning id
"""


class KeyReused(DomainError):
    says = gettext_lazy("This Idempotency-Key was used for a different request. Use a new key for a new request.")
    status, code = 422, "idempotency_key_reused"


def fingerprint(*parts: object) -> str:
    return hashlib.sha256(repr(parts).encode("utf-8", "surrogatepass")).hexdigest()


def claim(principal: Principal, *, route: str, key: str, request_hash: str) -> tuple[UUID, dict[str, Any] | None]:
    """Claim a key for this request; inside the principal's scope.

    Returns  (id, None) when the work is ours to do, under this id; (id, body) with the first answer when it was done
    Raises   Conflict (409, retry_after) while the first request runs; KeyReused (422) for another request
    """
    _refuse_unfit(key)
    now = clock.now()
    names = {
        "id": uuid7(),
        "brand": principal.brand_id,
        "owner": principal.owner_id,
        "route": route,
        "key": key,
        "hash": request_hash,
        "now": now,
    }
    (claimed,) = send((CLAIM, names))
    if claimed:
        return claimed[0].id, None
    of_key = IdempotencyRecord.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, route=route, key=key
    )
    first = of_key.first()
    if first is not None and first.created_at < now - KEEP:
        first.delete()
        first = None
    if first is None:  # too old, or given back since our insert met it
        return claim(principal, route=route, key=key, request_hash=request_hash)
    if first.request_hash != request_hash:
        raise KeyReused
    if first.status is not None:
        return first.pk, first.body
    stale = Q(pk=first.pk, status=None, created_at__lt=now - TAKE_OVER_AFTER)
    if IdempotencyRecord.objects.filter(stale).update(created_at=now):
        return first.pk, None
    raise Conflict(_("The same request is being worked on. Ask again in a moment for its answer."), retry_after=1)


def first(principal: Principal, *, route: str, key: str, request_hash: str) -> dict[str, Any] | None:
    """The first answer under a key, None where there is none; inside the principal's scope. Nothing is claimed.

    Raises  KeyReused (422) for another request
    """
    _refuse_unfit(key)
    of_key = IdempotencyRecord.objects.filter(
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        route=route,
        key=key,
        created_at__gte=clock.now() - KEEP,
    )
    row = of_key.first()
    if row is not None and row.request_hash != request_hash:
        raise KeyReused
    return row.body if row is not None and row.status is not None else None


def keep(record_id: UUID, body: dict[str, Any], *, status: int = 200) -> None:
    """Keep the first answer, in the transaction that does the work: a repeat is told it, whatever it asks later."""
    IdempotencyRecord.objects.filter(pk=record_id).update(status=status, body=body)


def forget_old() -> int:
    """Delete answers older than they are promised to be kept; in the service scope. Returns how many."""
    return IdempotencyRecord.objects.filter(created_at__lt=clock.now() - KEEP).delete()[0]


def release(record_id: UUID) -> None:
    """Give a claim back after a refusal: the same key may be tried again. In the principal's or the service's scope."""
    IdempotencyRecord.objects.filter(pk=record_id, status=None).delete()


def forget(record_id: UUID) -> None:
    """Delete the answer that is kept under a key: what it told of is deleted. In the principal's scope."""
    IdempotencyRecord.objects.filter(pk=record_id).delete()


def _refuse_unfit(key: str) -> None:
    if not 1 <= len(key) <= 255 or "\x00" in key:
        raise Invalid(_("An Idempotency-Key has 1 to 255 characters."))
