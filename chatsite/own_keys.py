"""/settings/keys/: a member's own keys. They are checked at their vendor before they are stored, and never shown again."""

from typing import Any

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, as_member, brand_member, member_asks
from conversations.engine import paying
from events import activity
from lib.db import Principal
from lib.errors import DomainError, Forbidden, Invalid
from lib.sealed import CannotSeal
from lib.secret import Secret
from providers import key_checks, own_keys
from providers.models import ProviderKey
from providers.offers import known
from providers.vendors import VENDORS, Vendor
from quotas.models import Account

Told = tuple[int, str]  # level and words of a message


class NotInPlan(Forbidden):
    says = gettext_lazy(
        "Your plan does not include keys of your own. Nothing was stored, and the key was sent to nobody."
    )
    code = "own_keys_not_in_plan"


class Unchecked(DomainError):
    says = gettext_lazy("The vendor did not say whether it takes this key, so it was not stored.")
    status, code = 422, "own_key_unchecked"


class NotTaken(Invalid):
    says = gettext_lazy("The vendor does not take this key, so it was not stored.")
    status, code = 422, "own_key_not_taken"


class KeyForm(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("store", "check", "on", "off", "delete")])
    vendor = forms.ChoiceField(choices=[(code, vendor.name) for code, vendor in VENDORS.items()])
    key = forms.CharField(max_length=1000, required=False)
    unchecked = forms.BooleanField(required=False)


@brand_member
@require_safe
def page(request: BrandRequest) -> HttpResponse:
    return _page(request.principal, request)


@sensitive_post_parameters("key")
@member_asks
@require_POST
async def change(request: BrandRequest) -> HttpResponse:
    """Store, check, switch or delete one key, and show how it stands. What was pasted is never sent back."""
    form = KeyForm(request.POST)
    vendor = VENDORS.get(form.data.get("vendor", ""))
    try:
        if not form.is_valid() or vendor is None:
            raise Invalid(_("Choose a vendor, and what to do with your key there."))
        match form.cleaned_data["do"]:
            case "store":
                told = await _store(request, vendor, form)
            case "check":
                told = await _check(request, vendor)
            case did:
                told = await as_member(request, _change, vendor, did)
    except DomainError as refused:
        return await as_member(request, _page, request, refused, vendor)
    await as_member(request, _say, request, *told)
    return HttpResponseRedirect(f"{reverse('own-keys')}#{vendor.code}", status=303)


async def _store(request: BrandRequest, vendor: Vendor, form: KeyForm) -> Told:
    key = key_checks.read(vendor, form.cleaned_data["key"])
    await as_member(request, _may_store)
    verdict = await key_checks.check(vendor, key)
    says = _(" It says: %s") % verdict.message if verdict.message else ""
    if verdict.status == ProviderKey.Status.INVALID:
        raise NotTaken(_("%s does not take this key, so it was not stored.") % vendor.name + says)
    if verdict.status == ProviderKey.Status.UNCHECKED and not form.cleaned_data["unchecked"]:
        raise Unchecked(
            _(
                "%(vendor)s could not say whether it takes this key, so it was not stored.%(says)s Try again later, "
                "or paste "
                "it again and choose to store it unchecked."
            )
            % {"vendor": vendor.name, "says": says}
        )
    await as_member(request, _stored, vendor, key, verdict)
    if verdict.status == ProviderKey.Status.UNCHECKED:
        return messages.WARNING, _("Your key at %s is stored, and was not checked.") % vendor.name
    told = _("%s takes your key. It is stored, and pays for your questions to its models from now on.") % vendor.name
    return messages.SUCCESS, told


def _may_store(principal: Principal) -> None:
    """Before the key is sent to anybody. Raises NotInPlan, CannotSeal, TooManyChecks."""
    if not _is_allowed(principal):
        raise NotInPlan()
    if not settings.ENCRYPTION_KEYS:
        raise CannotSeal()
    key_checks.count(principal)


def _stored(principal: Principal, vendor: Vendor, key: Secret, verdict: key_checks.Verdict) -> None:
    row = own_keys.store(principal, vendor, key, status=verdict.status, message=verdict.message)
    paying.forget(principal)
    _record(principal, "stored", row)


async def _check(request: BrandRequest, vendor: Vendor) -> Told:
    row = await as_member(request, _to_check, vendor)
    verdict = await key_checks.check(vendor, own_keys.opened(row))
    await as_member(
        request, own_keys.checked, vendor, sealed=row.__dict__["secret"], status=verdict.status, message=verdict.message
    )
    says = _(" It says: %s") % verdict.message if verdict.message else ""
    if verdict.status == ProviderKey.Status.INVALID:
        return messages.WARNING, _("%s does not take your key any more.") % vendor.name + says
    if verdict.status == ProviderKey.Status.UNCHECKED:
        return messages.WARNING, _("%s could not be asked. What was known of your key stands.") % vendor.name + says
    return messages.SUCCESS, _("%s takes your key.") % vendor.name


def _to_check(principal: Principal, vendor: Vendor) -> ProviderKey:
    row = own_keys.stored(principal, vendor)
    key_checks.count(principal)
    return row


def _change(principal: Principal, vendor: Vendor, did: str) -> Told:
    if did == "delete":
        for row in own_keys.delete(principal, vendor):
            _record(principal, "deleted", row)
        told = _("Your key at %(vendor)s is deleted here. It works there until you revoke it: %(where)s")
        return messages.SUCCESS, told % {"vendor": vendor.name, "where": vendor.made_at}
    row = own_keys.switch(principal, vendor, is_used=did == "on")
    paying.forget(principal)
    _record(principal, f"switched {did}", row)
    if did == "on":
        return messages.SUCCESS, _("Your key pays for your questions to the models of %s from now on.") % vendor.name
    return messages.SUCCESS, _("Your key at %s is kept, and your plan pays from now on.") % vendor.name


def _record(principal: Principal, did: str, row: ProviderKey) -> None:
    activity.record(
        principal.brand_id,
        "own_key.changed",
        actor_id=principal.owner_id,
        resource=("own_key", row.pk),
        changes={"did": did, "vendor": row.vendor, "ends_in": row.last_four},
    )


def _say(principal: Principal, request: BrandRequest, level: int, told: str) -> None:
    messages.add_message(request, level, told)


def _is_allowed(principal: Principal) -> bool:
    account = Account.objects.filter(brand_id=principal.brand_id, kind="user", owner_id=principal.owner_id)
    return bool((account.values_list("features", flat=True).first() or {}).get("byok_allowed"))


def _page(
    principal: Principal, request: BrandRequest, refused: DomainError | None = None, vendor: Vendor | None = None
) -> HttpResponse:
    keys = own_keys.of(principal)
    paid: dict[str, list[str]] = {}
    for row in known().values():
        if row.is_active and row.is_priced and (whose := own_keys.vendor_of(row.protocol, row.base_url)):
            paid.setdefault(whose.code, []).append(row.name)
    context: dict[str, Any] = {
        "brand": request.brand,
        "here": "own-keys",
        "vendors": [
            {
                "vendor": one,
                "key": keys.get(one.code),
                "models": paid.get(one.code, []),
                "error": refused.detail if refused and one is vendor else "",
                "offers_unchecked": isinstance(refused, Unchecked) and one is vendor,
            }
            for one in VENDORS.values()
            if one.code in keys or one.code in paid
        ],
        "error": refused.detail if refused and vendor is None else "",
        "is_allowed": _is_allowed(principal),
        "can_seal": bool(settings.ENCRYPTION_KEYS),
    }
    return render(request, "settings/keys.html", context, status=refused.status if refused else 200)
