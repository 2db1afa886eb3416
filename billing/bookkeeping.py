"""Invoices and packs as Stripe has them now, as lines of a member's account.

The looking asks Stripe; what it returns is run in the transaction that closes the event, with the customer locked.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from billing.asking import id_of, micro, minor, moment, stripe
from billing.books import BillingTransaction, Customer
from billing.errors import Parked
from billing.price_list import OVERAGE
from billing.undoing import give_back
from events import stream
from lib import clock
from lib.db import SERVICE, scope
from quotas import ledger
from quotas.models import Pack

Type, Status = BillingTransaction.Type, BillingTransaction.Status
Write = Callable[[Customer], None]
OF_INVOICES = {"open": Status.OPEN, "paid": Status.PAID, "void": Status.VOID, "uncollectible": Status.FAILED}
SETTLED_SINCE = frozenset(
    (Status.REFUNDED, Status.DISPUTED)
)  # billing.refunds says so, and an invoice does not know it


@dataclass(frozen=True, slots=True)
class Line:
    """What a transaction says, in micro-units. How it stands is given beside it."""

    type: str
    provider_transaction_id: str
    description: str
    total: int
    tax: int
    currency: str
    happened_at: datetime
    payment_id: str = ""
    payment_method: str = ""
    invoice_number: str = ""
    invoice_url: str = ""
    period_starts_at: datetime | None = None
    period_ends_at: datetime | None = None


def enter(customer: Customer, line: Line, status: str, **more: Any) -> BillingTransaction:
    """Write a line once, and how it stands each time. News of it goes to the stream when that changes."""
    said = {field.name: getattr(line, field.name) for field in fields(line) if field.name not in ("total", "tax")}
    said["description"], said["currency"] = line.description[:200], line.currency.upper()
    said["invoice_url"] = line.invoice_url[:1000]
    mine = {
        "brand_id": customer.brand_id,
        "payment_provider": customer.provider,
        "type": said.pop("type"),
        "provider_transaction_id": said.pop("provider_transaction_id"),
    }
    row = BillingTransaction.objects.filter(**mine).first()
    before = row.status if row else ""
    if row is None:
        row = BillingTransaction(
            **mine,
            **said,
            **more,
            owner_id=customer.owner_id,
            status=status,
            amount_microusd=line.total - line.tax,
            tax_amount_microusd=line.tax,
            total_amount_microusd=line.total,
        )
        row.save(force_insert=True)
    elif not (before in SETTLED_SINCE and status == Status.PAID):
        for name in ("payment_id", "payment_method", "invoice_url"):
            setattr(row, name, said[name] or getattr(row, name))
        row.status = status
        row.save(update_fields=["status", "payment_id", "payment_method", "invoice_url"])
    tell(row, before)
    return row


def tell(row: BillingTransaction, before: str) -> None:
    if row.status == before or row.status == Status.OPEN:
        return
    stream.publish(
        row.brand_id,
        f"billing.{'refunded' if (row.type, row.status) == (Type.REFUND, Status.PAID) else row.status}",
        subject=("billing_transaction", row.pk),
        owner_id=row.owner_id,
        data={"type": row.type, "total_amount_microusd": row.total_amount_microusd, "currency": row.currency},
    )


def look_at_invoice(customer: Customer, invoice_id: str) -> Write:
    """The plan's part and the part beyond the plan of one invoice; what an invoice gives back is a credit.

    A pack's invoice is told with its Checkout session.
    """
    client = stripe().v1
    theirs = client.invoices.retrieve(invoice_id, params={"expand": ["payments"]}).to_dict()
    of_plan = (theirs.get("parent") or {}).get("type") == "subscription_details"
    status = OF_INVOICES.get(theirs.get("status") or "")
    if not of_plan or status is None:
        return lambda customer: None
    if status == Status.OPEN and theirs.get("attempted") and theirs.get("amount_remaining"):
        status = Status.FAILED
    lines = theirs["lines"]["data"]
    if theirs["lines"].get("has_more"):
        found = client.invoices.line_items.list(invoice_id, params={"limit": 100})
        lines = [row.to_dict() for row in found.auto_paging_iter()]
    beyond = [line for line in lines if _is_overage(line)]
    payment_id = _payment_of(theirs)
    shared = {
        "provider_transaction_id": theirs["id"],
        "currency": theirs["currency"],
        "happened_at": moment(theirs["created"]),
        "payment_id": payment_id,
        "payment_method": paid_with(payment_id) if status == Status.PAID else "",
        "invoice_number": theirs.get("number") or "",
        "invoice_url": theirs.get("hosted_invoice_url") or "",
    }
    to_micro = partial(micro, currency=theirs["currency"])
    over_total, over_tax = sum(map(_total, beyond)), sum(map(_tax, beyond))
    total = theirs["total"] - over_total
    tax = sum(part["amount"] for part in theirs.get("total_taxes") or []) - over_tax
    entered = []
    if total:
        kind = Type.SUBSCRIPTION if total > 0 else Type.CREDIT
        named = _description([line for line in lines if line not in beyond]) or "Plan"
        period = _period([line for line in lines if line not in beyond])
        entered.append(Line(type=kind, description=named, total=to_micro(total), tax=to_micro(tax), **shared, **period))
    if over_total:
        entered.append(
            Line(
                type=Type.OVERAGE,
                description="Beyond the plan",
                total=to_micro(over_total),
                tax=to_micro(over_tax),
                **shared,
                **_period(beyond),
            )
        )

    def write(customer: Customer) -> None:
        for line in entered:
            enter(customer, line, status)

    return write


def look_at_pack(customer: Customer, session_id: str) -> Write:
    """A pack that was paid for: the line in the books and the pack in the meter, once for each session.

    What was bought stands in the session as it was offered. The same pack paid in two pages that were open at the same
    time was meant once: the second payment is given back, and gives nothing (S-14).
    """
    session = stripe().v1.checkout.sessions.retrieve(session_id, params={"expand": ["invoice"]}).to_dict()
    sold = session.get("metadata") or {}
    if session.get("payment_status") != "paid":
        return lambda customer: None  # a bank takes days; the session tells when it is there
    if sold.get("brand") != str(customer.brand_id) or sold.get("kind") != "pack":
        raise Parked(f"{session_id} was not sold by {customer.brand}, so nothing was granted.")
    if session["amount_subtotal"] != minor(int(sold["price_microusd"]), session["currency"]):
        raise Parked(f"{session_id} was paid with another sum than its pack costs, so nothing was granted.")
    payment_id = id_of(session["payment_intent"])
    invoice = session.get("invoice") or {}
    paid_at = moment(_charge_of(payment_id).get("created")) or clock.now()
    line = Line(
        type=Type.ONE_TIME,
        provider_transaction_id=session_id,
        description=sold["name"],
        total=micro(session["amount_total"], session["currency"]),
        tax=micro((session.get("total_details") or {}).get("amount_tax") or 0, session["currency"]),
        currency=session["currency"],
        happened_at=paid_at,
        payment_id=payment_id,
        payment_method=paid_with(payment_id),
        invoice_number=invoice.get("number") or "",
        invoice_url=invoice.get("hosted_invoice_url") or "",
    )
    opened_at = moment(session["created"])
    # Whose page was opened after this payment was meant as another one, also when its news comes first.
    pages = stripe().v1.checkout.sessions.list(params={"customer": customer.stripe_customer_id, "limit": 100}).data
    later = {page.id for page in pages if page.created >= paid_at.timestamp()}
    with scope(SERVICE):
        twins = BillingTransaction.objects.filter(
            brand=customer.brand_id,
            owner_id=customer.owner_id,
            type=Type.ONE_TIME,
            description=line.description,
            happened_at__gt=opened_at,
        ).exclude(provider_transaction_id__in={session_id, *later})
        mine = Pack.objects.filter(brand=customer.brand_id, source=source_of(session_id))
        is_double = not mine.exists() and any(pack_of(twin) for twin in twins)
    if is_double:  # before the event is closed: whoever dies in between comes back, and asks for the same refund
        give_back(payment_id, "The same pack was paid for twice at the same time.")

    def write(customer: Customer) -> None:
        row = enter(customer, line, Status.PAID)
        if is_double or pack_of(row):
            return
        days = int(sold.get("days") or 0)
        ledger.grant_pack(
            customer.brand,
            customer.owner_id,
            meter=sold["meter"],
            amount=int(sold["amount"]),
            name=sold["name"],
            price_microusd=int(sold["price_microusd"]),
            source=source_of(session_id),
            expires_at=paid_at + timedelta(days=days) if days else None,
            reason="bought",
        )

    return write


def source_of(session_id: str) -> str:
    """What the meter knows a pack by that was bought in this Checkout session."""
    return f"checkout:{session_id}"


def pack_of(row: BillingTransaction) -> Pack | None:
    return (
        Pack.objects.select_related("bucket")
        .filter(brand=row.brand_id, source=source_of(row.provider_transaction_id))
        .first()
    )


def paid_with(payment_id: str) -> str:
    """In words, as far as Stripe tells: visa 4242."""
    details = _charge_of(payment_id).get("payment_method_details") or {}
    kind = details.get("type") or ""
    more = details.get(kind) or {}
    return " ".join(filter(None, [more.get("brand") or kind.replace("_", " "), more.get("last4")]))[:60]


def _charge_of(payment_id: str) -> dict[str, Any]:
    if not payment_id:
        return {}
    intent = stripe().v1.payment_intents.retrieve(payment_id, params={"expand": ["latest_charge"]}).to_dict()
    charge: dict[str, Any] = intent.get("latest_charge") or {}
    return charge


def _payment_of(invoice: dict[str, Any]) -> str:
    payments = (invoice.get("payments") or {}).get("data") or []
    made = [row for row in payments if row.get("status") == "paid"] or payments
    return id_of((made[-1].get("payment") or {}).get("payment_intent")) if made else ""


def _is_overage(line: dict[str, Any]) -> bool:
    price = ((line.get("pricing") or {}).get("price_details") or {}).get("price")
    return bool(price) and _code_of(id_of(price)) == OVERAGE


_codes: dict[str, str] = {}  # of prices, which never change; by id


def _code_of(price_id: str) -> str:
    if price_id not in _codes:
        metadata = stripe().v1.prices.retrieve(price_id).to_dict().get("metadata") or {}
        _codes[price_id] = metadata.get("code", "")
    return _codes[price_id]


def _taxes(line: dict[str, Any], behaviour: str) -> int:
    return sum(part["amount"] for part in line.get("taxes") or [] if part.get("tax_behavior") == behaviour)


def _tax(line: dict[str, Any]) -> int:
    return _taxes(line, "exclusive") + _taxes(line, "inclusive")


def _total(line: dict[str, Any]) -> int:
    off = sum(part["amount"] for part in line.get("discount_amounts") or [])
    total: int = line["amount"] - off + _taxes(line, "exclusive")
    return total


def _description(lines: Iterable[dict[str, Any]]) -> str:
    return "; ".join(dict.fromkeys(line["description"] for line in lines if line.get("description")))


def _period(lines: list[dict[str, Any]]) -> dict[str, Any]:
    periods = [line["period"] for line in lines if line.get("period")]
    if not periods:
        return {}
    return {
        "period_starts_at": moment(min(period["start"] for period in periods)),
        "period_ends_at": moment(max(period["end"] for period in periods)),
    }
