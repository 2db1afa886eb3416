"""What members used beyond their plans, told to Stripe's Billing Meter: each ledger entry once, in its own period.

The outbox is billing_overagereport: a row for each entry on an overage bucket, a reversal's with a negative sum, so that
what Stripe adds up is what the ledger posted (INV9). A report carries the entry's id as its identifier and the entry's
moment as its time: a repeat counts once, and a late one counts in the period in which the question was asked.
"""

import logging
from datetime import timedelta
from typing import Any, cast

import stripe as sdk

from billing.asking import in_our_words, once, provider, stripe
from billing.books import Customer, OverageReport
from billing.price_list import METER
from lib import clock
from lib.db import SERVICE, scope, send

MOST_AT_ONCE = 500
OLDEST = timedelta(days=35)  # of what Stripe's meters take
KNOWN_ALREADY = "duplicate_meter_event"
log = logging.getLogger(__name__)

# Entries are found by their buckets, which close a month after they open: what is older was collected long ago.
COLLECT = """
insert into billing_overagereport (id, created_at, brand_id, owner_id, entry_id, amount_microusd, used_at, error)
select e.id, now(), e.brand_id, e.owner_id, e.id, e.used_delta, e.created_at, ''
from quotas_bucket b join quotas_entry e on e.bucket_id = b.id
where b.pocket = 'overage' and b.opens_at > now() - interval '100 days' and e.used_delta <> 0
  and not exists (select from billing_overagereport r where r.entry_id = e.id)
on conflict do nothing
returning entry_id
"""
# INV9, in the shape of quotas.proof.DRIFTS: what Stripe was told against what was posted more than an hour ago.
UNREPORTED = """
select b.id, b.brand_id, b.owner_id, b.id, b.meter, coalesce(sum(r.amount_microusd), 0)::bigint, sum(e.used_delta)::bigint
from quotas_bucket b join quotas_entry e on e.bucket_id = b.id
left join billing_overagereport r on r.entry_id = e.id and r.sent_at is not null
where b.pocket = 'overage' and e.used_delta <> 0 and e.created_at < now() - interval '1 hour'
group by b.id
having sum(e.used_delta) <> coalesce(sum(r.amount_microusd), 0)
order by b.id
"""


def report() -> dict[str, int]:
    """Collect what was posted since and send what was not. Returns how many of each: collected, sent, failed."""
    with scope(SERVICE):
        collected = len(send((COLLECT, {}))[0])
        unsent = list(OverageReport.objects.filter(sent_at=None).order_by("error", "used_at", "pk")[:MOST_AT_ONCE])
    done = {"collected": collected, "sent": 0, "failed": 0}
    for row in unsent:
        error = _send(row)
        with scope(SERVICE):
            mine = OverageReport.objects.filter(pk=row.pk, sent_at=None)
            mine.update(error=error[:300]) if error else mine.update(sent_at=clock.now(), error="")
        done["failed" if error else "sent"] += 1
    return done


def _send(row: OverageReport) -> str:
    """Tell Stripe of one entry. Returns why it could not be told; "" when it was, now or before."""
    with scope(SERVICE):
        customer = Customer.objects.filter(brand=row.brand_id, owner_id=row.owner_id, provider=provider()).first()
    if customer is None:
        return "This member is no customer at the payment service, so nobody can charge it."
    if row.used_at < clock.now() - OLDEST:
        return f"It is older than {OLDEST.days} days, and Stripe does not take it any more."
    try:
        with in_our_words():
            stripe().v1.billing.meter_events.create(
                params={
                    "event_name": METER,
                    "identifier": str(row.entry_id),
                    "payload": {"stripe_customer_id": customer.stripe_customer_id, "value": str(row.amount_microusd)},
                    "timestamp": int(row.used_at.timestamp()),
                },
                options=cast(Any, once("usage", row.entry_id)),
            )
    except sdk.InvalidRequestError as error:
        if error.code != KNOWN_ALREADY:
            log.exception("Stripe does not take what was used beyond the plan")
            return f"Stripe: {error.user_message or error}"
    return ""
