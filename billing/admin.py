"""Staff's pages of plans and of who is on them. A change of plan is a new subscription, made by assign_plan()."""

from functools import partial
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Count, OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect
from django.template.response import TemplateResponse
from django.urls import path

from accounts.models import Brand, User
from accounts.people import member_named
from billing import (
    desk,  # noqa: F401 - the pages of the books register themselves
    shelf,
)
from billing.lifecycle import current
from billing.models import Plan, PlanLimit, StripeEvent, Subscription
from billing.plan_forms import METERS, CopyForm, LimitFormSet, PlanForm
from billing.plans import assign_plan
from billing.tasks import push_plan
from lib.admin import AppendOnlyAdmin, ReadOnly
from lib.db import on_commit
from lib.errors import DomainError

IN_FORCE = Subscription.objects.filter(plan=OuterRef("pk"), ended_at=None).values("plan").annotate(count=Count("pk"))


class PlanLimitInline(admin.TabularInline):
    model = PlanLimit
    formset = LimitFormSet
    extra = 0
    fields = ["meter", "window", "limit"]

    def formfield_for_choice_field(self, db_field: Any, request: HttpRequest, **kwargs: Any) -> Any:
        if db_field.name == "meter":
            kwargs["choices"] = METERS
        return super().formfield_for_choice_field(db_field, request, **kwargs)


