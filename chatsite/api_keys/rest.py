"""REST: API keys (S3 `api_keys`), one's own and all of a brand (docs/api-keys.md)."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db.models import Q
from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers

from accounts import keys
from accounts.access import BrandRequest
from accounts.models import ApiKey
from accounts.rest import Api, Listed, operation
from accounts.rest.fields import Flag, Id, Moment, NewestFirst, ShownOnce, Strict, Text, Whole
from chatsite.api_keys import deeds
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound

MOST_MODELS = 100
AN_ID, ANOTHER_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f", "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e60"
AT = "2026-11-21T20:15:00.123456+00:00"
UNTIL = "2027-02-19T20:15:00Z"


class Key(serializers.Serializer[Any]):
    """A key. Its text is shown once, where it is made; `key_prefix` says which one it is: `sk_<key_prefix>_…`."""

    moves = frozenset({"total_requests", "last_used_at"})

    id = Id()
    user_id = Id(help_text="Who made it, and as whom it acts.")
    agent_id = Id(allow_null=True)
    name = Text()
    key_prefix = Text()
    scopes = serializers.ListField(child=Text())
    allowed_models = serializers.ListField(child=Text(), help_text="The only models it may ask; empty: all.")
    rate_limit_per_minute = Whole()
    rate_limit_per_day = Whole()
    is_brands = Flag(help_text="The brand's own: its pool pays.")
    is_active = Flag(help_text="Not revoked. One that expired stays active, and is answered no more.")
    total_requests = Whole(help_text="As of a minute ago.")
    last_used_at = Moment(allow_null=True)
    expires_at = Moment(allow_null=True)
    revoked_at = Moment(allow_null=True)
    created_at = Moment()
    key = ShownOnce(help_text="Its text, only in the answer that made it; nobody can read it later.")


class KeyToMake(Strict):
    name = Text(max_length=80)
    scopes = serializers.ListField(child=Text(max_length=40), allow_empty=False, max_length=50)
    allowed_models = serializers.ListField(
        child=Text(max_length=80), required=False, max_length=MOST_MODELS, help_text="Names of `ai-providers`' models."
    )
    rate_limit_per_minute = Whole(
        min_value=1, max_value=keys.MOST_PER_MINUTE, required=False, help_text=f"{deeds.PER_MINUTE}, if left out."
    )
    rate_limit_per_day = Whole(
        min_value=1, max_value=keys.MOST_PER_DAY, required=False, help_text=f"{deeds.PER_DAY:,}, if left out."
    )
    expires_at = Moment(required=False, help_text="No end, if left out: until it is revoked.")


class KeyToChange(Strict):
    name = Text(max_length=80, required=False)
    scopes = serializers.ListField(child=Text(max_length=40), allow_empty=False, max_length=50, required=False)
    allowed_models = serializers.ListField(
        child=Text(max_length=80), required=False, max_length=MOST_MODELS, help_text="[]: all that are offered."
    )
    rate_limit_per_minute = Whole(min_value=1, max_value=keys.MOST_PER_MINUTE, required=False)
    rate_limit_per_day = Whole(min_value=1, max_value=keys.MOST_PER_DAY, required=False)
    expires_at = Moment(required=False)
    never_expires = Flag(required=False, help_text="true takes its end away.")

    def validate(self, attrs: dict[str, Any]) -> dict[str, Any]:
        if attrs.pop("never_expires", False):
            if "expires_at" in attrs:
                raise serializers.ValidationError({"never_expires": "Give an end or none, not both."})
            attrs["expires_at"] = None
        return attrs


class KeyToRenew(Strict):
    overlap = serializers.ChoiceField(list(keys.OVERLAPS), default="day", help_text="How long the old key works yet.")


TO_MAKE = {"name": "Nightly report", "scopes": ["chat"], "rate_limit_per_minute": 20}
A_KEY = {
    "id": AN_ID, "user_id": ANOTHER_ID, "agent_id": None, "name": "Nightly report", "key_prefix": "0a1b2c3d4e5f",
    "scopes": ["chat"], "allowed_models": [], "rate_limit_per_minute": 20, "rate_limit_per_day": 10_000,
    "is_brands": False, "is_active": True, "total_requests": 12, "last_used_at": AT, "expires_at": UNTIL,
    "revoked_at": None, "created_at": AT,
}  # fmt: skip
MADE = {**A_KEY, "total_requests": 0, "last_used_at": None, "key": "sk_0a1b2c3d4e5f_…"}
A_BRANDS, MADE_OF_BRAND = {**A_KEY, "is_brands": True}, {**MADE, "is_brands": True}
MAKES: Mapping[str, Any] = {
    "asks": KeyToMake, "answers": Key(), "status": 201, "confirmed": True, "takes_key": True, "asked": TO_MAKE,
}  # fmt: skip
RENEWS: Mapping[str, Any] = {
    "asks": KeyToRenew, "answers": Key(), "status": 201, "confirmed": True, "takes_key": True, "tagged": True,
    "asked": {"overlap": "day"},
}  # fmt: skip
CHANGES: Mapping[str, Any] = {
    "asks": KeyToChange, "answers": Key(), "confirmed": True, "tagged": True, "asked": {"rate_limit_per_day": 500},
}  # fmt: skip
OF_BRAND: Mapping[str, Any] = {"role": "app_brand"}


class OfKeys(Api):
    tag = "API keys"

    def page(self, request: BrandRequest) -> Listed:
        rows, limit = deeds.shown(request.principal), self.query["limit"]
        if after := self.query.get("after"):
            last = deeds.visible(request.principal).filter(pk=after).values_list("created_at", flat=True).first()
            if last is None:
                raise Invalid("There is no such key, or it is not here any more.", param="after")
            rows = rows.filter(Q(created_at__lt=last) | Q(created_at=last, pk__lt=after))
        found = list(rows.order_by("-created_at", "-pk")[: limit + 1])
        return Listed(found[:limit], str(found[limit - 1].pk) if len(found) > limit else "")

    def make(self, request: BrandRequest, *, is_brands: bool) -> ApiKey:
        columns = {"allowed_models": "models", "rate_limit_per_minute": "per_minute", "rate_limit_per_day": "per_day"}
        wanted = {columns.get(name, name): value for name, value in self.asked.items()}
        return _with_text(*deeds.make(request, is_brands=is_brands, **wanted))

    def locked(self, request: BrandRequest, **ids: Any) -> ApiKey:
        return deeds.found(request.principal, ids["key_id"], locked=True)


class OwnKeys(OfKeys):
    @operation("listApiKeys", keys.OWN, query=NewestFirst, answers=Key(many=True), told=A_KEY)
    def get(self, request: BrandRequest) -> Listed:
        """List your API keys

        The newest first: those that work, and those that ended within 30 days.
        """
        return self.page(request)

    @operation("createApiKey", keys.OWN, **MAKES, told=MADE)
    def post(self, request: BrandRequest) -> ApiKey:
        """Make an API key

        Its text is told in this answer only: a repeat with the same `Idempotency-Key` tells the key without it. Made with a
        key, it may do no more than that one, ends no later, and counts in one limit with it.
        """
        return self.make(request, is_brands=False)


class OwnKey(OfKeys):
    @operation("getApiKey", keys.OWN, answers=Key(), tagged=True, told=A_KEY)
    def get(self, request: BrandRequest, key_id: UUID) -> ApiKey:
        """Read an API key"""
        return deeds.found(request.principal, key_id)

    @operation("updateApiKey", keys.OWN, **CHANGES, told=A_KEY)
    def patch(self, request: BrandRequest, key_id: UUID) -> ApiKey:
        """Change an API key

        What it may do, how often and how long, from its next call on; its text stays. A key changes only such as may do no
        more than itself, before and after.
        """
        return deeds.change(request, key_id, self.asked)

    @operation("revokeApiKey", keys.OWN, tagged=True)
    def delete(self, request: BrandRequest, key_id: UUID) -> None:
        """Revoke an API key

        For good; answers that are being written to it stop within seconds. One that has ended stays as it is.
        """
        deeds.revoke(request.principal, deeds.found(request.principal, key_id))


class Renewing(OfKeys):
    @operation("rotateApiKey", keys.OWN, **RENEWS, told=MADE)
    def post(self, request: BrandRequest, key_id: UUID) -> ApiKey:
        """Renew an API key

        Makes the key that takes its place, with its rights and limits; the old one works for the `overlap` yet, and both are
        counted in one limit. Renewed with a key, it ends no later than that one.
        """
        return _with_text(*deeds.rotate(request, key_id, self.asked["overlap"]))


class OfBrand(OfKeys):
    """All keys of a brand, for its admins. `slug` is that of the brand that is asked."""

    def initial(self, request: Any, *args: Any, **ids: Any) -> None:
        super().initial(request, *args, **ids)
        if ids["slug"] != request.brand.slug:
            raise NotFound("This brand is not here. A key reads its own brand only.")


class BrandKeys(OfBrand):
    @operation("listBrandApiKeys", keys.MANAGE, query=NewestFirst, answers=Key(many=True), told=A_BRANDS, **OF_BRAND)
    def get(self, request: BrandRequest, slug: str) -> Listed:
        """List all API keys of a brand

        Those of its members, and the brand's own. The newest first: those that work, and those that ended within 30 days.
        """
        return self.page(request)

    @operation("createBrandApiKey", keys.MANAGE, **MAKES, **OF_BRAND, told=MADE_OF_BRAND)
    def post(self, request: BrandRequest, slug: str) -> ApiKey:
        """Make an API key of the brand

        Its calls are paid by the brand's pool, and it works for as long as who made it is an admin. A key makes one only if
        it is the brand's itself; then as `createApiKey` says.
        """
        return self.make(request, is_brands=True)


class BrandKey(OfBrand):
    @operation("getBrandApiKey", keys.MANAGE, answers=Key(), tagged=True, told=A_BRANDS, **OF_BRAND)
    def get(self, request: BrandRequest, slug: str, key_id: UUID) -> ApiKey:
        """Read any API key of a brand"""
        return deeds.found(request.principal, key_id)

    @operation("updateBrandApiKey", keys.MANAGE, **CHANGES, **OF_BRAND, told=A_BRANDS)
    def patch(self, request: BrandRequest, slug: str, key_id: UUID) -> ApiKey:
        """Change an API key of the brand

        As `updateApiKey`. Keys of members are changed by themselves alone.
        """
        return deeds.change(request, key_id, self.asked)

    @operation("revokeBrandApiKey", keys.MANAGE, goes_out=True, tagged=True, **OF_BRAND)
    def delete(self, request: BrandRequest, slug: str, key_id: UUID) -> HttpResponseBase:
        """Revoke any API key of a brand

        For good; answers that are being written to it stop within seconds. Its person is told. One that has ended stays so.
        """
        who = request.principal

        def revoke() -> None:
            deeds.revoke(who, deeds.found(who, key_id))

        with scope(SERVICE):  # whose key it is hears of it, and the brand's admins write nobody notices
            return self.do(request, {"key_id": key_id}, revoke)


class BrandRenewing(OfBrand):
    @operation("rotateBrandApiKey", keys.MANAGE, **RENEWS, **OF_BRAND, told=MADE_OF_BRAND)
    def post(self, request: BrandRequest, slug: str, key_id: UUID) -> ApiKey:
        """Renew an API key of the brand

        As `rotateApiKey`. The new one is of who renews it. Keys of members are renewed by themselves alone.
        """
        return _with_text(*deeds.rotate(request, key_id, self.asked["overlap"]))


def _with_text(key: ApiKey, text: str) -> ApiKey:
    key.key = text  # type: ignore[attr-defined]  # for this one answer
    return key


urlpatterns = [
    path("api-keys", OwnKeys.as_view(), name="rest-api-keys"),
    path("api-keys/<uuid:key_id>", OwnKey.as_view(), name="rest-api-key"),
    path("api-keys/<uuid:key_id>/rotate", Renewing.as_view(), name="rest-rotate-api-key"),
    path("brands/<slug:slug>/api-keys", BrandKeys.as_view(), name="rest-brand-api-keys"),
    path("brands/<slug:slug>/api-keys/<uuid:key_id>", BrandKey.as_view(), name="rest-brand-api-key"),
    path("brands/<slug:slug>/api-keys/<uuid:key_id>/rotate", BrandRenewing.as_view(), name="rest-rotate-brand-api-key"),
]
