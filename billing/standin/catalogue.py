"""Products and prices."""

from decimal import Decimal
from typing import Any

from stripe import params as asked

from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, missing, not_here
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, add, change, find, merge_metadata, page, seconds, tell
from lib import clock


@route("POST", "/v1/products", asked.ProductCreateParams, "name id active description metadata unit_label")
def create_product(params: dict[str, Any]) -> Body:
    if "id" in params and StandInObject.objects.filter(pk=params["id"]).exists():
        raise Refusal("Product already exists.", code="resource_already_exists", param="id")
    row = add(
        "product",
        "prod",
        {
            **({"id": params["id"]} if "id" in params else {}),
            "active": params.get("active", True),
            "default_price": None,
            "description": params.get("description"),
            "images": [],
            "marketing_features": [],
            "metadata": merge_metadata({}, params.get("metadata")),
            "name": params["name"],
            "package_dimensions": None,
            "shippable": None,
            "statement_descriptor": None,
            "tax_code": None,
            "type": "service",
            "unit_label": params.get("unit_label"),
            "updated": seconds(clock.now()),
            "url": None,
        },
    )
    tell("product.created", row.body)
    return row.body


@route("GET", "/v1/products", asked.ProductListParams, f"{PAGING} active ids")
def list_products(params: dict[str, Any]) -> Body:
    where: dict[str, Any] = {"body__active": params["active"]} if "active" in params else {}
    if "ids" in params:
        where["pk__in"] = params["ids"]
    return page("product", params, "/v1/products", **where)


@route("GET", "/v1/products/{}", asked.ProductRetrieveParams)
def retrieve_product(params: dict[str, Any], its_id: str) -> Body:
    return find("product", its_id).body


@route(
    "POST", "/v1/products/{}", asked.ProductUpdateParams, "name active description metadata unit_label default_price"
)
def update_product(params: dict[str, Any], its_id: str) -> Body:
    row = find("product", its_id)
    values = {name: value if value != "" else None for name, value in params.items() if name != "metadata"}
    if "metadata" in params:
        values["metadata"] = merge_metadata(row.body["metadata"], params["metadata"])
    if "default_price" in params and find("price", params["default_price"]).body["product"] != its_id:
        raise Refusal("The default price belongs to another product.", param="default_price")
    return change(row, "product.updated", **values, updated=seconds(clock.now())).body


PRICE = (
    "currency product product_data.name product_data.metadata product_data.unit_label unit_amount unit_amount_decimal "
    "recurring lookup_key transfer_lookup_key metadata nickname active billing_scheme tax_behavior"
)


@route("POST", "/v1/prices", asked.PriceCreateParams, PRICE)
def create_price(params: dict[str, Any]) -> Body:
    if "product_data" in params:
        product = create_product(params["product_data"])["id"]
    elif "product" in params:
        product = find("product", params["product"], param="product").pk
    else:
        raise missing("product")
    cents, exact = _amount(params)
    lookup_key = params.get("lookup_key")
    if lookup_key:
        _take_lookup_key(lookup_key, transfer=params.get("transfer_lookup_key", False))
    row = add(
        "price",
        "price",
        {
            "active": params.get("active", True),
            "billing_scheme": _only_per_unit(params.get("billing_scheme", "per_unit")),
            "currency": params["currency"].lower(),
            "custom_unit_amount": None,
            "lookup_key": lookup_key,
            "metadata": merge_metadata({}, params.get("metadata")),
            "nickname": params.get("nickname"),
            "product": product,
            "recurring": _recurring(params.get("recurring")),
            "tax_behavior": params.get("tax_behavior", "unspecified"),
            "tiers_mode": None,
            "transform_quantity": None,
            "type": "recurring" if "recurring" in params else "one_time",
            "unit_amount": cents,
            "unit_amount_decimal": exact,
        },
    )
    tell("price.created", row.body)
    return row.body


