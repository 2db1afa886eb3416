"""Staff's pages of the meter. Everything is read; the one thing staff may do is add to what a brand has."""

from collections.abc import Iterable, Sequence
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import Brand, User
from lib.admin import ReadOnly
from lib.errors import Invalid
from lib.money import dollars
from quotas import ledger, proof
from quotas.models import Account, Bucket, Entry, Hold

MOST_BUCKETS, MOST_LINES = 30, 50


def table(headers: Sequence[str], rows: Iterable[Sequence[Any]], *, nothing: str) -> SafeString | str:
    body = format_html_join(
        "", "<tr>{}</tr>", ((format_html_join("", "<td>{}</td>", ((cell,) for cell in row)),) for row in rows)
    )
    if not body:
        return nothing
    head = format_html_join("", "<th scope='col'>{}</th>", ((header,) for header in headers))
    return format_html("<table><thead><tr>{}</tr></thead><tbody>{}</tbody></table>", head, body)


def amount(number: int | None) -> str:
    return "no limit" if number is None else f"{number:,}"


def named(queryset: QuerySet[Any]) -> QuerySet[Any]:
    """With `who`: the address of the member, or the name of the brand, so that no list asks once per row."""
    email = User.objects.filter(pk=OuterRef("owner_id")).values("email")
    brand = Brand.objects.filter(pk=OuterRef("owner_id")).values("name")
    return queryset.annotate(who=Coalesce(Subquery(email), Subquery(brand)))


class OwnedAdmin(ReadOnly, admin.ModelAdmin):
    """Found by brand, by the id of the owner, or by a member's address."""

    list_per_page = 50
    show_full_result_count = False
    search_fields = ["owner_id"]
    search_help_text = "An owner's id, or a member's e-mail address."

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return named(super().get_queryset(request))

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        if "@" in search_term:
            people = User.objects.filter(email__istartswith=search_term.strip()).values("pk")
            return queryset.filter(owner_id__in=people), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="who", empty_value="a visitor or an agent")
    def whose(self, row: Any) -> str | None:
        who: str | None = row.who
        return who


