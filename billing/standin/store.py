"""Objects of the stand-in: made, found, listed, expanded, and every change told as an event in the same transaction."""

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, TypeVar

import stripe
from celery import current_app
from django.db import connections, transaction

from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, no_such
from lib import clock
from lib.db import SERVICE, current_alias, on_commit, scope, scope_is_open
from lib.ids import uuid7

ONE_AT_A_TIME = 0x5354_5249_5045  # the advisory lock of all that writes: what is paid twice at once is paid once
SEND = "billing.tasks.send_stand_in_event"  # by name: the tasks import the delivery, which reads events from here
MOST_OF_A_PAGE = 100
Body = dict[str, Any]
T = TypeVar("T")


@contextmanager
def asking() -> Iterator[None]:
    """One request: a transaction of its own, as if it happened elsewhere.

    Raises RuntimeError inside a scope of the caller's: at the real Stripe this is a call over the network.
    """
    if scope_is_open():
        raise RuntimeError("Stripe is asked inside a transaction: close the scope first")
    with scope(SERVICE):
        yield


@contextmanager
def changing() -> Iterator[None]:
    """The same, for what writes."""
    with asking():
        one_at_a_time()
        yield


def one_at_a_time() -> None:
    """Until this transaction ends, nobody else changes anything here."""
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("select pg_advisory_xact_lock(%s)", [ONE_AT_A_TIME])


def attempt(work: Callable[[], T]) -> tuple[T | None, Refusal | None]:
    """All of `work` or nothing; but that a card was asked and said no stays on record. Gives its result, or the refusal."""
    with suppress(Refusal), transaction.atomic(using=current_alias()):
        try:
            return work(), None
        except Refusal as refused:
            refusal = refused
            if not refused.is_final:
                raise
    return None, refusal


def new_id(prefix: str) -> str:
    """Sorts by time, and cannot be guessed: who has the link of a checkout may pay it."""
    return f"{prefix}_{uuid7().hex[:16]}{secrets.token_hex(12)}"


def seconds(moment: Any) -> int:
    return int(moment.timestamp())


def add(kind: str, prefix: str, body: Body, **inside: Any) -> StandInObject:
    now = clock.now()
    its_id = body.get("id") or new_id(prefix)
    whole = {"id": its_id, "object": kind, "created": seconds(now), **body}
    if kind != "refund":  # which alone does not say
        whole = {"livemode": False, **whole}
    return StandInObject.objects.create(id=its_id, kind=kind, body=whole, inside=inside, created_at=now)


def find(kind: str, its_id: str, *, param: str = "id") -> StandInObject:
    found = StandInObject.objects.filter(pk=its_id, kind=kind).first()
    if found is None:
        raise no_such(kind, its_id, param=param)
    return found


def change(row: StandInObject, what: str = "", **values: Any) -> StandInObject:
    """Set fields of the body and, with `what`, tell it with what was there before."""
    before = {name: row.body.get(name) for name, value in values.items() if row.body.get(name) != value}
    row.body = {**row.body, **values}
    row.save()
    if what:
        tell(what, row.body, before)
    return row


def merge_metadata(old: dict[str, str], new: Any) -> dict[str, str]:
    """As Stripe does: names are added or changed, an empty value takes one away, an empty whole takes all."""
    if new == "":
        return {}
    return {name: value for name, value in {**old, **(new or {})}.items() if value != ""}


def tell(what: str, body: Body, before: Body | None = None) -> StandInObject:
    """Append an event; it is sent to our webhook once this transaction has committed."""
    event = add(
        "event",
        "evt",
        {
            "type": what,
            "api_version": stripe.api_version,
            "data": {"object": body, **({"previous_attributes": before} if before else {})},
            "pending_webhooks": 1,
            "request": {"id": None, "idempotency_key": None},
        },
        tries=0,
        again_at=0,
    )
    on_commit(partial(current_app.tasks[SEND].delay, event.pk))
    return event


def page(kind: str, params: Body, url: str, **where: Any) -> Body:
    """One page of a list, newest first, as the SDK pages through it by itself."""
    rows = StandInObject.objects.filter(kind=kind, **where)
    limit = params.get("limit", 10)
    if not 1 <= limit <= MOST_OF_A_PAGE:
        raise Refusal(
            f"Invalid limit: must be between 1 and {MOST_OF_A_PAGE}",
            code="parameter_invalid_integer",
            param="limit",
        )
    rows = _created(rows, params.get("created"))
    backwards = "ending_before" in params
    if cursor := params.get("ending_before") or params.get("starting_after"):
        at = find(kind, cursor, param="ending_before" if backwards else "starting_after")
        rows = rows.filter(pk__gt=at.pk) if backwards else rows.filter(pk__lt=at.pk)
    found = list(rows.order_by("pk" if backwards else "-pk")[: limit + 1])
    data = [row.body for row in found[:limit]]
    return {
        "object": "list",
        "data": data[::-1] if backwards else data,
        "has_more": len(found) > limit,
        "url": url,
    }


def _created(rows: Any, created: Any) -> Any:
    if isinstance(created, int):
        return rows.filter(body__created=created)
    return rows.filter(**{f"body__created__{comparison}": moment for comparison, moment in (created or {}).items()})


def a_list(data: list[Body], url: str) -> Body:
    return {"object": "list", "data": data, "has_more": False, "url": url}


def expanded(body: Any, paths: list[str]) -> Any:
    """`expand`: put the object in the place of its id."""
    for path in paths:
        body = _expand(body, path.split("."), path)
    return body


def _expand(here: Any, names: list[str], path: str) -> Any:
    if not names:
        if isinstance(here, str):
            found = StandInObject.objects.filter(pk=here).first()
            if found is None:
                raise _cannot_expand(path)
            return found.body
        return here
    if isinstance(here, str):
        here = _expand(here, [], path)
    if here is None:
        return None
    if isinstance(here, list):
        return [_expand(item, names, path) for item in here]
    name, *rest = names
    if name not in here:
        row = StandInObject.objects.filter(pk=here.get("id", "")).first()
        includable = row.inside.get("includable", {}) if row else {}
        if name not in includable:
            raise _cannot_expand(path)
        here = {**here, name: includable[name]}
    return {**here, name: _expand(here[name], rest, path)}


def _cannot_expand(path: str) -> Refusal:
    return Refusal(f"This property cannot be expanded ({path}).", param="expand")
