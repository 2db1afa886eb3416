"""A member's own key (BYOK): which question it pays, where it goes, and what becomes of it.

Whether it pays is decided once, when a turn begins, by paying(). A key goes to its own vendor's host and nowhere else, and
what it cannot pay is not asked with ours: the member switches it off for that, and is told so.
"""

import logging
from base64 import b64decode
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError, transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import preferences
from events import notices
from lib import clock, egress
from lib.db import Principal, Statement, current_alias, send, serve
from lib.errors import NotFound
from lib.sealed import CannotOpen, Sealed
from lib.secret import Secret
from providers.errors import KeyRefused, ProviderError
from providers.models import ProviderKey
from providers.offers import Offer, known
from providers.shapes import OwnKey, clean
from providers.vendors import VENDORS, Vendor

MESSAGE_CHARS = 300  # of a vendor's reason
log = logging.getLogger(__name__)

# A member's keys that are switched on, as one JSON object by vendor; null = there is none. A part of a statement.
OF_MEMBER = """
select json_object_agg(vendor, json_build_object(
    'id', id, 'status', status, 'last_four', last_four, 'secret', encode(secret, 'base64')))
from providers_providerkey where brand_id = %(brand)s and owner_id = %(owner)s and is_used
"""
# Only of the key that was asked with: the member may have replaced it meanwhile.
ANSWERED = """
update providers_providerkey
set status = 'valid', vendor_message = '', last_used_at = now(),
    checked_at = case when status = 'valid' then checked_at else now() end
where id = %(id)s and secret = %(sealed)s and status <> 'invalid'
      and (status <> 'valid' or last_used_at is null or last_used_at < now() - interval '1 minute')
"""
CHECKED = """
update providers_providerkey set status = %(status)s, vendor_message = %(message)s, checked_at = now(), updated_at = now()
where brand_id = %(brand)s and owner_id = %(owner)s and vendor = %(vendor)s and secret = %(sealed)s
returning id
"""
REFUSED = """
update providers_providerkey set status = 'invalid', vendor_message = %(message)s, checked_at = now(), last_used_at = now()
where id = %(id)s and secret = %(sealed)s and status <> 'invalid'
returning id
"""


class OwnKeyRefused(KeyRefused):
    says = gettext_lazy("Your own key was refused by its vendor. Replace it, or switch it off.")
    status, code = 403, "own_key_refused"


def home(vendor: Vendor) -> str:
    """The vendor's own address, which no member, no model and no variable of the environment can change."""
    urls: Mapping[str, str] = settings.OWN_KEY_HOMES
    return urls[vendor.code]


def vendor_of(protocol: str, base_url: str) -> Vendor | None:
    """Whose own host a model is asked at; None = a gateway, a server of the operator's, the demo model."""
    ours = {"openai": settings.OPENAI_BASE_URL, "anthropic": settings.ANTHROPIC_BASE_URL}.get(protocol)
    for vendor in VENDORS.values():
        if vendor.protocol == protocol and egress.origin(base_url or ours or vendor.home) == egress.origin(
            home(vendor)
        ):
            return vendor
    return None


def payable(found: Mapping[str, Any] | None) -> frozenset[UUID]:
    """The models that a member's keys pay for, of what OF_MEMBER gave: those that are asked at the keys' own vendors."""
    if not found:
        return frozenset()
    vendors = ((row.id, vendor_of(row.protocol, row.base_url)) for row in known().values())
    return frozenset(model for model, vendor in vendors if vendor and vendor.code in found)


