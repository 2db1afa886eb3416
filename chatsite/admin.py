"""Staff's pages of brands and members: a brand is nothing without its plans, and a member nothing without one."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.validators import RegexValidator
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.http import HttpRequest

from accounts import brands
from accounts.models import Brand, Membership
from billing.models import Plan
from billing.plans import assign_plan, install_catalogue
from chatsite.signup import join
from lib.db import on_commit

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
        codes = list(offered.values_list("code", flat=True))
        if code and code not in codes:
            known = ", ".join(codes) or "none yet; save the brand and give it plans from its list"
            raise forms.ValidationError(f"There is no such plan for members. There are: {known}.")
        return code


@admin.register(Brand)
class BrandAdmin(admin.ModelAdmin):
    form = BrandForm
    list_display = ["name", "slug", "domain", "members", "default_plan", "open_sign_up", "is_active", "created_at"]
    list_filter = ["is_active", "open_sign_up"]
    search_fields = ["name", "slug", "domain"]
    actions = ["give_member_plans", "give_pool"]
    list_per_page = 50
    fieldsets = [
        (None, {"fields": ["name", "slug", "domain", "zone", "is_active"]}),
        ("Look", {"fields": ["hue", "chroma", "roundness"]}),
        ("Members", {"fields": ["open_sign_up", "default_plan", "shared_history", "anonymous_allowance"]}),
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

    @admin.action(description="Give the plans for members (free, basic, pro, usage only)", permissions=["change"])
    def give_member_plans(self, request: HttpRequest, queryset: QuerySet[Brand]) -> None:
        for brand in queryset:
            made = install_catalogue(brand, "s1")
            if not brand.default_plan:
                Brand.objects.filter(pk=brand.pk).update(default_plan="free")
                on_commit(brands.forget)
            self._tell(request, brand, made)

    @admin.action(description="Give the pool of tokens that all members share", permissions=["change"])
    def give_pool(self, request: HttpRequest, queryset: QuerySet[Brand]) -> None:
        for brand in queryset:
            made = install_catalogue(brand, "s0")
            assign_plan(brand, Plan.objects.get(brand=brand, code="pool"))
            self._tell(request, brand, made)

    def _tell(self, request: HttpRequest, brand: Brand, made: list[Plan]) -> None:
        self.log_change(request, brand, f"Plans given: {', '.join(plan.code for plan in made) or 'none that are new'}")
        self.message_user(request, f"{brand.name} has {len(made)} new plans.", messages.SUCCESS)


@admin.register(Membership)
class MembershipAdmin(admin.ModelAdmin):
    list_display = ["user", "brand", "role", "created_at"]
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