class TopUpForm(forms.Form):
    meter = forms.ChoiceField()
    amount = forms.IntegerField(
        min_value=1, max_value=10**15, help_text="Units of the meter, added to the open window."
    )
    reason = forms.CharField(max_length=200, help_text="It stands in the ledger for good, with your name.")

    def __init__(self, account: Account, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        limited = account.entitlements.filter(ends_at=None, limit__isnull=False).order_by("meter")
        self.fields["meter"].choices = [(row.meter, f"{row.meter}: {row}") for row in limited]  # type: ignore[attr-defined]


@admin.register(Account)
class AccountAdmin(OwnedAdmin):
    list_display = ["__str__", "whose", "kind", "brand", "plan_name", "created_at"]
    list_filter = ["kind", "plan_code", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "plan_code", "plan_name"]
    search_help_text = "An owner's id, a member's e-mail address, or a plan."
    fields = [
        "brand", "kind", "whose", "owner_id", "plan_name", "plan_code", "features",
        "entitled", "buckets", "open_holds", "last_entries",
    ]  # fmt: skip
    readonly_fields = ["whose", "entitled", "buckets", "open_holds", "last_entries"]

    @admin.display(description="may use")
    def entitled(self, account: Account) -> SafeString | str:
        rows = account.entitlements.filter(ends_at=None).order_by("meter")
        lines = ((row.meter, amount(row.limit), row.window, row.anchor_at or "") for row in rows)
        return table(["Meter", "Limit", "Per", "Counted from"], lines, nothing="Nothing: no plan is in force.")

    def buckets(self, account: Account) -> SafeString | str:
        rows = account.buckets.order_by("-opens_at", "meter")[:MOST_BUCKETS]
        lines = (
            (
                format_html('<a href="{}">{}</a>', reverse("admin:quotas_bucket_change", args=[row.pk]), row.meter),
                row.pocket,
                f"{row.opens_at:%Y-%m-%d %H:%M}",
                f"{row.closes_at:%Y-%m-%d %H:%M}" if row.closes_at else "never",
                amount(row.limit),
                amount(row.used),
                amount(row.held),
                amount(row.left),
            )
            for row in rows
        )
        headers = ["Meter", "Pocket", "From (UTC)", "To (UTC)", "Limit", "Used", "Held", "Left"]
        return table(headers, lines, nothing="None yet: the first question opens one.")

    def open_holds(self, account: Account) -> SafeString | str:
        rows = Hold.objects.filter(bucket__account=account).order_by("-created_at")[:MOST_LINES]
        lines = ((row.created_at, row.meter, amount(row.amount), row.reservation, row.expires_at) for row in rows)
        return table(["Since", "Meter", "Amount", "Turn", "Void after"], lines, nothing="None.")

    def last_entries(self, account: Account) -> SafeString | str:
        rows = (
            Entry.objects.filter(bucket__account=account).select_related("bucket").order_by("-created_at")[:MOST_LINES]
        )
        lines = (
            (
                row.created_at,
                row.bucket.meter,
                row.get_kind_display(),
                f"{row.limit_delta:+,}" if row.limit_delta else "",
                f"{row.used_delta:+,}" if row.used_delta else "",
                dollars(row.cost_microusd) if row.cost_microusd else "",
                row.reason,
            )
            for row in rows
        )
        headers = ["At", "Meter", "Kind", "Limit", "Used", "Cost", "Reason"]
        return table(headers, lines, nothing="None yet.")

    def get_urls(self) -> list[Any]:
        top_up = self.admin_site.admin_view(self.top_up_view)
        return [path("<uuid:account_id>/top-up/", top_up, name="quotas_account_top_up"), *super().get_urls()]

    def top_up_view(self, request: HttpRequest, account_id: Any) -> HttpResponse:
        if not request.user.has_perm("quotas.change_account"):
            raise PermissionDenied
        account = Account.objects.select_related("brand").filter(pk=account_id, kind=Account.Kind.BRAND).first()
        if account is None:
            raise Http404
        form = TopUpForm(account, request.POST or None)
        if request.method == "POST" and form.is_valid():
            wanted = form.cleaned_data
            try:
                bucket = ledger.top_up(account.brand, **wanted, actor_id=request.user.pk)
            except Invalid as refused:
                form.add_error(None, refused.detail)
            else:
                self.log_change(
                    request, account, f"Topped up {wanted['meter']} by {wanted['amount']:,}: {wanted['reason']}"
                )
                said = f"{account.brand} now has {amount(bucket.left)} {bucket.meter} left."
                self.message_user(request, said, messages.SUCCESS)
                return redirect("admin:quotas_account_change", account.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": f"Top up {account.brand}",
            "opts": self.opts,
            "original": account,
            "form": form,
        }
        return TemplateResponse(
            request, "admin/quotas/account/top_up.html", context, status=422 if form.errors else 200
        )


@admin.register(Bucket)
class BucketAdmin(OwnedAdmin):
    list_display = [
        "whose",
        "brand",
        "meter",
        "pocket",
        "window",
        "opens_at",
        "closes_at",
        "limit",
        "used",
        "held",
        "left",
    ]
    list_filter = ["meter", "pocket", "window", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    ordering = ["-opens_at", "-id"]
    fields = [
        "brand",
        "account",
        "whose",
        "meter",
        "pocket",
        "window",
        "opens_at",
        "closes_at",
        "limit",
        "used",
        "held",
        "left",
    ]
    readonly_fields = ["whose", "left"]

    @admin.display(empty_value="no limit")
    def left(self, bucket: Bucket) -> int | None:
        return bucket.left

    def get_urls(self) -> list[Any]:
        balances = self.admin_site.admin_view(self.balances_view)
        return [path("balances/", balances, name="quotas_balances"), *super().get_urls()]

    def balances_view(self, request: HttpRequest) -> HttpResponse:
        if not self.has_view_permission(request):
            raise PermissionDenied
        context = {
            **self.admin_site.each_context(request),
            "title": "Balances",
            "opts": self.opts,
            "drifts": proof.drifts(),
            "proved": proof.counts(),
        }
        return TemplateResponse(request, "admin/quotas/bucket/balances.html", context)


@admin.register(Hold)
class HoldAdmin(OwnedAdmin):
    list_display = ["created_at", "whose", "brand", "meter", "amount", "reservation", "expires_at"]
    list_filter = ["meter", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "reservation"]
    search_help_text = "An owner's id, a turn's id, or a member's e-mail address."
    ordering = ["-created_at"]


@admin.register(Entry)
class EntryAdmin(OwnedAdmin):
    list_display = ["created_at", "whose", "brand", "meter", "kind", "limit_delta", "used_delta", "cost", "reason"]
    list_filter = ["kind", "bucket__meter", "created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "bucket"]
    search_fields = ["owner_id", "reservation"]
    search_help_text = "An owner's id, a turn's id, or a member's e-mail address."
    ordering = ["-created_at"]
    exclude = ["cost_microusd"]
    readonly_fields = ["cost"]

    @admin.display(ordering="bucket__meter")
    def meter(self, entry: Entry) -> str:
        return entry.bucket.meter

    @admin.display(ordering="cost_microusd")
    def cost(self, entry: Entry) -> str:
        return dollars(entry.cost_microusd) if entry.cost_microusd else "-"
