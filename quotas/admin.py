"""Staff's pages of the meter. Everything is read; what staff may do is a deed with a reason (quotas.desk), and a line."""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any
from uuid import UUID

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import User
from accounts.owned import OwnedAdmin
from events.models import Alarm
from lib import clock
from lib.errors import Invalid
from lib.money import dollars
from quotas import desk, proof
from quotas.decision import can_user_query
from quotas.models import Account, Bucket, Entry, Hold, Meter, Pack

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


class DeedsAdmin(OwnedAdmin):
    """Each row's page links to what may be done there, by those who may; nobody else finds the page of the deed."""

    deeds: Sequence[type[desk.Deed]] = ()

    def get_urls(self) -> list[Any]:
        model = self.opts.model_name
        return [
            *(
                path(
                    f"<uuid:row_id>/{deed.slug}/",
                    self.admin_site.admin_view(partial(self.deed_view, deed=deed)),
                    name=f"quotas_{model}_{deed.slug.replace('-', '_')}",
                )
                for deed in self.deeds
            ),
            *super().get_urls(),
        ]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        links = [
            (deed.label, reverse(f"admin:quotas_{self.opts.model_name}_{deed.slug.replace('-', '_')}", args=[row.pk]))
            for deed in self.deeds
            if row and request.user.has_perm(deed.permission) and deed.fits(row)
        ]
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "deeds": links})

    def deed_view(self, request: HttpRequest, row_id: UUID, deed: type[desk.Deed]) -> HttpResponse:
        if not request.user.has_perm(deed.permission):
            raise PermissionDenied
        row = self.get_queryset(request).select_related("brand").filter(pk=row_id).first()
        if row is None or not deed.fits(row):
            raise Http404
        form = deed(row, request.POST or None)
        if request.method == "POST" and form.is_valid():
            try:
                said = form.do(request.user.pk)
            except Invalid as refused:
                form.add_error(None, refused.detail)
            else:
                self.log_change(request, row, f"{deed.label}: {said} {form.cleaned_data['reason']}")
                self.message_user(request, said, messages.SUCCESS)
                return redirect(f"admin:quotas_{self.opts.model_name}_change", row.pk)
        context = {
            **self.admin_site.each_context(request),
            "title": f"{deed.label}: {desk.whose(row)}",
            "opts": self.opts,
            "original": row,
            "deed": deed,
            "form": form,
        }
        return TemplateResponse(request, "admin/quotas/deed.html", context, status=422 if form.errors else 200)


@admin.register(Account)
class AccountAdmin(DeedsAdmin):
    """An account as its member sees it, with the ledger's lines below."""

    deeds = [desk.TopUp, desk.GrantPack, desk.Override, desk.ClearArrears]
    list_display = ["__str__", "whose", "kind", "brand", "plan_name", "created_at"]
    list_filter = ["kind", "plan_code", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "plan_code", "plan_name"]
    search_help_text = "An owner's id, a member's e-mail address, or a plan."
    fields = [
        "brand", "kind", "whose", "owner_id", "plan_name", "plan_code", "decision", "overage_on", "overage_cap", "owed",
        "features", "entitled", "packs", "buckets", "open_holds", "last_entries",
    ]  # fmt: skip
    readonly_fields = [
        "whose",
        "decision",
        "overage_cap",
        "owed",
        "entitled",
        "packs",
        "buckets",
        "open_holds",
        "last_entries",
    ]

    @admin.display(description="would be told now")
    def decision(self, account: Account) -> str:
        """In the words the member reads."""
        if account.kind != Account.Kind.USER:
            return "-"
        unit = account.features.get("unit", Meter.QUERIES.value)
        told = can_user_query(account.brand, asker=(account.kind, account.owner_id), amounts={unit: 1})
        return f"{'May ask' if told.can_query else 'May not ask'}: {told.detail}"

    @admin.display(description="cap of extra questions")
    def overage_cap(self, account: Account) -> str:
        of_plan = account.features.get("overage_cap_microusd") or 0
        own = account.overage_cap_microusd
        return f"{dollars(of_plan if own is None else own)}{'' if own is None else ', the own choice'}"

    @admin.display(description="owes")
    def owed(self, account: Account) -> str:
        return dollars(account.arrears_microusd)

    def packs(self, account: Account) -> SafeString | str:
        rows = Pack.objects.filter(bucket__account=account).select_related("bucket").order_by("-id")[:MOST_LINES]
        lines = (
            (
                format_html('<a href="{}">{}</a>', reverse("admin:quotas_pack_change", args=[row.pk]), row.name),
                f"{row.bucket.left or 0:,} of {row.amount:,} {row.bucket.meter}",
                f"{row.bucket.closes_at:%Y-%m-%d %H:%M}" if row.bucket.closes_at else "never",
                dollars(row.price_microusd),
                row.source,
            )
            for row in rows
        )
        return table(["Pack", "Left", "Ends (UTC)", "Price", "From"], lines, nothing="None.")

    @admin.display(description="may use")
    def entitled(self, account: Account) -> SafeString | str:
        rows = account.entitlements.filter(Q(ends_at=None) | Q(overrides_until__gt=clock.now())).order_by("meter", "pk")
        lines = (
            (
                row.meter,
                amount(row.limit),
                row.window,
                row.anchor_at or "",
                f"until {row.overrides_until:%Y-%m-%d %H:%M}: {row.reason}" if row.overrides_until else "",
            )
            for row in rows
        )
        headers = ["Meter", "Limit", "Per", "Counted from", "Instead of the plan's"]
        return table(headers, lines, nothing="Nothing: no plan is in force.")

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
        found = Entry.objects.filter(bucket__account=account).select_related("bucket").order_by("-created_at")
        rows = list(found[:MOST_LINES])
        people = User.objects.in_bulk({row.actor_id for row in rows if row.actor_id})
        lines = (
            (
                format_html('<a href="{}">{}</a>', reverse("admin:quotas_entry_change", args=[row.pk]), row.created_at),
                row.bucket.meter,
                row.bucket.pocket,
                row.get_kind_display(),
                f"{row.limit_delta:+,}" if row.limit_delta else "",
                f"{row.used_delta:+,}" if row.used_delta else "",
                dollars(row.cost_microusd) if row.cost_microusd else "",
                row.reason,
                people.get(row.actor_id, "") if row.actor_id else "",
            )
            for row in rows
        )
        headers = ["At", "Meter", "Pocket", "Kind", "Limit", "Used", "Cost", "Reason", "By"]
        return table(headers, lines, nothing="None yet.")


@admin.register(Pack)
class PackAdmin(DeedsAdmin):
    deeds = [desk.TakeBack]
    list_display = ["created_at", "whose", "brand", "name", "amount", "left", "taken_back", "price", "source"]
    list_display_links = ["name"]
    list_filter = [("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "bucket"]
    search_fields = ["owner_id", "source"]
    search_help_text = "An owner's id, what it came from, or a member's e-mail address."
    ordering = ["-id"]
    exclude = ["price_microusd"]
    readonly_fields = ["whose", "left", "price"]

    def left(self, pack: Pack) -> int | None:
        return pack.bucket.left

    def price(self, pack: Pack) -> str:
        return dollars(pack.price_microusd)


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
            "nightly": Alarm.objects.filter(pk="balance_drift").first(),
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
class EntryAdmin(DeedsAdmin):
    deeds = [desk.Reverse]
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
