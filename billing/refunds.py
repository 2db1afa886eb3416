"""Money that went back, by our own will or by the bank's: what it bought is taken back in the same proportion.

The table stands in docs/billing.md, "Refunds and disputes". A line of the type refund counts while it is not failed or
void; so a dispute takes at once, and gives back when it is won.
"""

from dataclasses import replace
from datetime import datetime
from typing import Any
from uuid import UUID

from billing import bookkeeping
from billing.asking import id_of, micro, moment, stripe
from billing.bookkeeping import Line, Status, Type, Write, pack_of, source_of
from billing.books import BillingTransaction, Customer
from lib import clock
from quotas import ledger
from quotas.models import Account, Pack

OF_REFUNDS = {
    "succeeded": Status.PAID,
    "pending": Status.OPEN,
    "requires_action": Status.OPEN,
    "failed": Status.FAILED,
    "canceled": Status.VOID,
}
OF_DISPUTES = {  # what is not here (an inquiry) has taken no money
    "needs_response": Status.DISPUTED,
    "under_review": Status.DISPUTED,
    "lost": Status.PAID,
    "won": Status.VOID,
    "prevented": Status.VOID,
}
GONE = [Status.OPEN, Status.PAID, Status.DISPUTED]


def look(customer: Customer, payment_id: str) -> list[Write]:
    """What was bought with a payment, and everything that went back of it."""
    client = stripe().v1
    of_this: Any = {"payment_intent": payment_id, "limit": 100}
    refunds = [row.to_dict() for row in client.refunds.list(params=of_this).auto_paging_iter()]
    disputes = [row.to_dict() for row in client.disputes.list(params=of_this).auto_paging_iter()]
    sessions = client.checkout.sessions.list(params=of_this).data
    bought: list[Write] = [
        bookkeeping.look_at_pack(customer, session.id) for session in sessions if session.mode == "payment"
    ]
    if not bought:
        paid = client.invoice_payments.list(
            params={"payment": {"type": "payment_intent", "payment_intent": payment_id}, "limit": 100}
        )
        bought = [bookkeeping.look_at_invoice(customer, id_of(row.invoice)) for row in paid.data]
    back = [(_refund(row), OF_REFUNDS.get(row["status"] or "", Status.OPEN), _why(row)) for row in refunds]
    back += [(_dispute(row), OF_DISPUTES[row["status"]], {}) for row in disputes if row["status"] in OF_DISPUTES]

    def write(customer: Customer) -> None:
        originals = list(_of_payment(customer, payment_id).exclude(type=Type.REFUND))
        before = _gone(customer, payment_id)
        for line, status, why in back:
            bookkeeping.enter(customer, _with_tax(line, payment_id, originals), status, **why)
        after = _gone(customer, payment_id)
        is_disputed = any(row["status"] in ("needs_response", "under_review", "lost") for row in disputes)
        for original in originals:
            _restate(original, after, is_disputed=is_disputed, paid=sum(row.total_amount_microusd for row in originals))
            pack = pack_of(original)
            if pack:
                _move(customer, original, pack, before=before, after=after)

    return [*bought, write]


def _move(customer: Customer, bought: BillingTransaction, pack: Pack, *, before: int, after: int) -> None:
    """Take back as many units of the pack as money went, or give back what a refund that failed, or a won dispute, took.

    What was given back once may be taken again: of the pack that it was given back as.
    """
    paid = bought.total_amount_microusd
    units = pack.amount * min(after, paid) // paid - pack.amount * min(before, paid) // paid
    again = list(
        Pack.objects.filter(
            brand=bought.brand_id, source__startswith=f"{source_of(bought.provider_transaction_id)}:back:"
        ).order_by("pk")
    )
    for here in [pack, *again]:
        part = min(units, here.amount - here.taken_back)
        if part > 0:
            ledger.take_back_pack(here, amount=part, reason=f"money went back: {bought.description}", actor_id=None)
            units -= part
    if units < 0:
        _give_back(customer, bought, pack, -units, len(again))


def _give_back(customer: Customer, bought: BillingTransaction, pack: Pack, units: int, number: int) -> None:
    """What is owed for used units is forgiven first; the rest is a pack like the one that was taken."""
    account = Account.objects.get(brand=customer.brand_id, kind=Account.Kind.USER, owner_id=customer.owner_id)
    forgiven = min(account.arrears_microusd, -(-pack.price_microusd * units // pack.amount))
    reason = f"the money stays here after all: {bought.description}"
    if forgiven:
        ledger.clear_arrears(customer.brand, customer.owner_id, amount_microusd=forgiven, reason=reason)
    rest = units - (forgiven * pack.amount // pack.price_microusd if pack.price_microusd else 0)
    ends_at = pack.bucket.closes_at
    if rest > 0 and (ends_at is None or ends_at > clock.now()):
        ledger.grant_pack(
            customer.brand,
            customer.owner_id,
            meter=pack.bucket.meter,
            amount=rest,
            name=pack.name,
            price_microusd=pack.price_microusd * rest // pack.amount,
            source=f"{source_of(bought.provider_transaction_id)}:back:{number}",
            expires_at=ends_at,
            reason=reason,
        )


def _restate(original: BillingTransaction, gone: int, *, is_disputed: bool, paid: int) -> None:
    if original.status not in (Status.PAID, Status.REFUNDED, Status.DISPUTED):
        return
    before = original.status
    original.status = Status.DISPUTED if is_disputed else Status.REFUNDED if gone >= paid > 0 else Status.PAID
    if original.status != before:
        original.save(update_fields=["status"])
        bookkeeping.tell(original, before)


def _of_payment(customer: Customer, payment_id: str) -> Any:
    return BillingTransaction.objects.filter(
        brand=customer.brand_id, owner_id=customer.owner_id, payment_provider=customer.provider, payment_id=payment_id
    )


def _gone(customer: Customer, payment_id: str) -> int:
    back = _of_payment(customer, payment_id).filter(type=Type.REFUND, status__in=GONE)
    return -sum(back.values_list("total_amount_microusd", flat=True))


def _refund(row: dict[str, Any]) -> Line:
    return Line(
        type=Type.REFUND,
        provider_transaction_id=row["id"],
        description="Refund",
        total=-micro(row["amount"], row["currency"]),
        tax=0,
        currency=row["currency"],
        happened_at=_at(row),
    )


def _dispute(row: dict[str, Any]) -> Line:
    return Line(
        type=Type.REFUND,
        provider_transaction_id=row["id"],
        description="Dispute",
        total=-micro(row["amount"], row["currency"]),
        tax=0,
        currency=row["currency"],
        happened_at=_at(row),
    )


def _at(row: dict[str, Any]) -> datetime:
    return moment(row["created"]) or clock.now()


def _why(row: dict[str, Any]) -> dict[str, Any]:
    """Who gave it back and why, as till.refund() wrote it there."""
    metadata = row.get("metadata") or {}
    try:
        actor = UUID(metadata.get("actor") or "")
    except ValueError:
        actor = None
    return {"reason": (metadata.get("reason") or row.get("reason") or "")[:200], "actor_id": actor}


def _with_tax(line: Line, payment_id: str, originals: list[BillingTransaction]) -> Line:
    """With the payment, and the part of its tax that goes back with it."""
    total = sum(row.total_amount_microusd for row in originals)
    tax = sum(row.tax_amount_microusd for row in originals)
    of_what = f" of {originals[0].description}" if originals else ""
    return replace(
        line,
        payment_id=payment_id,
        description=line.description + of_what,
        tax=tax * line.total // total if total else 0,
    )
