"""Seals members' own keys, webhooks' secrets and second factors anew with the ring's first key, while everybody uses them."""

from collections import Counter
from dataclasses import dataclass, field
from uuid import UUID

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.db.models import Count

from accounts.second_factor import HOLDS, Adapter, envelope
from events.models import WebhookEndpoint
from lib.db import SERVICE, scope, send
from lib.faults import fault
from lib.sealed import CannotOpen, CannotSeal, Sealed, SealedTextField
from providers.models import ProviderKey

AT_A_TIME = 100  # rows in one transaction
RESEAL = "update providers_providerkey set secret = %(new)s where id = %(id)s and secret = %(old)s returning id"
OF_WEBHOOKS = {
    "secret": "update events_webhookendpoint set secret = %(new)s where id = %(id)s and secret = %(old)s returning id",
    "old_secret": "update events_webhookendpoint set old_secret = %(new)s"
    " where id = %(id)s and old_secret = %(old)s returning id",
    "older_secrets": "update events_webhookendpoint set older_secrets = %(new)s"
    " where id = %(id)s and older_secrets = %(old)s returning id",
    "custom_headers": "update events_webhookendpoint set custom_headers = %(new)s"
    " where id = %(id)s and custom_headers = %(old)s returning id",
}


@dataclass(slots=True)
class Resealed:
    """What was done. A row that its member changed meanwhile is left as the member wrote it.

    left  how many rows are still sealed with which other key of the ring, or with one that is not in it
    """

    sealed_with: str
    resealed: int = 0
    changed_meanwhile: int = 0
    unreadable: list[str] = field(default_factory=list)
    left: dict[str, int] = field(default_factory=dict)


def reseal(*, at_a_time: int = AT_A_TIME) -> Resealed:
    """Go through every row that another key sealed, some in each transaction. A second run goes on where one was cut off.

    Raises  CannotSeal without a ring
    """
    done = Resealed(settings.ENCRYPTION_KEYS.sealing_id)
    if not done.sealed_with:
        raise CannotSeal()
    column = ProviderKey._meta.get_field("secret")
    assert isinstance(column, SealedTextField)
    after: UUID | None = None
    while True:
        with scope(SERVICE):
            rows = ProviderKey.objects.exclude(key_id=done.sealed_with).order_by("pk")
            batch = list(rows.filter(pk__gt=after)[:at_a_time] if after else rows[:at_a_time])
            for row in batch:
                _reseal(row, column, RESEAL, done)
        fault("after_resealing_a_batch")
        if not batch:
            break
        after = batch[-1].pk
    _reseal_webhooks(done, at_a_time)
    _reseal_second_factors(done, at_a_time)
    done.left = {key_id: rows for key_id, rows in by_key().items() if key_id != done.sealed_with}
    return done


def _reseal_webhooks(done: Resealed, at_a_time: int) -> None:
    """Each of its columns by itself: they are sealed when they are changed."""
    after = UUID(int=0)
    while True:
        with scope(SERVICE):
            batch = list(WebhookEndpoint.objects.filter(pk__gt=after).order_by("pk")[:at_a_time])
            for row in batch:
                for name, statement in OF_WEBHOOKS.items():
                    column, held = WebhookEndpoint._meta.get_field(name), row.__dict__[name]
                    assert isinstance(column, SealedTextField)
                    if held is not None and held.key_id != done.sealed_with:
                        _reseal(row, column, statement, done)
        if not batch:
            return
        after = batch[-1].pk


def _reseal_second_factors(done: Resealed, at_a_time: int) -> None:
    """Also those that were stored open, before they were sealed at all."""
    adapter, after = Adapter(), 0
    while True:
        with scope(SERVICE):
            batch = list(Authenticator.objects.select_for_update().filter(pk__gt=after).order_by("pk")[:at_a_time])
            for row in batch:
                old = {name: row.data[name] for name in HOLDS if name in row.data}
                if all((held := envelope(text)) and held.key_id == done.sealed_with for text in old.values()):
                    continue
                try:
                    row.data |= {name: adapter.encrypt(adapter.decrypt(text)) for name, text in old.items()}
                except CannotOpen:
                    done.unreadable.append(str(row.pk))
                    continue
                row.save(update_fields=["data"])
                done.resealed += 1
        if not batch:
            return
        after = batch[-1].pk


def _reseal(row: ProviderKey | WebhookEndpoint, column: SealedTextField, statement: str, done: Resealed) -> None:
    before: Sealed = row.__dict__[column.attname]
    try:
        anew = column.seal(getattr(row, column.attname), row)
    except CannotOpen:
        done.unreadable.append(str(row.pk))
        return
    if send((statement, {"id": row.pk, "old": before.envelope, "new": anew.envelope}))[0]:
        done.resealed += 1
    else:
        done.changed_meanwhile += 1


def by_key() -> Counter[str]:
    """How much each key of a ring has sealed, by its id: members' keys, what webhooks have that is secret, second factors."""
    with scope(SERVICE):
        counted = Counter(dict(ProviderKey.objects.order_by().values_list("key_id").annotate(rows=Count("pk"))))
        for hook in WebhookEndpoint.objects.only(*OF_WEBHOOKS).iterator():
            counted.update(held.key_id for name in OF_WEBHOOKS if (held := hook.__dict__[name]) is not None)
        for second in Authenticator.objects.iterator():
            held_here = {envelope(second.data[name]) for name in HOLDS if name in second.data} - {None}
            counted.update(held.key_id for held in held_here if held is not None)
        return counted


def without_key() -> int:
    """Rows that nobody can open here: the key that sealed them is not in ENCRYPTION_KEYS."""
    return sum(rows for key_id, rows in by_key().items() if key_id not in settings.ENCRYPTION_KEYS)
