"""What was paid twice is given back: a second subscription, a pack bought in two tabs at the same moment (S-14)."""

from typing import Any, cast

import stripe as sdk
from celery import shared_task

from billing.asking import id_of, in_our_words, once, stripe

REFUNDED_ALREADY = "charge_already_refunded"


@shared_task(scoped=False)  # type: ignore[call-overload]  # asks Stripe
def give_back(payment_id: str, why: str) -> None:
    """Refund all of a payment that gave nothing. A repeat changes nothing; Stripe's news of it writes it down."""
    with in_our_words():
        try:
            stripe().v1.refunds.create(
                params={"payment_intent": payment_id, "reason": "duplicate", "metadata": {"reason": why}},
                options=cast(Any, once("double", payment_id)),
            )
        except sdk.InvalidRequestError as error:
            if error.code != REFUNDED_ALREADY:
                raise


@shared_task(scoped=False)  # type: ignore[call-overload]  # asks Stripe
def end_double(subscription_id: str) -> None:
    """End a subscription that came beside another one, and refund what it was paid with. A repeat changes nothing."""
    client = stripe().v1
    with in_our_words():
        if client.subscriptions.retrieve(subscription_id).status not in ("canceled", "incomplete_expired"):
            client.subscriptions.cancel(subscription_id, options=cast(Any, once("end", subscription_id)))
        paid = client.invoices.list(
            params={"subscription": subscription_id, "status": "paid", "limit": 100, "expand": ["data.payments"]}
        )
    for invoice in paid.data:
        for made in invoice.payments.data if invoice.payments else []:
            if payment_id := id_of(made.payment.payment_intent):
                give_back(payment_id, "A second subscription beside the first gave nothing.")
