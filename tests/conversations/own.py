"""Members with keys of their own, on the running site."""

from lib.db import SERVICE, Principal, scope
from lib.secret import Secret
from providers import own_keys
from providers.models import ProviderKey
from providers.vendors import VENDORS
from quotas import ledger


def allow(person, *, byok=True, **features):
    """Two questions a day, and keys of one's own or not."""
    ledger.entitle(
        person.brand,
        kind="user",
        owner_id=person.user.pk,
        grants=[ledger.Grant("queries", "day", 2)],
        features={"byok_allowed": byok, **features},
    )


def member(person):
    return Principal("app_user", person.brand.pk, person.user.pk)


def give(person, key, vendor="openai", *, status="valid"):
    with scope(member(person)):
        return own_keys.store(member(person), VENDORS[vendor], Secret(key), status=status)


def row(person, vendor="openai"):
    with scope(SERVICE):
        return ProviderKey.objects.filter(owner_id=person.user.pk, vendor=vendor).first()
