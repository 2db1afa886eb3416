"""Staff's pages of the books: what was paid, who is a customer, what packs are sold. Money goes back by the till alone."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import AdminSite
from django.core.exceptions import PermissionDenied
from django.db.models import Sum
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.template.response import TemplateResponse
from django.urls import path

from accounts.owned import OwnedAdmin
from billing import shelf, till
from billing.asking import as_it_stands_there
from billing.models import BillingTransaction, CreditPackOffer, Customer, OverageReport, SubscriptionHistory
from billing.plan_forms import OfferForm
from lib.db import SERVICE, scope
from lib.errors import DomainError
from lib.money import MICRO, dollars

SPENT = [BillingTransaction.Type.SUBSCRIPTION, BillingTransaction.Type.OVERAGE, BillingTransaction.Type.ONE_TIME]
UNDONE = [BillingTransaction.Status.FAILED, BillingTransaction.Status.VOID]


class RefundForm(forms.Form):
    amount = forms.DecimalField(min_value=0, max_digits=12, decimal_places=2, help_text="In the payment's currency.")
    reason = forms.CharField(max_length=200, help_text="It stands in the books for good, with your name.")


@admin.register(BillingTransaction)
class BillingTransactionAdmin(OwnedAdmin):
    """A correction is a line of its own; a refund is asked of the payment service, whose news writes that line."""

    list_display = ["happened_at", "whose", "brand", "type", "status", "description", "total", "invoice_number"]
    list_display_links = ["description"]
    list_filter = ["type", "status", "happened_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "=invoice_number", "=provider_transaction_id", "=payment_id"]
    search_help_text = "An owner's id, a member's e-mail address, an invoice's number, or the payment service's id."
    ordering = ["-happened_at"]
    exclude = ["amount_microusd", "tax_amount_microusd", "total_amount_microusd"]
    readonly_fields = ["whose", "total", "tax"]
    change_form_template = "admin/billing/billingtransaction/change_form.html"

    @admin.display(ordering="total_amount_microusd")
    def total(self, row: BillingTransaction) -> str:
        return f"{dollars(row.total_amount_microusd)} {row.currency}"

    def tax(self, row: BillingTransaction) -> str:
        return dollars(row.tax_amount_microusd)

    def get_urls(self) -> list[Any]:
        # Without the scope that other pages of staff have around them: the payment service is asked, and no transaction
        # waits for a network.
        refund = AdminSite.admin_view(self.admin_site, self.refund_view)
        return [path("<uuid:row_id>/refund/", refund, name="billing_billingtransaction_refund"), *super().get_urls()]

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        row = self.get_object(request, object_id)
        may = row is not None and request.user.has_perm("billing.change_billingtransaction") and left_of(row) > 0
        return super().change_view(request, object_id, form_url, {**(extra_context or {}), "may_refund": may})

    def refund_view(self, request: HttpRequest, row_id: UUID) -> HttpResponse:
        with scope(SERVICE):
            if not request.user.has_perm("billing.change_billingtransaction"):
                raise PermissionDenied
            row = self.get_queryset(request).select_related("brand").filter(pk=row_id).first()
            left = left_of(row) if row else 0
        if row is None or left <= 0:
            raise Http404
        form = RefundForm(request.POST or None, initial={"amount": f"{left / MICRO:.2f}"})
        if request.method == "POST" and form.is_valid():
            amount, reason = int(form.cleaned_data["amount"] * MICRO), form.cleaned_data["reason"]
            try:
                with as_it_stands_there():
                    till.refund(row, amount_microusd=amount, reason=reason, actor_id=request.user.pk)
            except DomainError as refused:
                form.add_error(None, refused.detail)
            else:
                with scope(SERVICE):
                    self.log_change(request, row, f"Refunded {dollars(amount)}: {reason}")
                self.message_user(
                    request,
                    f"{dollars(amount)} go back. Their line appears when the payment service says so.",
                    messages.SUCCESS,
                )
                return redirect("admin:billing_billingtransaction_change", row.pk)
        with scope(SERVICE):
            context = {
                **self.admin_site.each_context(request),
                "title": f"Refund {row.description}",
                "opts": self.opts,
                "original": row,
                "whose": row.who,
                "left": dollars(left),
                "total": dollars(row.total_amount_microusd),
                "is_pack": row.type == BillingTransaction.Type.ONE_TIME,
                "form": form,
            }
            status = 422 if form.errors else 200
            return TemplateResponse(
                request, "admin/billing/billingtransaction/refund.html", context, status=status
            ).render()


def left_of(row: BillingTransaction) -> int:
    """Micro-dollars of a payment that did not go back yet, as far as we were told. In the service scope."""
    if row.type not in SPENT or not row.payment_id or row.status == BillingTransaction.Status.OPEN:
        return 0
    refunds = BillingTransaction.objects.filter(
        brand=row.brand_id, payment_id=row.payment_id, type=BillingTransaction.Type.REFUND
    ).exclude(status__in=UNDONE)
    back: int = refunds.aggregate(sum=Sum("total_amount_microusd"))["sum"] or 0
    return row.total_amount_microusd + back


@admin.register(Customer)
class CustomerAdmin(OwnedAdmin):
    list_display = ["whose", "brand", "provider", "stripe_customer_id", "is_billable", "created_at"]
    list_display_links = ["stripe_customer_id"]
    list_filter = ["provider", "is_billable", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "=stripe_customer_id"]
    ordering = ["-id"]


@admin.register(SubscriptionHistory)
class SubscriptionHistoryAdmin(OwnedAdmin):
    """Each turn of a subscription, with what it cost then and why it ended."""

    list_display = ["effective_at", "whose", "brand", "code", "plan", "plan_in_force", "status", "cancellation_reason"]
    list_display_links = ["code"]
    list_filter = ["code", "status", "effective_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "plan"]
    ordering = ["-effective_at", "-id"]


@admin.register(OverageReport)
class OverageReportAdmin(OwnedAdmin):
    """What was used beyond the plan and is told to the payment service, one row for each line of the ledger."""

    list_display = ["used_at", "whose", "brand", "amount", "sent_at", "error"]
    list_display_links = ["used_at"]
    list_filter = [("sent_at", admin.EmptyFieldListFilter), "used_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "=entry_id"]
    ordering = ["-used_at"]
    exclude = ["amount_microusd"]
    readonly_fields = ["whose", "amount"]

    def amount(self, row: OverageReport) -> str:
        return dollars(row.amount_microusd)


@admin.register(CreditPackOffer)
class CreditPackOfferAdmin(admin.ModelAdmin):
    """What a brand sells beside its plans. A change counts for what is bought from now on."""

    form = OfferForm
    list_display = ["name", "code", "brand", "amount", "meter", "price", "expires_after_days", "is_active", "position"]
    list_filter = ["is_active", "meter", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["name", "code", "brand__name"]
    autocomplete_fields = ["brand"]

    @admin.display(ordering="price_microusd")
    def price(self, offer: CreditPackOffer) -> str:
        return f"{dollars(offer.price_microusd)} {offer.currency}"

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand", "code"] if obj else []  # what was sold names it by its code

    def save_model(self, request: HttpRequest, offer: CreditPackOffer, form: Any, change: bool) -> None:
        super().save_model(request, offer, form, change)
        shelf.tell(offer.brand)

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # switched off instead