@route(
    "GET",
    "/v1/prices",
    asked.PriceListParams,
    f"{PAGING} active currency lookup_keys product type recurring.interval recurring.meter recurring.usage_type",
)
def list_prices(params: dict[str, Any]) -> Body:
    where = {f"body__{name}": params[name] for name in ("active", "currency", "product", "type") if name in params}
    where |= {f"body__recurring__{name}": value for name, value in params.get("recurring", {}).items()}
    if "lookup_keys" in params:
        if len(params["lookup_keys"]) > 10:
            raise Refusal("You may only specify up to 10 lookup_keys.", param="lookup_keys")
        where["body__lookup_key__in"] = params["lookup_keys"]
    return page("price", params, "/v1/prices", **where)


@route("GET", "/v1/prices/{}", asked.PriceRetrieveParams)
def retrieve_price(params: dict[str, Any], its_id: str) -> Body:
    return find("price", its_id).body


@route(
    "POST",
    "/v1/prices/{}",
    asked.PriceUpdateParams,
    "active lookup_key transfer_lookup_key metadata nickname tax_behavior",
)
def update_price(params: dict[str, Any], its_id: str) -> Body:
    row = find("price", its_id)
    values: Body = {name: params[name] for name in ("active", "tax_behavior") if name in params}
    values |= {name: params[name] or None for name in ("lookup_key", "nickname") if name in params}
    if values.get("lookup_key"):
        _take_lookup_key(values["lookup_key"], transfer=params.get("transfer_lookup_key", False), but=its_id)
    if "metadata" in params:
        values["metadata"] = merge_metadata(row.body["metadata"], params["metadata"])
    return change(row, "price.updated", **values).body


def _amount(params: dict[str, Any]) -> tuple[int | None, str]:
    """Whole cents where they are whole, and always the exact decimal."""
    if ("unit_amount" in params) == ("unit_amount_decimal" in params):
        raise Refusal("You must specify exactly one of `unit_amount` or `unit_amount_decimal`.", param="unit_amount")
    exact = Decimal(params.get("unit_amount", params.get("unit_amount_decimal", 0)))
    if exact < 0 or not exact.is_finite():
        raise Refusal("Invalid non-negative integer", code="parameter_invalid_integer", param="unit_amount")
    if -exact.normalize().as_tuple().exponent > 12:  # type: ignore[operator]
        raise Refusal("Only 12 decimal places are supported.", param="unit_amount_decimal")
    return (int(exact) if exact == exact.to_integral_value() else None), format(exact.normalize(), "f")


def _only_per_unit(scheme: str) -> str:
    if scheme != "per_unit":
        raise not_here("billing_scheme=tiered")
    return scheme


def _recurring(asked_for: Any) -> Body | None:
    if asked_for is None:
        return None
    usage, meter = asked_for.get("usage_type", "licensed"), asked_for.get("meter")
    if usage == "metered" and not meter:
        raise Refusal("Metered prices must be backed by a meter.", param="recurring[meter]")
    if meter and usage != "metered":
        raise Refusal("Only metered prices may have a meter.", param="recurring[meter]")
    if meter:
        find("billing.meter", meter, param="recurring[meter]")
    return {
        "interval": asked_for["interval"],
        "interval_count": asked_for.get("interval_count", 1),
        "meter": meter,
        "trial_period_days": None,
        "usage_type": usage,
    }


def _take_lookup_key(key: str, *, transfer: bool, but: str = "") -> None:
    holder = StandInObject.objects.filter(kind="price", body__lookup_key=key).exclude(pk=but).first()
    if holder is None:
        return
    if not transfer:
        raise Refusal(
            f"A price (`{holder.pk}`) already uses that lookup key.", code="resource_already_exists", param="lookup_key"
        )
    change(holder, "price.updated", lookup_key=None)


def money(price: Body, quantity: int) -> int:
    """Cents for so many units: exact, rounded half up once, as on an invoice."""
    return int((Decimal(price["unit_amount_decimal"]) * quantity + Decimal("0.5")) // 1)
