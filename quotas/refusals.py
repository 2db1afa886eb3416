"""Tell the stream that somebody met a limit (S2 `usage_events`), once for each window, however often it is met."""

from uuid import UUID

from accounts.models import Brand
from events import stream
from quotas.errors import QuotaExceeded

MOST_KNOWN = 10_000
_told: set[UUID] = set()  # windows of which this process knows that it was told: who asks again costs nothing more


def tell(brand: Brand, owner_id: UUID, refused: QuotaExceeded) -> None:
    """After the refusal, with no scope open. The window's own bucket is what the event is about, so it is told once."""
    if refused.bucket_id is None or refused.bucket_id in _told:
        return
    stream.publish_once(
        brand.pk,
        "quota.refused",
        subject=("bucket", refused.bucket_id),
        owner_id=owner_id,
        data={name: refused.extra[name] for name in ("reason", "meter", "limit", "resets_at")},
    )
    if len(_told) >= MOST_KNOWN:
        _told.clear()
    _told.add(refused.bucket_id)
