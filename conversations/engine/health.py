"""How the models do, from the turns that have ended: nothing is written for it while people are answered.

One query. A brand's numbers come from the index turns_ended (brand, id), everybody's from the primary key: ids are uuid7,
so a time is a range of ids.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lib import clock
from lib.db import send
from lib.ids import first_at
from providers import fallback
from providers.offers import Offer, known

PERIODS = {"hour": timedelta(hours=1), "day": timedelta(days=1)}

# What an error code of a call means, for people who look after models.
REASONS = {
    "provider_busy": gettext_lazy("busy"),
    "provider_cut_off": gettext_lazy("broke off"),
    "provider_down": gettext_lazy("out of order"),
    "provider_garbled": gettext_lazy("sent nonsense"),
    "provider_key_refused": gettext_lazy("key refused"),
    "provider_rejected": gettext_lazy("question refused"),
    "provider_resting": gettext_lazy("left alone"),
    "provider_timeout": gettext_lazy("too slow"),
}
OTHER = gettext_lazy("our own fault")

# A turn is one call, and each failed attempt before it one more. What was left alone was not asked.
HEALTH = """
with ended as (
    select provider_id, error_code, first_piece_ms, attempts, ended_at from conversations_turn
    where id >= %(since)s and status not in ('pending', 'streaming') {of_brand}
), asked as (
    select provider_id, error_code, first_piece_ms, ended_at,
           exists (select from jsonb_array_elements(attempts) a where (a ->> 'provider_id')::uuid <> provider_id) as stood_in
    from ended
    union all
    select (a ->> 'provider_id')::uuid, a ->> 'error_code', null, ended_at, false
    from ended, jsonb_array_elements(attempts) a
)
select provider_id, error_code, grouping(error_code) = 1 as is_total, count(*) as calls,
       count(*) filter (where error_code = '' and first_piece_ms is not null) as answered,
       count(*) filter (where stood_in and error_code = '') as stood_in, max(ended_at) as last_at,
       percentile_disc(0.5) within group (order by first_piece_ms) as median_ms,
       percentile_disc(0.95) within group (order by first_piece_ms) as p95_ms
from asked group by grouping sets ((provider_id), (provider_id, error_code))
"""
OF_BRAND = "and brand_id = %(brand)s"


@dataclass(slots=True)
class Health:
    """One model in one period. Milliseconds to the first piece are of the calls that brought one.

    What was neither answered nor failed was stopped by its person before the first piece.
    """

    offer: Offer
    asked: int = 0
    answered: int = 0
    stood_in: int = 0  # answered in another one's place
    median_ms: int | None = None
    p95_ms: int | None = None
    failed: dict[str, int] = field(default_factory=dict)  # by error code, the most frequent first
    last_answer_at: datetime | None = None
    last_error: str = ""
    last_error_at: datetime | None = None

    @property
    def reasons(self) -> list[tuple[str, int]]:
        return [(str(REASONS.get(code, OTHER)), calls) for code, calls in self.failed.items()]

    @property
    def last_reason(self) -> str:
        return str(REASONS.get(self.last_error, OTHER)) if self.last_error else ""

    @property
    def state(self) -> tuple[str, str]:
        """(level, words): what keeps the model from being asked now, if anything; level is "", warn or danger."""
        if not self.offer.is_active:
            return "", _("switched off")
        if self.offer.lacks_key:
            return "danger", _("no key")
        if not self.offer.is_priced:
            return "danger", _("no price")
        rest = fallback.rest_of(self.offer)
        if rest is None and self.last_error == "provider_key_refused" and not self._has_answered_since():
            return "danger", _("key refused")
        if rest is None:
            return "", _("offered")
        words = _("busy, asked again in %d s") if rest.is_busy else _("left alone for %d s")
        return "warn", words % max(1, round(rest.wait_s()))

    def _has_answered_since(self) -> bool:
        return bool(self.last_answer_at and self.last_error_at and self.last_answer_at > self.last_error_at)


def health(period: str, *, brand_id: UUID | None = None, now: datetime | None = None) -> list[Health]:
    """Every model that is offered or was asked, in staff's order. In an open scope; None = the calls of all brands.

    period  a key of PERIODS, counted back from now
    The breaker's state is this process's own.
    """
    since = first_at((now or clock.now()) - PERIODS[period])
    sql = HEALTH.format(of_brand=OF_BRAND if brand_id else "")
    (rows,) = send((sql, {"since": since, "brand": brand_id}))
    found = {offer.id: Health(offer) for offer in known().values()}
    for row in sorted(rows, key=lambda row: -row.calls):
        if one := found.get(row.provider_id):
            _add(one, row)
    return [one for one in found.values() if one.asked or one.failed or one.offer.is_active]


def _add(one: Health, row: Any) -> None:
    if row.is_total:
        one.asked += row.calls
        one.answered = row.answered
        one.stood_in, one.median_ms, one.p95_ms = row.stood_in, row.median_ms, row.p95_ms
    elif not row.error_code:
        one.last_answer_at = row.last_at
    else:
        one.failed[row.error_code] = row.calls
        if row.error_code == "provider_resting":
            one.asked -= row.calls
        elif one.last_error_at is None or row.last_at > one.last_error_at:
            one.last_error, one.last_error_at = row.error_code, row.last_at


def context(period: str, *, brand_id: UUID | None = None) -> Mapping[str, Any]:
    """What `_health.html` draws."""
    period = period if period in PERIODS else "hour"
    return {"period": period, "periods": list(PERIODS), "models": health(period, brand_id=brand_id)}
