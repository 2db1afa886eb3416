"""A subscription that changes in the middle of its period: what is given back, what is charged, from when."""

from dataclasses import dataclass
from typing import Any

from billing.standin.cycle import period_end
from billing.standin.lines import Line, charges, shares, usage
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, no_such, not_here
from billing.standin.store import Body, find, new_id


@dataclass(frozen=True, slots=True)
class Plan:
    """What a change does: fields of the subscription, lines, and whether they are invoiced at once."""

    values: Body
    lines: list[Line]
    invoice_now: bool


def plan(row: StandInObject, params: dict[str, Any], at: int) -> Plan | None:
    """None when neither prices nor the trial change."""
    if "items" not in params and "trial_end" not in params and params.get("billing_cycle_anchor") != "now":
        return None
    body, behavior = row.body, params.get("proration_behavior", "create_prorations")
    old = body["items"]["data"]
    new = _wanted(body, params.get("items", []))
    if "trial_end" in params:
        return _new_trial_end(body, new, params["trial_end"], at)
    restarts = params.get("billing_cycle_anchor") == "now" or _interval(old) != _interval(new)
    if body["status"] == "trialing":
        return Plan({"items": _listed(body, new)}, [], invoice_now=False)
    when = _moment(params, body, at)
    if restarts:
        ends = period_end(at, at, new[0]["price"]["recurring"])
        used = [line for line in usage(body["customer"], old, until=at) if line.cents]
        new = [{**item, "current_period_start": at, "current_period_end": ends} for item in new]
        back = [] if behavior == "none" else shares(old, at, sign=-1)
        values = {"items": _listed(body, new), "billing_cycle_anchor": at}
        return Plan(values, [*used, *back, *charges(new)], invoice_now=True)
    lines = []
    if behavior != "none":
        lines = [*shares(_gone(old, new), when, sign=-1), *shares(_come(old, new), when, sign=1)]
    return Plan({"items": _listed(body, new)}, lines, invoice_now=behavior == "always_invoice" and bool(lines))


def given_back(row: StandInObject, at: int) -> list[Line]:
    """The unused rest of what was paid in advance."""
    return shares(row.body["items"]["data"], at, sign=-1) if row.body["status"] != "trialing" else []


def _new_trial_end(body: Body, items: list[Body], wanted: int | str, at: int) -> Plan:
    if wanted == "now":
        if body["status"] != "trialing":
            return Plan({"items": _listed(body, items)}, [], invoice_now=False)
        ends = period_end(at, at, items[0]["price"]["recurring"])
        items = [{**item, "current_period_start": at, "current_period_end": ends} for item in items]
        values = {"items": _listed(body, items), "trial_end": at, "billing_cycle_anchor": at, "status": "active"}
        return Plan(values, charges(items), invoice_now=True)
    assert isinstance(wanted, int)
    if wanted <= at:
        raise Refusal("Invalid timestamp: must be an integer Unix timestamp in the future.", param="trial_end")
    if body["status"] != "trialing":
        raise not_here("a trial that begins in the middle of a paid period")
    items = [{**item, "current_period_end": wanted} for item in items]
    values = {"items": _listed(body, items), "trial_end": wanted, "billing_cycle_anchor": wanted}
    return Plan(values, [], invoice_now=False)


def _wanted(body: Body, changes: list[dict[str, Any]]) -> list[Body]:
    """The items as they are to be. An entry with an id changes that item, one without adds to them."""
    items = {item["id"]: dict(item) for item in body["items"]["data"]}
    template = body["items"]["data"][0]
    for number, wanted in enumerate(changes):
        its_id = wanted.get("id")
        if its_id is not None and its_id not in items:
            raise no_such("subscription_item", its_id, param=f"items[{number}][id]")
        if wanted.get("deleted"):
            items.pop(its_id)
            continue
        if its_id is None and "price" not in wanted:
            raise Refusal("Missing required param: items[0][price].", code="parameter_missing", param="items")
        item = items.get(its_id) or {**template, "id": new_id("si"), "quantity": 1}
        if "price" in wanted:
            item["price"] = usable_price(wanted["price"], body["currency"], param=f"items[{number}][price]")
        if item["price"]["recurring"]["usage_type"] == "metered":
            if "quantity" in wanted:
                raise Refusal("Metered prices take no quantity.", param=f"items[{number}][quantity]")
            item.pop("quantity", None)
        else:
            item["quantity"] = wanted.get("quantity", item.get("quantity", 1))
        items[item["id"]] = item
    if not items:
        raise Refusal("A subscription must have at least one item.", param="items")
    if len({item["price"]["id"] for item in items.values()}) < len(items):
        raise Refusal("Subscriptions cannot have two items with the same price.", param="items")
    return list(items.values())


def usable_price(its_id: str, currency: str | None, *, param: str, is_recurring: bool = True) -> Body:
    """A price that is on sale, of this kind and currency."""
    price = find("price", its_id, param=param).body
    if not price["active"]:
        raise Refusal(
            "The price specified is inactive. This field only accepts active prices.",
            code="price_inactive",
            param=param,
        )
    if (price["recurring"] is not None) != is_recurring:
        wanted = "recurring" if is_recurring else "one_time"
        raise Refusal(
            f"The price specified is set to `type={price['type']}` but this field only accepts prices with "
            f"`type={wanted}`.",
            param=param,
        )
    if currency not in (None, price["currency"]):
        raise Refusal(
            f"The price specified only supports `{price['currency']}`. This doesn't match the expected currency: "
            f"`{currency}`.",
            param=param,
        )
    return price


def _moment(params: dict[str, Any], body: Body, at: int) -> int:
    when = params.get("proration_date", at)
    starts = min(item["current_period_start"] for item in body["items"]["data"])
    ends = max(item["current_period_end"] for item in body["items"]["data"])
    if not starts <= when <= ends:
        raise Refusal("proration_date must be within the current billing period.", param="proration_date")
    return int(when)


def _interval(items: list[Body]) -> set[tuple[str, int]]:
    found = {(item["price"]["recurring"]["interval"], item["price"]["recurring"]["interval_count"]) for item in items}
    if len(found) > 1:
        raise not_here("prices of different intervals in one subscription")
    return found


def _key(item: Body) -> tuple[str, Any]:
    return item["price"]["id"], item.get("quantity")


def _gone(old: list[Body], new: list[Body]) -> list[Body]:
    stays = [_key(item) for item in new]
    return [item for item in old if _key(item) not in stays]


def _come(old: list[Body], new: list[Body]) -> list[Body]:
    return _gone(new, old)


def _listed(body: Body, items: list[Body]) -> Body:
    return {**body["items"], "data": items}
