"""REST: what may be asked, what it costs, what was used (docs/doors.md). For a browser's member and for keys."""

import re
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse
from django.urls import path

from accounts.access import BrandRequest, api
from accounts.keys import READ
from lib.db import scope
from lib.errors import Invalid
from lib.ids import uuid7
from quotas import usage
from quotas.decision import METERS, Decision, can_user_query, check_conversation_limit
from quotas.models import Meter, UsageLog
from quotas.standing import Standing

MOST_AMOUNT = 10**12
MOST_LINES = 100
ALSO_CALLED = {"prompt_tokens": Meter.TOKENS.value}  # S0
DIGITS = re.compile(r"[0-9]{1,13}")


@api("GET", "HEAD", needed=("chat", READ), for_sessions=True)
def check(request: BrandRequest) -> HttpResponse:
    """S1 can_user_query(), S0 checkQuota(): `?meter=` (the plan's unit when left out) and `&amount=` (1)."""
    meter = request.GET.get("meter", "")
    amount = _whole("amount", request.GET.get("amount", "1"), MOST_AMOUNT)
    if meter and (meter := ALSO_CALLED.get(meter, meter)) not in METERS:
        raise Invalid(f"There is no such meter. There are: {', '.join([*METERS, *ALSO_CALLED])}.", param="meter")
    # What a question in a new chat takes, whichever of these the plan counts; how many tokens nobody knows yet.
    one = {
        Meter.QUERIES.value: amount,
        Meter.MESSAGES.value: amount,
        Meter.CONVERSATIONS.value: amount,
        Meter.TOKENS.value: 1,
    }
    decision = can_user_query(request.brand, asker=_asker(request), amounts={meter: amount} if meter else one)
    return _json(_told(decision, request) | {"meter": meter or decision.unit, "amount": amount})


@api("GET", "HEAD", needed=("chat", READ), for_sessions=True)
def conversation_limit(request: BrandRequest) -> HttpResponse:
    """S2 check_conversation_limit(). `limit` null and no meter: the plan does not count conversations."""
    decision = check_conversation_limit(request.brand, asker=_asker(request))
    meter = decision.meter(Meter.CONVERSATIONS)
    told = _told(decision, request)
    return _json(
        {
            "can_start": decision.can_query,
            **{
                name: told[name]
                for name in ("reason", "detail", "requires_payment", "ways", "pocket", "price_microusd")
            },
            "is_counted": meter is not None,
            **{name: getattr(meter, name, None) for name in ("limit", "used", "held", "left")},
            "resets_at": _at(meter.resets_at if meter else None),
        }
    )


@api("GET", "HEAD", needed=(READ,), for_sessions=True)
def used(request: BrandRequest) -> HttpResponse:
    """What the person used, the newest first; `next` goes on as `?before=`."""
    limit = _whole("limit", request.GET.get("limit", "50"), MOST_LINES)
    before = request.GET.get("before", "")
    with scope(request.principal):
        rows = usage.newest(request.principal, limit=limit + 1, before=_id(before) if before else uuid7())
    return _json(
        {
            "results": [_line(row) for row in rows[:limit]],
            "next": str(rows[limit - 1].pk) if len(rows) > limit else None,
        }
    )


def _asker(request: BrandRequest) -> tuple[str, UUID]:
    return request.principal.payer


def _told(decision: Decision, request: BrandRequest) -> dict[str, Any]:
    beyond = decision.beyond
    return {
        "can_query": decision.can_query,
        "has_quota": decision.can_query,
        "reason": decision.reason,
        "detail": decision.detail,
        "requires_payment": decision.requires_payment,
        "ways": list(decision.ways),
        "pocket": decision.pocket,
        "price_microusd": decision.price_microusd,
        "plan": decision.plan_name,
        "unit": decision.unit,
        "zone": request.brand.zone,
        "meters": [_meter(row) for row in decision.meters],
        "packs": [
            {
                "name": row.name,
                "meter": row.meter,
                "left": row.left,
                "limit": row.limit,
                "expires_at": _at(row.expires_at),
            }
            for row in decision.packs
        ],
        "overage": {
            "is_on": beyond.is_on,
            "price_microusd": beyond.price_microusd,
            "cap_microusd": beyond.cap_microusd,
            "used_microusd": beyond.used_microusd,
            "left_microusd": beyond.left_microusd,
            "resets_at": _at(beyond.resets_at),
        }
        if beyond and beyond.is_allowed
        else None,
    }


def _meter(row: Standing) -> dict[str, Any]:
    told = {name: getattr(row, name) for name in ("meter", "window", "limit", "used", "held", "left")}
    return told | {"resets_at": _at(row.resets_at)}


def _line(row: UsageLog) -> dict[str, Any]:
    names = (
        "usage_type", "model", "prompt_tokens", "completion_tokens", "total_tokens", "pocket", "counted_against_quota",
        "overage", "byok", "unit_cost_microusd", "total_cost_microusd",
    )  # fmt: skip
    return {"id": str(row.pk), "created_at": _at(row.created_at), **{name: getattr(row, name) for name in names}}


def _whole(name: str, given: str, most: int) -> int:
    if not DIGITS.fullmatch(given) or not 1 <= int(given) <= most:
        raise Invalid(f"{name} must be a whole number from 1 to {most:,}.", param=name)
    return int(given)


def _id(given: str) -> UUID:
    try:
        return UUID(given)
    except ValueError as error:
        raise Invalid("before must be what an answer gave as `next`.", param="before") from error


def _at(moment: datetime | None) -> str | None:
    return moment.isoformat() if moment else None


def _json(body: dict[str, Any]) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), content_type="application/json")


urlpatterns = [
    path("quota/check", check, name="quota-check"),
    path("usage", used, name="usage"),
    path("conversations/limit", conversation_limit, name="conversation-limit"),
]