def paying(principal: Principal, offer: Offer, found: Mapping[str, Any] | None) -> ProviderKey | None:
    """The key that pays for this model; None = the member has none for it, or has switched it off.

    found   what OF_MEMBER gave for this principal
    Raises  OwnKeyRefused for one that its vendor refused before: asking with ours is the member's own choice;
            CannotOpen for one that cannot be opened. Nothing is held yet.
    """
    vendor = vendor_of(offer.protocol, offer.base_url) if found else None
    row = found.get(vendor.code) if found and vendor else None
    if row is None or vendor is None:
        return None
    key = ProviderKey(
        id=UUID(row["id"]),
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        vendor=vendor.code,
        last_four=row["last_four"],
        status=row["status"],
        secret=Sealed(b64decode(row["secret"])),
    )
    if key.status == ProviderKey.Status.INVALID:
        if offer.lacks_key:
            said = _(
                "%(vendor)s refused your own key ending in %(last_four)s, so %(model)s was not asked. Replace the "
                "key in "
                "the settings, or choose another model."
            )
        else:
            said = _(
                "%(vendor)s refused your own key ending in %(last_four)s, so %(model)s was not asked. Replace the "
                "key in "
                "the settings, or switch it off there to ask with your plan."
            )
        raise OwnKeyRefused(said % {"vendor": vendor.name, "last_four": key.last_four, "model": offer.name})
    opened(key)
    return key


def opened(key: ProviderKey) -> OwnKey:
    """On its way to its vendor. Raises CannotOpen: nothing is asked then, and the log says which row it is."""
    sealed: Sealed = key.__dict__["secret"]
    try:
        return OwnKey(key.secret.reveal(), sealed.tag)
    except CannotOpen as error:
        log.error(
            "alert",
            extra={"alert": "sealed_row_unreadable", "reason": f"{key.vendor} {key.pk}, sealed by {sealed.key_id}"},
        )
        vendor = VENDORS[key.vendor].name
        raise CannotOpen(
            _(
                "Your own key at %(vendor)s ending in %(last_four)s cannot be opened here any more, so nothing was "
                "asked and nothing was charged. Store it again in the settings, or switch it off there to ask with "
                "your plan."
            )
            % {"vendor": vendor, "last_four": key.last_four}
        ) from error


def answered(key: ProviderKey) -> None:
    """Its vendor took it: what was not checked yet is valid, and the member sees when it was used last."""
    serve(_about(ANSWERED, key))


def refused(key: ProviderKey, failure: ProviderError) -> None:
    """Its vendor refused it while it was asked: no question goes out with it until the member has done something."""
    if not serve(_about(REFUSED, key, message=reason(failure)))[0]:
        return
    vendor = VENDORS[key.vendor].name
    with preferences.in_language_of(key.owner_id):
        notices.tell(
            key.brand_id,
            key.owner_id,
            notices.Type.KEY_UPDATE,
            title=_("%(vendor)s refused your key") % {"vendor": vendor},
            message=_(
                "Your own key ending in %(last_four)s was refused, so no question goes out with it. Replace it, check "
                "it again, or switch it off to ask with your plan."
            )
            % {"last_four": key.last_four},
            priority=notices.Priority.HIGH,
            action_url=reverse("own-keys"),
            action_label=_("Your keys"),
            all_url=reverse("notifications"),  # keys of the API may be among them
        )


# What a member does with a key, in the member's open scope.


def of(principal: Principal) -> dict[str, ProviderKey]:
    """The member's keys by vendor, without what is inside."""
    rows = ProviderKey.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    return {row.vendor: row for row in rows.defer("secret")}


def store(principal: Principal, vendor: Vendor, key: Secret, *, status: str, message: str = "") -> ProviderKey:
    """Keep a key that was checked, in place of the one before. Two tabs at once leave one row, with the later one's key.

    Raises  CannotSeal where there is no ENCRYPTION_KEYS; nothing is stored then
    """
    names = {"brand_id": principal.brand_id, "owner_id": principal.owner_id, "vendor": vendor.code}
    held = {
        "last_four": key.reveal()[-4:],
        "status": status,
        "vendor_message": message[:MESSAGE_CHARS],
        "checked_at": None if status == ProviderKey.Status.UNCHECKED else clock.now(),
        "is_used": True,
        "last_used_at": None,
    }
    try:
        with transaction.atomic(using=current_alias()):
            row = ProviderKey.objects.select_for_update().filter(**names).first() or ProviderKey(**names)
            for name, value in held.items():
                setattr(row, name, value)
            row.secret = key
            row.save()
    except IntegrityError:  # another tab was first
        return store(principal, vendor, key, status=status, message=message)
    return row


