"""Staff's pages of brands, members and keys: a brand is nothing without its plans, and a member nothing without one."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.core.validators import RegexValidator
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path

from accounts import brands, keys
from accounts.models import ApiKey, Brand, Membership
from billing.models import Plan, Subscription
from billing.plans import MixedUnits, assign_plan, catalogue_names, compare_catalogue, install_catalogue
from chatsite.api_keys import deeds
from chatsite.members.joining import join
from lib.admin import ReadOnly
from lib.db import on_commit
from lib.money import dollars

MEMBERS = Membership.objects.filter(brand=OuterRef("pk")).values("brand").annotate(count=Count("pk")).values("count")
HOST = RegexValidator(r"^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$", "A host name without port: chat.example.com")


class BrandForm(forms.ModelForm):
    def clean_domain(self) -> str:
        domain: str = self.cleaned_data["domain"].lower()
        HOST(domain)
        return domain

    def clean_default_plan(self) -> str:
        code: str = self.cleaned_data["default_plan"]
        offered = Plan.objects.filter(brand=self.instance, subject=Plan.Subject.MEMBER, is_active=True)
        plans = {plan.code: plan for plan in offered}
        fit = ", ".join(plan.code for plan in plans.values() if not plan.is_paid_first)
        fit = fit or "none yet; save the brand and give it plans from its list"
        if code and code not in plans:
            raise forms.ValidationError(f"There is no such plan for members. There are: {fit}.")
        if code and plans[code].is_paid_first:
            raise forms.ValidationError(
                f"{plans[code]} costs {plans[code].price_in_words} and has no trial: every new member, and everybody who "
                f"cancels, would have it for nothing. Choose one that is free, or give it trial days first. There are: {fit}."
            )
        return code


@admin.register(Brand)
class BrandAdmin(admin.ModelAdmin):
    form = BrandForm
    list_display = ["name", "slug", "domain", "members", "default_plan", "open_sign_up", "is_active", "created_at"]
    list_filter = ["is_active", "open_sign_up"]
    search_fields = ["name", "slug", "domain"]
    actions = ["give_catalogue"]
    list_per_page = 50
    fieldsets = [
        (None, {"fields": ["name", "slug", "domain", "zone", "is_active"]}),
        ("Look", {"fields": ["hue", "chroma", "roundness"]}),
        ("Members", {"fields": ["open_sign_up", "default_plan", "shared_history", "sharing_on", "mail_tracking"]}),
        ("Visitors", {"fields": ["anonymous_allowance", "anonymous_per_network", "anonymous_per_day"]}),
        ("Keeping", {"fields": ["retention_days"]}),
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Brand]:
        return super().get_queryset(request).annotate(member_count=Subquery(MEMBERS))

    @admin.display(ordering="member_count")
    def members(self, brand: Any) -> int:
        count: int = brand.member_count or 0
        return count

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # switched off instead: what a brand used stays in the books

    def save_model(self, request: HttpRequest, brand: Brand, form: Any, change: bool) -> None:
        super().save_model(request, brand, form, change)
        on_commit(brands.forget)

    @admin.action(description="Give this brand a catalogue of plans", permissions=["change"])
    def give_catalogue(self, request: HttpRequest, queryset: QuerySet[Brand]) -> HttpResponse | None:
        if queryset.count() == 1:
            return redirect("admin:accounts_brand_catalogue", queryset.get().pk)
        self.message_user(request, "Choose one brand: you see first what it would get.", messages.WARNING)
        return None

    def get_urls(self) -> list[Any]:
        catalogue = self.admin_site.admin_view(self.catalogue_view)
        return [
            path("<uuid:brand_id>/catalogue/", catalogue, name="accounts_brand_catalogue"),
            *super().get_urls(),
        ]

    def catalogue_view(self, request: HttpRequest, brand_id: Any) -> HttpResponse:
        """What each catalogue would give this brand; a POST gives it one."""
        if not request.user.has_perm("accounts.change_brand"):
            raise PermissionDenied
        brand = get_object_or_404(Brand, pk=brand_id)
        code = request.POST.get("catalogue", "")
        if request.method == "POST" and code in catalogue_names():
            try:
                made = install_catalogue(brand, code)
            except MixedUnits as refused:
                self.message_user(request, refused.detail, messages.ERROR)
                return redirect("admin:accounts_brand_catalogue", brand.pk)
            pool = _pool(brand)
            if code == "s0" and pool:
                assign_plan(brand, pool, actor_id=request.user.pk)
            given = ", ".join(plan.code for plan in made) or "no plan that is new"
            self.log_change(request, brand, f"Catalogue {code} given: {given}")
            self.message_user(request, f"{brand.name} was given {given}.", messages.SUCCESS)
            on_commit(brands.forget)
            return redirect("admin:accounts_brand_change", brand.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Catalogues for {brand.name}",
            "opts": self.opts,
            "original": brand,
            "catalogues": [_in_words(brand, name) for name in catalogue_names()],
        }
        return TemplateResponse(request, "admin/accounts/brand/catalogue.html", context)


def _in_words(brand: Brand, code: str) -> dict[str, Any]:
    """What a catalogue would give, line by line."""
    found = compare_catalogue(brand, code)
    pools = [plan for plan in (*found.new, *found.kept) if plan.subject == Plan.Subject.BRAND]
    lines = [
        {
            "code": plan.code,
            "name": plan.name,
            "price": plan.price_in_words,
            "gives": ", ".join(map(str, found.limits[plan.code])),
        }
        for plan in found.new
    ]
    lines += [
        {
            "code": offer.code,
            "name": f"Pack: {offer.name}",
            "price": dollars(offer.price_microusd),
            "gives": f"{offer.amount:,} {offer.meter}",
        }
        for offer in found.new_packs
    ]
    kept = [f"{plan.code} ({', '.join(map(str, plan.limits.all()))})" for plan in found.kept]
    kept += [offer.code for offer in found.kept_packs]
    return {
        "code": code,
        "found": found,
        "lines": lines,
        "kept": kept,
        "pool": pools[0].name if pools and not _pool_in_force(brand) else "",
    }


def _pool(brand: Brand) -> Plan | None:
    """The plan of its own that a brand is given with the pool; None when it is on one."""
    if _pool_in_force(brand):
        return None
    return Plan.objects.filter(brand=brand, subject=Plan.Subject.BRAND, is_active=True).first()


def _pool_in_force(brand: Brand) -> bool:
    return Subscription.objects.filter(brand=brand, owner_id=brand.pk, ended_at=None).exists()


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ["user", "brand", "role", "suspended_at", "created_at"]
    list_filter = ["role", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["user", "brand"]
    list_per_page = 50
    search_fields = ["user__email"]
    autocomplete_fields = ["brand", "user"]
    fields = ["brand", "user", "role"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand", "user"] if obj else []

    def save_model(self, request: HttpRequest, membership: Membership, form: Any, change: bool) -> None:
        if change:
            super().save_model(request, membership, form, change)
        else:
            joined = join(membership.brand, membership.user, role=membership.role)
            membership.pk, membership.created_at = joined.pk, joined.created_at


@admin.register(ApiKey)
class ApiKeyAdmin(ReadOnly, admin.ModelAdmin):
    """The text of a key is shown to nobody."""

    list_display = [
        "key_prefix", "name", "brand", "user", "is_brands", "scopes", "is_active", "expires_at", "last_used_at",
        "total_requests",
    ]  # fmt: skip
    list_filter = ["is_active", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "user"]
    list_per_page = 50
    search_fields = ["key_prefix", "name", "user__email"]
    exclude = ["key_hash"]
    actions = ["revoke"]

    def has_revoke_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("accounts.change_apikey")

    @admin.action(description="Revoke for good", permissions=["revoke"])
    def revoke(self, request: HttpRequest, queryset: QuerySet[ApiKey]) -> None:
        revoked = [key for key in queryset if keys.revoke(key)]
        for key in revoked:
            self.log_change(request, key, "Revoked")
            deeds.tell(key)
        self.message_user(request, f"{len(revoked)} keys revoked.", messages.SUCCESS)
