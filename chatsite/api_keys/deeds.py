"""What people do with API keys, each deed with its line in the audit log. Pages and REST call the same."""

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.urls import reverse
from django.utils.translation import gettext as _

from accounts import keys, preferences
from accounts.access import BrandRequest
from accounts.models import ApiKey, Membership, User
from events import activity, notices
from lib import clock
from lib.db import Principal
from lib.errors import NotFound

SHOWN_FOR = timedelta(days=30)  # after it ended; then a key is on no list any more


def make(
    request: BrandRequest,
    *,
    name: str,
    scopes: Iterable[str],
    days: int | None = None,
    expires_at: datetime | None = None,
    is_brands: bool = False,
    models: Collection[str] = (),
    per_minute: int = 60,
    per_day: int = 10_000,
    key_id: UUID | None = None,
) -> tuple[ApiKey, str]:
    """A new key of who asks, and its text, in their open scope. Raises what keys.create() does."""
    key, text = keys.create(
        request.brand,
        User(pk=request.principal.owner_id),
        name=name,
        scopes=scopes,
        expires_at=clock.now() + timedelta(days=days) if days else expires_at,
        is_brands=is_brands,
        models=models,
        per_minute=per_minute,
        per_day=per_day,
        key_id=key_id,
    )
    told = {"name": key.name, "scopes": [None, key.scopes], "of_brand": is_brands}
    _record(request.principal, "created", key, told | {"expires_at": key.expires_at and str(key.expires_at)})
    return key, text


def rotate(request: BrandRequest, key_id: UUID, overlap: str, *, new_id: UUID | None = None) -> tuple[ApiKey, str]:
    """The key that takes another one's place; `overlap` names one of keys.OVERLAPS. In the scope of who asks."""
    key = found(request.principal, key_id)
    if not key.is_brands and key.user_id != request.principal.owner_id:
        raise NotFound(_("Only its own person renews this key. You can revoke it."))
    after = keys.OVERLAPS[overlap]
    made, text = keys.rotate(key, User(pk=request.principal.owner_id), overlap=after, key_id=new_id)
    _record(request.principal, "rotated", made, {"instead_of": key.key_prefix, "overlap": str(after)})
    return made, text


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


def found(principal: Principal, key_id: UUID) -> ApiKey:
    """One of the person's own, or of the whole brand for its admins."""
    key = _visible(principal).filter(pk=key_id).select_related("brand").first()
    if key is None:
        raise NotFound(_("This key is not here (any more)."))
    return key


def listed(principal: Principal) -> list[ApiKey]:
    """Those that work first, then those that ended of late; the newest first."""
    rows = list(_visible(principal).select_related("brand").order_by("-created_at", "-pk")[:500])
    since = clock.now() - SHOWN_FOR
    shown = [key for key in rows if keys.is_in_force(key) or (_ended_at(key) or clock.now()) > since]
    return sorted(shown, key=lambda key: not keys.is_in_force(key))


def _visible(principal: Principal) -> Any:
    rows = ApiKey.objects.filter(brand_id=principal.brand_id)
    return rows if principal.role == "app_brand" else rows.filter(user_id=principal.owner_id)


def _ended_at(key: ApiKey) -> Any:
    return key.revoked_at or key.expires_at


def _record(principal: Principal, did: str, key: ApiKey, changes: dict[str, Any]) -> None:
    activity.record(
        principal.brand_id,
        f"key.{did}",
        actor_id=principal.owner_id,
        resource=("api_key", key.pk),
        changes=changes,
    )