def checked(principal: Principal, vendor: Vendor, *, sealed: Sealed, status: str, message: str) -> bool:
    """What its vendor says of a stored key now. False = it was replaced meanwhile, or deleted: nothing changed."""
    if status == ProviderKey.Status.UNCHECKED:
        return True  # the vendor did not answer: what was known before stands
    names: dict[str, Any] = {"sealed": sealed.envelope, "status": status, "message": message[:MESSAGE_CHARS]}
    names |= {"brand": principal.brand_id, "owner": principal.owner_id, "vendor": vendor.code}
    return bool(send((CHECKED, names))[0])


def switch(principal: Principal, vendor: Vendor, *, is_used: bool) -> ProviderKey:
    """Whether questions go out with it. Raises NotFound."""
    row = stored(principal, vendor)
    row.is_used = is_used
    row.save(update_fields=["is_used", "updated_at"])
    return row


def delete(principal: Principal, vendor: Vendor) -> list[ProviderKey]:
    """Gone for good from here, and again is no error. It still works at its vendor, where only its owner can revoke it.

    Returns what was deleted: one or none
    """
    gone = list(_one(principal, vendor).defer("secret"))
    _one(principal, vendor).delete()
    return gone


def stored(principal: Principal, vendor: Vendor) -> ProviderKey:
    """Raises NotFound."""
    row = _one(principal, vendor).first()
    if row is None:
        raise NotFound(_("You have no key of your own at %(vendor)s (any more).") % {"vendor": vendor.name})
    return row


def _one(principal: Principal, vendor: Vendor) -> QuerySet[ProviderKey]:
    return ProviderKey.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, vendor=vendor.code)


# What its vendor answers.


def is_refusal_of_key(failure: ProviderError) -> bool:
    """401 and 403. No money left (402) is no fault of the key's."""
    return isinstance(failure, KeyRefused) and failure.vendor_status in (401, 403)


def in_own_words(failure: ProviderError, key: ProviderKey) -> ProviderError:
    """What the owner of the key should hear: which key it was, what its vendor says, and what to do."""
    vendor = VENDORS[key.vendor].name
    told = {"vendor": vendor, "last_four": key.last_four}
    says = _("%(vendor)s says: %(reason)s") % {"vendor": vendor, "reason": reason(failure)} if reason(failure) else ""
    if is_refusal_of_key(failure):
        what = _("%(vendor)s refused your own key ending in %(last_four)s. Nothing was charged here.") % told
        do = _("Replace the key in the settings, or switch it off there to ask with your plan.")
    elif isinstance(failure, KeyRefused) or failure.vendor_code == "insufficient_quota":
        what = _("Your own account at %(vendor)s (key ending in %(last_four)s) has no credit left.") % told
        do = _("Add some there, or switch the key off in the settings to ask with your plan.")
    else:
        more = _("It was asked with your own key at %(vendor)s, and nothing else was tried.") % told
        failure.detail = f"{failure.detail} {more}"
        failure.args = (failure.detail,)
        return failure
    return OwnKeyRefused(
        " ".join(filter(None, (what, says, do))),
        vendor_status=failure.vendor_status,
        vendor_code=failure.vendor_code,
        vendor_detail=failure.vendor_detail,
    )


def reason(failure: ProviderError) -> str:
    """The vendor's own words, short and on one line. The key is masked in them already."""
    return " ".join(clean(failure.vendor_detail).split())[:MESSAGE_CHARS]


def _about(statement: str, key: ProviderKey, **names: Any) -> Statement:
    return statement, {"id": key.pk, "sealed": key.__dict__["secret"].envelope, **names}
