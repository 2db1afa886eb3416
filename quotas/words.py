"""Refusals and resets in words a person can act on."""

from datetime import datetime
from zoneinfo import ZoneInfo

from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import Account, Meter

NAMES = {
    Meter.QUERIES: "questions",
    Meter.TOKENS: "tokens",
    Meter.CONVERSATIONS: "conversations",
    Meter.MESSAGES: "messages",
}
RETRY_AFTER_S = 5


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


def no_plan() -> QuotaExceeded:
    return QuotaExceeded(
        "You have no plan on this brand yet, so there is nothing to ask with. Ask its admin for one.",
        reason="no_plan",
        meter=Meter.QUERIES.value,
        limit=0,
        left=0,
        wanted=1,
        resets_at=None,
        requires_payment=False,
    )


def too_many_running(kind: str, limit: int) -> TooManyRunning:
    """The cap on answers at once. When one will end nobody knows, so the wait is a guess; stopping one ends it now."""
    own = kind in (Account.Kind.USER, Account.Kind.VISITOR)
    running = "one answer" if limit == 1 else f"{limit:,} answers"
    if own:
        detail = f"You have {running} running, which is all you may have at once. Wait for one to end, or stop one."
    else:
        detail = f"This brand has {running} running, which is all it may have at once. Wait a moment, and ask again."
    return TooManyRunning(
        f"{detail} Your text is kept, and nothing was charged.",
        reason=f"{kind}_concurrent_turns",
        limit=limit,
        retry_after=RETRY_AFTER_S,
    )


def refusal(
    kind: str, meter: str, *, limit: int, left: int, wanted: int, closes_at: datetime | None, zone: str
) -> QuotaExceeded:
    """Say who lacks what, and what brings more: the next window, a larger plan, or the brand's admin."""
    own, name = kind in (Account.Kind.USER, Account.Kind.VISITOR), meter_name(meter)
    if limit == 0:
        detail = f"{'Your plan' if own else 'The plan of this brand'} includes no {name}."
    elif not own:
        detail = f"This brand has {left:,} {name} left, and the question may need {wanted:,}."
    elif left:
        detail = f"{left:,} of your {limit:,} {name} are left, and this may need {wanted:,}."
    elif limit == 1:
        detail = f"The one {name.removesuffix('s')} of your plan is used."
    else:
        detail = f"All {limit:,} {name} of your plan are used."
    if closes_at is not None and limit:
        local = closes_at.astimezone(ZoneInfo(zone))
        detail += f" New ones come on {local.day} {local:%B} at {local:%H:%M} ({zone})."
    elif own:
        detail += " A larger plan gives more."
    else:
        detail += " Its admin can add some."
    return QuotaExceeded(
        detail + " Your text is kept, and nothing was charged.",
        reason=f"{kind}_{meter}_{'used_up' if limit else 'not_included'}",
        meter=meter,
        limit=limit,
        left=left,
        wanted=wanted,
        resets_at=closes_at.isoformat() if closes_at and limit else None,
        requires_payment=own,
    )
