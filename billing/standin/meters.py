"""Billing Meters: usage that is counted as events and billed when a period ends."""

from decimal import Decimal, InvalidOperation
from typing import Any

from stripe.params import billing as asked

from billing.standin import customers
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, missing, not_here
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, a_list, add, change, find, new_id, page, seconds, tell
from lib import clock

OLDEST_S, NEWEST_S, REMEMBERED_S = 35 * 24 * 3600, 5 * 60, 24 * 3600
STEPS = {"hour": 3600, "day": 24 * 3600}


@route(
    "POST",
    "/v1/billing/meters",
    asked.MeterCreateParams,
    "display_name event_name default_aggregation.formula customer_mapping value_settings",
)
def create(params: dict[str, Any]) -> Body:
    if params["default_aggregation"]["formula"] not in ("sum", "count"):
        raise not_here("default_aggregation.formula=last")
    name = params["event_name"]
    if taken := StandInObject.objects.filter(
        kind="billing.meter", body__event_name=name, body__status="active"
    ).first():
        raise Refusal(
            f"A meter (`{taken.pk}`) already uses the event name {name}.",
            code="resource_already_exists",
            param="event_name",
        )
    row = add(
        "billing.meter",
        "mtr",
        {
            "customer_mapping": params.get("customer_mapping")
            or {"event_payload_key": "stripe_customer_id", "type": "by_id"},
            "default_aggregation": params["default_aggregation"],
            "display_name": params["display_name"],
            "event_name": name,
            "event_time_window": None,
            "status": "active",
            "status_transitions": {"deactivated_at": None},
            "updated": seconds(clock.now()),
            "value_settings": params.get("value_settings") or {"event_payload_key": "value"},
        },
    )
    tell("billing.meter.created", row.body)
    return row.body


@route("GET", "/v1/billing/meters", asked.MeterListParams, f"{PAGING} status")
def list_meters(params: dict[str, Any]) -> Body:
    where = {"body__status": params["status"]} if "status" in params else {}
    return page("billing.meter", params, "/v1/billing/meters", **where)


@route("GET", "/v1/billing/meters/{}", asked.MeterRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("billing.meter", its_id).body


@route("POST", "/v1/billing/meters/{}/deactivate", asked.MeterDeactivateParams)
def deactivate(params: dict[str, Any], its_id: str) -> Body:
    at = seconds(clock.now())
    return change(
        find("billing.meter", its_id),
        "billing.meter.deactivated",
        status="inactive",
        status_transitions={"deactivated_at": at},
        updated=at,
    ).body


@route(
    "POST",
    "/v1/billing/meter_events",
    asked.MeterEventCreateParams,
    "event_name payload identifier timestamp",
)
def record(params: dict[str, Any]) -> Body:
    now = seconds(clock.now())
    meter = StandInObject.objects.filter(
        kind="billing.meter", body__event_name=params["event_name"], body__status="active"
    ).first()
    if meter is None:
        raise Refusal(
            f"No active meter found for event name {params['event_name']}.",
            code="resource_missing",
            param="event_name",
        )
    at = params.get("timestamp", now)
    if not now - OLDEST_S <= at <= now + NEWEST_S:
        raise Refusal(
            "The timestamp must be within the past 35 calendar days or up to 5 minutes in the future.",
            code="timestamp_too_far_in_past" if at < now else "timestamp_in_future",
            param="timestamp",
        )
    payload = params["payload"]
    customer_key = meter.body["customer_mapping"]["event_payload_key"]
    if customer_key not in payload:
        raise missing(f"payload[{customer_key}]")
    customer = find("customer", payload[customer_key], param=f"payload[{customer_key}]").pk
    value = _value(meter, payload)
    identifier = params.get("identifier") or new_id("mte")
    seen = StandInObject.objects.filter(
        kind="billing.meter_event", inside__identifier=identifier, body__created__gt=now - REMEMBERED_S
    )
    if seen.exists():
        raise Refusal(
            f"An event already exists with identifier {identifier}.",
            code="duplicate_meter_event",
            param="identifier",
        )
    row = add(
        "billing.meter_event",
        "mte",
        {"event_name": params["event_name"], "identifier": identifier, "payload": payload, "timestamp": at},
        identifier=identifier,
        meter=meter.pk,
        customer=customer,
        value=str(value),
        at=customers.own_time(customer, at),
    )
    return {name: value for name, value in row.body.items() if name != "id"}  # it has none but the identifier


@route(
    "GET",
    "/v1/billing/meters/{}/event_summaries",
    asked.MeterListEventSummariesParams,
    "customer start_time end_time value_grouping_window limit",
)
def summaries(params: dict[str, Any], its_id: str) -> Body:
    meter = find("billing.meter", its_id)
    start, end = params["start_time"], params["end_time"]
    step = STEPS.get(params.get("value_grouping_window", ""), end - start)
    if start % 60 or end % 60 or end <= start:
        raise Refusal("start_time and end_time must be aligned with minute boundaries.", param="start_time")
    data = []
    for begins in range(start, end, step):
        ends = min(begins + step, end)
        if (used := usage(meter.pk, params["customer"], begins, ends)) or "value_grouping_window" not in params:
            data.append(
                {
                    "id": new_id("mtrusg"),
                    "object": "billing.meter_event_summary",
                    "aggregated_value": float(used),
                    "end_time": ends,
                    "livemode": False,
                    "meter": meter.pk,
                    "start_time": begins,
                }
            )
    return a_list(data, f"/v1/billing/meters/{its_id}/event_summaries")


def usage(meter: str, customer: str, start: int, end: int) -> Decimal:
    """What the customer used from start to before end, in the customer's own time."""
    events = StandInObject.objects.filter(
        kind="billing.meter_event",
        inside__meter=meter,
        inside__customer=customer,
        inside__at__gte=start,
        inside__at__lt=end,
    )
    values = [Decimal(event.inside["value"]) for event in events]
    formula = find("billing.meter", meter).body["default_aggregation"]["formula"]
    return Decimal(len(values)) if formula == "count" else sum(values, Decimal())


def _value(meter: StandInObject, payload: dict[str, str]) -> Decimal:
    if meter.body["default_aggregation"]["formula"] == "count":
        return Decimal(1)
    key = meter.body["value_settings"]["event_payload_key"]
    if key not in payload:
        raise missing(f"payload[{key}]")
    try:
        value = Decimal(payload[key])
    except InvalidOperation:
        value = Decimal("nan")
    if not value.is_finite():
        raise Refusal(f"Invalid decimal: {payload[key]}", param=f"payload[{key}]")
    return value
