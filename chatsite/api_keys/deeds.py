"""What people do with API keys, each deed with its line in the audit log. Pages and REST call the same, in an open scope.

Who asks with a key gives nothing that this key has not: what would come of the deed is compared with it, and refused with
all that was done.
"""

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet
from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import keys, preferences
from accounts.access import BrandRequest
from accounts.models import ApiKey, Membership, User
from events import activity, notices
from lib import clock
from lib.db import Principal
from lib.errors import Forbidden, Invalid, NotAuthenticated, NotFound
from providers.models import AIProvider

SHOWN_FOR = timedelta(days=30)  # after it ended; then a key is on no list any more
LONGEST = timedelta(days=3660)  # from now; or it has no end
PER_MINUTE, PER_DAY = 60, 10_000
MOST_LISTED = 500


class BeyondKey(Forbidden):
    """A key may do no more than the one that made it. Source: I-10."""

    code = "beyond_key"


def make(
    request: BrandRequest,
    *,
    name: str,
    scopes: Iterable[str],
    days: int | None = None,
    expires_at: datetime | None = None,
    is_brands: bool = False,
    models: Collection[str] = (),
    per_minute: int | None = None,
    per_day: int | None = None,
    key_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """A new key of who asks, and its text. Raises what keys.create() does, and BeyondKey.

    By default it may be used as often as most are, for good, for all models; made with a key, as far as that one may.
    """
    by = _asking_key(request.principal)
    _refuse_unfit(models, expires_at)
    ends_at = clock.now() + timedelta(days=days) if days else expires_at
    key, text = keys.create(
        request.brand,
        User(pk=request.principal.owner_id),
        name=name,
        scopes=scopes,
        expires_at=ends_at or (by.expires_at if by else None),
        is_brands=is_brands,
        models=models or (by.allowed_models if by else ()),
        per_minute=per_minute or min(PER_MINUTE, by.rate_limit_per_minute if by else PER_MINUTE),
        per_day=per_day or min(PER_DAY, by.rate_limit_per_day if by else PER_DAY),
        family_id=(by.family_id or by.pk) if by else None,  # many keys would else be many times its limits
        key_id=key_id,
    )
    _refuse_beyond(request.principal, by, key)
    told = {"name": key.name, "scopes": [None, key.scopes], "of_brand": is_brands}
    _record(request.principal, "created", key, told | {"expires_at": key.expires_at and str(key.expires_at)})
    return key, text


def rotate(request: BrandRequest, key_id: UUID, overlap: str, *, new_id: UUID | None = None) -> tuple[ApiKey, str]:
    """The key that takes another one's place; `overlap` names one of keys.OVERLAPS.

    Renewed with a key, it ends no later than that one: only a person gives a key more time.
    """
    by = _asking_key(request.principal)
    key = _to_change(request.principal, key_id, _("Only its own person renews this key. You can revoke it."))
    after = keys.OVERLAPS[overlap]
    made, text = keys.rotate(key, User(pk=request.principal.owner_id), overlap=after, key_id=new_id)
    if by and by.expires_at and made.expires_at and made.expires_at > by.expires_at:
        made.expires_at = by.expires_at
        made.save(update_fields=["expires_at"])
    _refuse_beyond(request.principal, by, made)
    _record(request.principal, "rotated", made, {"instead_of": key.key_prefix, "overlap": str(after)})
    return made, text


def change(request: BrandRequest, key_id: UUID, wanted: Mapping[str, Any]) -> ApiKey:
    """`wanted` by column, as keys.change() takes it. Raises what that does, and BeyondKey."""
    by = _asking_key(request.principal)
    key = _to_change(request.principal, key_id, _("Only its own person changes this key. You can revoke it."))
    _refuse_beyond(request.principal, by, key)
    _refuse_unfit(wanted.get("allowed_models", ()), wanted.get("expires_at"))
    if key.user_id != request.principal.owner_id:
        _refuse_wider(key, wanted)
    changed = keys.change(key, User(pk=request.principal.owner_id), wanted)
    _refuse_beyond(request.principal, by, key)
    if changed:
        ends = {"expires_at": [at and str(at) for at in changed["expires_at"]]} if "expires_at" in changed else {}
        _record(request.principal, "changed", key, changed | ends)
    return key


def revoke(principal: Principal, key: ApiKey) -> bool:
    """End a key for good; False = it had ended before. As the service where it is somebody else's, who is told."""
    if not keys.revoke(key):
        return False
    _record(principal, "revoked", key, {"name": key.name, "prefix": key.key_prefix})
    if key.user_id != principal.owner_id:
        tell(key)
    return True


def tell(key: ApiKey) -> None:
    """Its person, that somebody else revoked it before its end. In service scope; several are told as one."""
    if key.expires_at and key.expires_at <= clock.now():
        return
    if not Membership.objects.filter(brand_id=key.brand_id, user_id=key.user_id).exists():
        return
    with preferences.in_language_of(key.user_id):
        notices.tell(
            key.brand_id,
            key.user_id,
            notices.Type.KEY_UPDATE,
            title=_("Your API key “%(name)s” was revoked") % {"name": key.name},
            message=_(
                "Those who run %(brand)s revoked it, so nothing is answered to it any more. A program that uses it needs "
                "another key. Write to them if this is a mistake."
            )
            % {"brand": key.brand.name},
            action_url=reverse("api-keys"),
            action_label=_("Your API keys"),
            all_url=reverse("notifications"),  # keys of vendors may be among them
            once=f"key:{key.pk}:revoked",
        )


def found(principal: Principal, key_id: UUID, *, locked: bool = False) -> ApiKey:
    """One of the person's own, or of the whole brand for its admins."""
    rows = visible(principal).filter(pk=key_id).select_related("brand")
    key: ApiKey | None = (rows.select_for_update(of=("self",)) if locked else rows).first()
    if key is None:
        raise NotFound(_("This key is not here (any more)."))
    return key


def listed(principal: Principal) -> list[ApiKey]:
    """Those that work first, then those that ended of late; the newest first."""
    rows = shown(principal).select_related("brand").order_by("-created_at", "-pk")[:MOST_LISTED]
    return sorted(rows, key=lambda key: not keys.is_in_force(key))


def shown(principal: Principal) -> "QuerySet[ApiKey]":
    """Those that work, and what ended of late, but for keys that were made for a day at most."""
    now = clock.now()
    in_force = Q(is_active=True) & (Q(expires_at=None) | Q(expires_at__gt=now))
    ended = Q(revoked_at__gt=now - SHOWN_FOR) | Q(is_active=True, expires_at__gt=now - SHOWN_FOR)
    return visible(principal).filter(in_force | (ended & Q(is_short_lived=False)))


def visible(principal: Principal) -> "QuerySet[ApiKey]":
    rows = ApiKey.objects.filter(brand_id=principal.brand_id)
    return rows if principal.role == "app_brand" else rows.filter(user_id=principal.owner_id)


def _to_change(principal: Principal, key_id: UUID, refusal: str) -> ApiKey:
    key = found(principal, key_id, locked=True)
    if not key.is_brands and key.user_id != principal.owner_id:
        raise NotFound(refusal)
    return key


def _refuse_wider(key: ApiKey, wanted: Mapping[str, Any]) -> None:
    """A key acts as its own person, so nobody else gives it more to do, more models or more time."""
    had, models = set(key.allowed_models), set(wanted.get("allowed_models", key.allowed_models))  # none = all
    ends_at = wanted.get("expires_at", key.expires_at)
    is_wider = {
        "scopes": not set(wanted.get("scopes", ())) <= set(key.scopes),
        "allowed_models": had and (not models or not models <= had),
        "expires_at": key.expires_at and (ends_at is None or ends_at > key.expires_at),
    }
    if names := [name for name, wider in is_wider.items() if wider]:
        raise Forbidden(
            _("This key acts as the person who made it, and only they let it do more. Renew it, and it is yours."),
            param=names[0],
        )


def _refuse_unfit(models: Collection[str], expires_at: datetime | None) -> None:
    offered = set(AIProvider.objects.filter(api_identifier__in=models).values_list("api_identifier", flat=True))
    if unknown := sorted(set(models) - offered):
        raise Invalid(_("There is no model %(name)s.") % {"name": unknown[0][:80]}, param="allowed_models")
    if expires_at is not None and not clock.now() < expires_at < clock.now() + LONGEST:
        raise Invalid(
            _("A key ends in the future, and within ten years. To end it now, revoke it."), param="expires_at"
        )


def _asking_key(principal: Principal) -> ApiKey | None:
    """The key that asks, if one does. It is locked: once it is revoked, nothing more is made with it."""
    if principal.key_id is None:
        return None
    key = ApiKey.objects.select_for_update().filter(pk=principal.key_id).first()
    if key is None or not keys.is_in_force(key):
        raise NotAuthenticated("This API key is not valid (any more).")
    return key


def _refuse_beyond(principal: Principal, by: ApiKey | None, key: ApiKey) -> None:
    if by is None:
        return
    assert principal.scopes is not None  # what it may do at this moment
    is_more = {
        "scopes": not set(key.scopes) <= principal.scopes,
        "allowed_models": by.allowed_models
        and not (key.allowed_models and set(key.allowed_models) <= {*by.allowed_models}),
        "rate_limit_per_minute": key.rate_limit_per_minute > by.rate_limit_per_minute,
        "rate_limit_per_day": key.rate_limit_per_day > by.rate_limit_per_day,
        "expires_at": by.expires_at and (key.expires_at is None or key.expires_at > by.expires_at),
        "is_brands": key.is_brands != by.is_brands,
    }
    if names := [name for name, more in is_more.items() if more]:
        raise BeyondKey(
            f"With a key nobody makes, renews or changes one that may do more than it. Beyond it: {', '.join(names)}.",
            param=names[0],
        )


def _record(principal: Principal, did: str, key: ApiKey, changes: dict[str, Any]) -> None:
    activity.record(
        principal.brand_id,
        f"key.{did}",
        actor_id=principal.owner_id,
        key_id=principal.key_id,
        resource=("api_key", key.pk),
        changes=changes,
    )
