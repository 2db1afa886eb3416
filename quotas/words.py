"""Refusals and resets in words a person can act on."""

from datetime import datetime
from zoneinfo import ZoneInfo

from quotas.errors import QuotaExceeded
from quotas.models import Account, Bucket, Meter

NAMES = {
    Meter.QUERIES: "questions",
    Meter.TOKENS: "tokens",
    Meter.CONVERSATIONS: "conversations",
    Meter.MESSAGES: "messages",
}


def meter_name(meter: str) -> str:
    return NAMES.get(Meter(meter), meter.replace("_", " "))


def resets(closes_at: datetime | None, zone: str, now: datetime) -> str:
    """When it comes back, in the brand's zone: "at midnight", "on 1 December". Empty when it never does."""
    if closes_at is None:
        return ""
    local, today = closes_at.astimezone(ZoneInfo(zone)), now.astimezone(ZoneInfo(zone))
    if (closes_at - now).total_seconds() <= 25 * 3600 and local.date() > today.date():
        return "at midnight" if (local.hour, local.minute) == (0, 0) else f"at {local:%H:%M}"
    return f"on {local.day} {local:%B}"


def refusal(bucket: Bucket, *, wanted: int, zone: str) -> QuotaExceeded:
    left, name = bucket.left, meter_name(bucket.meter)
    own = bucket.account.kind in (Account.Kind.USER, Account.Kind.VISITOR)
    if bucket.limit == 0:
        detail = f"Your plan includes no {name}."
    elif not own:
        detail = f"This brand has {left:,} {name} left, and the question may need {wanted:,}."
    elif left:
        detail = f"{left:,} of your {bucket.limit:,} {name} are left, and this may need {wanted:,}."
    else:
        detail = f"All {bucket.limit:,} {name} of your plan are used."
    if bucket.closes_at is not None:
        local = bucket.closes_at.astimezone(ZoneInfo(zone))
        detail += f" New ones come on {local.day} {local:%B} at {local:%H:%M} ({zone})."
    elif own:
        detail += " A larger plan gives more."
    else:
        detail += " Its admin can add some."
    return QuotaExceeded(
        detail + " Your text is kept, and nothing was charged.",
        reason=f"{bucket.account.kind}_{bucket.meter}_{'not_included' if bucket.limit == 0 else 'used_up'}",
        meter=bucket.meter,
        limit=bucket.limit,
        left=left,
        wanted=wanted,
        resets_at=bucket.closes_at.isoformat() if bucket.closes_at else None,
        requires_payment=own,
    )