@admin.register(Plan)
class PlanAdmin(admin.ModelAdmin):
    """A change reaches those who are on the plan at once: their open windows keep what was used."""

    form = PlanForm
    inlines = [PlanLimitInline]
    list_display = [
        "name",
        "code",
        "brand",
        "subject",
        "price",
        "limits_in_words",
        "subscribers",
        "is_active",
        "position",
    ]
    list_filter = ["subject", "is_active", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["name", "code", "brand__name"]
    autocomplete_fields = ["brand"]
    fieldsets = [
        (None, {"fields": ["brand", "code", "name", "description", "subject", "is_active", "is_offered", "position"]}),
        ("Price", {"fields": ["price_microusd", "annual_price_microusd", "currency", "period", "trial_days"]}),
        ("Counting", {"fields": ["unit", "concurrent_turns", "rate_limit_per_minute"]}),
        (
            "Beyond the plan",
            {"fields": ["overage_allowed", "overage_price_microusd", "overage_cap_microusd", "overage_by_default"]},
        ),
        ("Also", {"fields": ["byok_allowed", "retention_days"]}),
    ]

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        return [*self.fieldsets, ("Before it is done", {"fields": ["confirmed"]})] if obj else self.fieldsets

    def get_queryset(self, request: HttpRequest) -> QuerySet[Plan]:
        plans = super().get_queryset(request).prefetch_related("limits")
        return plans.annotate(subscriber_count=Coalesce(Subquery(IN_FORCE.values("count")), 0))

    @admin.display(ordering="price_microusd")
    def price(self, plan: Plan) -> str:
        return plan.price_in_words

    @admin.display(description="limits")
    def limits_in_words(self, plan: Plan) -> str:
        return ", ".join(sorted(str(limit) for limit in plan.limits.all()))

    @admin.display(ordering="subscriber_count")
    def subscribers(self, plan: Any) -> int:
        count: int = plan.subscriber_count
        return count

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand", "code", "subject"] if obj else []  # others name the plan by its code

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # switched off instead: subscriptions and the books name it

    def save_model(self, request: HttpRequest, plan: Plan, form: Any, change: bool) -> None:
        super().save_model(request, plan, form, change)
        shelf.tell(plan.brand)

    def save_formset(self, request: HttpRequest, form: Any, formset: Any, change: bool) -> None:
        for limit in formset.save(commit=False):
            limit.brand_id = form.instance.brand_id
            limit.save()
        for limit in formset.deleted_objects:
            limit.delete()
        formset.save_m2m()

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        if change:
            on_commit(partial(push_plan.delay, str(form.instance.pk)))

    def get_urls(self) -> list[Any]:
        copy = self.admin_site.admin_view(self.copy_view)
        return [path("<uuid:plan_id>/copy/", copy, name="billing_plan_copy"), *super().get_urls()]

    def copy_view(self, request: HttpRequest, plan_id: Any) -> HttpResponse:
        if not self.has_add_permission(request):
            raise PermissionDenied
        plan = get_object_or_404(Plan.objects.select_related("brand"), pk=plan_id)
        title = f"Copy {plan.name}"
        form = CopyForm(request.POST or None, instance=plan, initial={"code": "", "name": f"{plan.name} (copy)"})
        if request.method == "POST" and form.is_valid():
            copy = form.save()
            self.log_addition(request, copy, f"Copied from {plan_id}")
            self.message_user(request, f"{copy.name} is there. Change what is to be different.", messages.SUCCESS)
            return redirect("admin:billing_plan_change", copy.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": title,
            "opts": self.opts,
            "original": title.removeprefix("Copy "),
            "plan_id": plan_id,
            "form": form,
        }
        return TemplateResponse(request, "admin/billing/plan/copy.html", context, status=422 if form.errors else 200)


class AssignForm(forms.ModelForm):
    member = forms.EmailField(
        required=False,
        help_text="Address of a member of the plan's brand. Empty: the plan is for the brand as a whole.",
    )

    class Meta:
        model = Subscription
        fields = ["plan"]

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        plan, email = given.get("plan"), given.get("member")
        if plan and plan.subject == Plan.Subject.MEMBER and not email:
            self.add_error("member", f"{plan.name} is a plan for a member: give the address.")
        elif plan and plan.subject == Plan.Subject.BRAND and email:
            self.add_error("member", f"{plan.name} is a plan for the brand as a whole: leave this empty.")
        elif plan and email:
            try:
                given["user"] = member_named(plan.brand, email)
            except DomainError as refused:
                self.add_error("member", refused.detail)
            else:
                here = current(plan.brand, given["user"].pk)
                if here and here.provider_subscription_id:
                    self.add_error(
                        "member",
                        f"{email} pays for {here.plan.name} already: another plan would be charged for nothing. Cancel that "
                        "subscription first.",
                    )
        if plan and not plan.is_active:
            self.add_error("plan", f"{plan.name} is switched off: nobody can be put on it.")
        return given


@admin.register(Subscription)
class SubscriptionAdmin(AppendOnlyAdmin):
    """To change somebody's plan, add a subscription: it ends the one in force, and what was used stays used."""

    list_display = ["whose", "brand", "plan", "status", "started_at", "ended_at"]
    list_filter = ["status", ("ended_at", admin.EmptyFieldListFilter), ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "plan"]
    list_per_page = 50
    show_full_result_count = False
    search_fields = ["owner_id", "plan__code", "plan__name"]
    search_help_text = "A member's e-mail address, an owner's id, or a plan."
    ordering = ["-started_at"]
    autocomplete_fields = ["plan"]
    readonly_fields = ["whose"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Subscription]:
        email = User.objects.filter(pk=OuterRef("owner_id")).values("email")
        brand = Brand.objects.filter(pk=OuterRef("owner_id")).values("name")
        return super().get_queryset(request).annotate(who=Coalesce(Subquery(email), Subquery(brand)))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Subscription], search_term: str
    ) -> tuple[QuerySet[Subscription], bool]:
        if "@" in search_term:
            people = User.objects.filter(email__istartswith=search_term.strip()).values("pk")
            return queryset.filter(owner_id__in=people), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="who")
    def whose(self, subscription: Any) -> str:
        who: str = subscription.who
        return who

    def get_form(self, request: HttpRequest, obj: Any = None, change: bool = False, **kwargs: Any) -> Any:
        return super().get_form(request, obj, change, **(kwargs if obj else {**kwargs, "form": AssignForm}))

    def get_fields(self, request: HttpRequest, obj: Any = None) -> Any:
        return ["whose", "brand", "plan", "status", "started_at", "ended_at"] if obj else ["plan", "member"]

    def save_model(self, request: HttpRequest, subscription: Subscription, form: Any, change: bool) -> None:
        user = form.cleaned_data.get("user")
        assigned = assign_plan(
            subscription.plan.brand, subscription.plan, user_id=user.pk if user else None, actor_id=request.user.pk
        )
        subscription.__dict__.update(assigned.__dict__)


@admin.register(StripeEvent)
class StripeEventAdmin(ReadOnly, admin.ModelAdmin):
    """What Stripe told, and what came of it. What is parked says why; backfill_stripe_events --parked tries it again."""

    list_display = ["received_at", "type", "id", "outcome", "attempts", "error", "applied_at"]
    list_display_links = ["id"]
    list_filter = ["outcome", "received_at"]
    list_per_page = 50
    search_fields = ["=id", "=type", "error"]
    ordering = ["-received_at"]
    show_full_result_count = False
