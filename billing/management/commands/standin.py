"""standin: let things happen at the local stand-in for Stripe that no button does: time, disputes, refunds, failures."""

import re
from datetime import UTC, datetime
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from billing.standin import customers, payments, renewals
from billing.standin.cycle import period_end
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal
from billing.standin.store import find, one_at_a_time
from lib.commands import OperatorCommand
from lib.errors import Conflict, Invalid, NotFound

STEP = re.compile(r"\+(\d{1,4}) ?(day|week|month|year)s?")
UNITS = {"day": 1, "week": 7}


class Command(OperatorCommand):
    help = "Play Stripe: advance a customer's time, dispute, refund, or fail what is charged. Only with the stand-in."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("do", choices=["advance", "dispute", "win", "lose", "refund", "fail", "arrive"])
        parser.add_argument("--customer", required=True, help="cus_… or a mail address")
        parser.add_argument("--to", help='advance: "+1 month", "+3 days" or 2027-01-31')
        parser.add_argument("--cents", type=int, help="refund: how much; all that is left without it")

    def work(self, **options: Any) -> dict[str, Any]:
        if not settings.STRIPE_STAND_IN:
            raise Conflict("The stand-in is not in use: STRIPE_SECRET_KEY is set, or STRIPE_STAND_IN is off.")
        one_at_a_time()
        try:
            return self.play(**options)
        except Refusal as refused:
            raise Invalid(str(refused)) from refused

    def play(self, **options: Any) -> dict[str, Any]:
        customer = _customer(options["customer"])
        do = options["do"]
        if do == "advance":
            to = _moment(customer, options["to"] or "")
            done = renewals.advance(customer, to)
            return {"customer": customer, "is_now": datetime.fromtimestamp(to, UTC).isoformat(), "done": done}
        if do == "arrive":
            row = _newest("payment_intent", customer, status="processing")
            renewals.arrive(row)
            return {"payment_intent": row.pk}
        charge = _newest("charge", customer, status="succeeded" if do != "fail" else "pending")
        if do == "dispute":
            return {"dispute": payments.dispute(charge).pk}
        if do in ("win", "lose"):
            row = _newest("dispute", None, charge=charge.pk)
            return {"dispute": payments.decide_dispute(row, won=do == "win").pk, "status": row.body["status"]}
        if do == "fail":
            renewals.arrive(find("payment_intent", charge.body["payment_intent"]), succeeds=False)
            return {"charge": charge.pk, "status": "failed"}
        wanted = {"charge": charge.pk} | ({"amount": options["cents"]} if options["cents"] is not None else {})
        return {"refund": payments.create_refund(wanted)["id"]}


def _customer(given: str) -> str:
    if given.startswith("cus_"):
        return find("customer", given).pk
    row = StandInObject.objects.filter(kind="customer", body__email=given).order_by("-pk").first()
    if row is None:
        raise NotFound(f"The stand-in knows no customer {given}: nobody with this address has begun to pay.")
    return row.pk


def _newest(kind: str, customer: str | None, **where: str) -> StandInObject:
    of_customer = {"body__customer": customer} if customer else {}
    found = StandInObject.objects.filter(
        kind=kind, **of_customer, **{f"body__{name}": value for name, value in where.items()}
    ).order_by("-pk")
    row = found.first()
    if row is None:
        raise NotFound(f"This customer has no {kind.replace('_', ' ')} of that kind.")
    return row


def _moment(customer: str, text: str) -> int:
    now = customers.own_time(customer)
    if step := STEP.fullmatch(text.strip()):
        count, unit = int(step[1]), step[2]
        to = period_end(now, now, {"interval": unit, "interval_count": count}) if count else now
    else:
        try:
            to = int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())
        except ValueError:
            raise Invalid('--to is "+1 month", "+3 days" or a day such as 2027-01-31.') from None
    if to < now:
        raise Invalid(f"Time goes forward: this customer's is {datetime.fromtimestamp(now, UTC):%Y-%m-%d %H:%M}.")
    return to
