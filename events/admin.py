"""What happened, for staff to read: the stream for programs, the audit log, and what is wrong now."""

import re
from datetime import datetime
from typing import cast

from django.contrib import admin, messages
from django.db.models import Q, QuerySet
from django.http import HttpRequest
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import User
from accounts.owned import OwnedAdmin
from events import dead_letters, mail
from events.activity import lines
from events.delivery import blocked
from events.models import (
    Activity,
    ActivityLink,
    ActivityOrigin,
    Alarm,
    BlockedAddress,
    DeadLetter,
    EmailLog,
    Event,
    Notification,
    WebhookDelivery,
    WebhookEndpoint,
)
from events.webhooks import lagging
from lib.admin import ReadOnly

SHAPE_OF_ID = re.compile(r"[0-9a-fA-F]{8}-?(?:[0-9a-fA-F]{4}-?){3}[0-9a-fA-F]{12}")


@admin.register(Event)
class EventAdmin(ReadOnly, admin.ModelAdmin):
    list_display = ["created_at", "brand", "type", "subject_kind", "subject_id"]
    list_display_links = ["type"]
    list_filter = ["created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["=type", "=subject_id"]
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(Activity)
class ActivityAdmin(ReadOnly, admin.ModelAdmin):
    """The one audit log, of all brands and of the house. `manage.py check_activity` proves it."""

    list_display = ["created_at", "brand", "actor_kind", "actor", "action", "resource_type", "description"]
    list_display_links = ["action"]
    list_filter = [
        "created_at",
        "actor_kind",
        ("brand", admin.RelatedOnlyFieldListFilter),
        ("brand", admin.EmptyFieldListFilter),
    ]
    list_select_related = ["brand", "actor"]
    list_per_page = 50
    search_fields = ["=action", "=resource_id", "=request_id", "description"]
    search_help_text = "An action, the id of a row, a person or a request, an e-mail address, or words."
    ordering = ["-id"]
    show_full_result_count = False
    fields = [
        "created_at", "brand", "actor_kind", "actor", "key_id", "action", "resource_type", "resource_id", "description",
        "told", "address", "user_agent", "request_id", "link",
    ]  # fmt: skip

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Activity], search_term: str
    ) -> tuple[QuerySet[Activity], bool]:
        if "@" in search_term:
            people = User.objects.filter(email__istartswith=search_term.strip()).values("pk")
            return queryset.filter(Q(actor__in=people) | Q(resource_id__in=people)), False
        if SHAPE_OF_ID.fullmatch(search_term.strip()):
            row_id = search_term.strip()
            return queryset.filter(Q(actor=row_id) | Q(resource_id=row_id) | Q(pk=row_id)), False
        return super().get_search_results(request, queryset, search_term)

    @admin.display(description="changes")
    def told(self, line: Activity) -> SafeString | str:
        rows = lines.told(line)
        head = format_html("<tr><th>{}</th><th>{}</th><th>{}</th></tr>", "what", "before", "after")
        body = format_html_join(
            "", "<tr><td>{}</td><td>{}</td><td>{}</td></tr>", ((r.name, r.before, r.after) for r in rows)
        )
        return format_html("<table>{}{}</table>", head, body) if rows else "nothing was told"

    @admin.display(description="IP address", empty_value="unknown, or its person was erased")
    def address(self, line: Activity) -> str | None:
        return self._origin(line).ip_address

    @admin.display(empty_value="unknown, or its person was erased")
    def user_agent(self, line: Activity) -> str | None:
        return self._origin(line).user_agent or None

    @staticmethod
    def _origin(line: Activity) -> ActivityOrigin:
        return ActivityOrigin.objects.filter(pk=line.pk).first() or ActivityOrigin()

    @admin.display(description="place in its chain")
    def link(self, line: Activity) -> str:
        found = ActivityLink.objects.filter(pk=line.pk).first()
        return f"number {found.number:,}, {bytes(found.digest).hex()}" if found else "none: run check_activity"


@admin.register(EmailLog)
class EmailLogAdmin(ReadOnly, admin.ModelAdmin):
    """Every mail and how it fared. What it said is not kept where it held a link."""

    list_display = [
        "created_at",
        "brand",
        "email_type",
        "to_email",
        "subject",
        "status",
        "attempts",
        "error",
        "sent_at",
    ]
    list_display_links = ["email_type"]
    list_filter = ["status", "created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["=to_email", "=email_type", "=provider_message_id"]
    search_help_text = "An address, a type, or a Message-ID."
    ordering = ["-id"]
    show_full_result_count = False
    actions = ["send_again"]

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("events.change_emaillog")

    @admin.action(description="Send again what was given up", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[EmailLog]) -> None:
        sent = [row for row in queryset.select_related("brand") if mail.send_again(row)]
        for row in sent:
            self.log_change(request, row, "Sent again")
        self.message_user(request, f"{len(sent)} mails are on their way again.", messages.SUCCESS)


@admin.register(BlockedAddress)
class BlockedAddressAdmin(ReadOnly, admin.ModelAdmin):
    """Where no mail is sent any more, but what is about signing in. Lifted, an address is written to again."""

    list_display = ["address", "reason", "detail", "blocked_at", "lifted_at", "lifted_by"]
    list_filter = ["reason", ("lifted_at", admin.EmptyFieldListFilter)]
    list_select_related = ["lifted_by"]
    list_per_page = 50
    search_fields = ["=address"]
    ordering = ["-blocked_at"]
    show_full_result_count = False
    actions = ["lift"]

    def has_lift_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("events.change_blockedaddress")

    @admin.action(description="Write to these addresses again", permissions=["lift"])
    def lift(self, request: HttpRequest, queryset: QuerySet[BlockedAddress]) -> None:
        lifted = [row for row in queryset if blocked.lift(row.address, by=cast(User, request.user).pk)]
        for row in lifted:
            self.log_change(request, row, "Lifted")
        self.message_user(request, f"{len(lifted)} addresses are written to again.", messages.SUCCESS)


@admin.register(WebhookEndpoint)
class WebhookEndpointAdmin(ReadOnly, admin.ModelAdmin):
    """Whose webhooks do how. Secrets and header values are shown to nobody."""

    list_display = [
        *("created_at", "brand", "name", "url", "is_active", "off_because", "failing_since", "waits_since"),
        *("total_deliveries", "successful_deliveries", "failed_deliveries"),
    ]
    list_display_links = ["name"]
    list_filter = ["is_active", "off_because", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["name", "url"]
    exclude = ["secret", "old_secret", "older_secrets", "custom_headers", "key_id"]
    ordering = ["-id"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[WebhookEndpoint]:
        return lagging.with_due(super().get_queryset(request))

    @admin.display(description="late since", empty_value="", ordering="due")
    def waits_since(self, hook: WebhookEndpoint) -> datetime | None:
        """When what waits the longest should have been tried: `webhooks_lag` in docs/monitoring.md."""
        return hook.due if lagging.is_late(hook) else None  # type: ignore[attr-defined]


@admin.register(WebhookDelivery)
class WebhookDeliveryAdmin(ReadOnly, admin.ModelAdmin):
    """What was sent where, and how that went."""

    list_display = [
        *("created_at", "brand", "webhook", "event_type", "status", "http_status", "attempt_count", "next_retry_at"),
    ]
    list_display_links = ["event_type"]
    list_filter = ["status", "created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "webhook"]
    list_per_page = 50
    search_fields = ["=message_id", "=event_type"]
    search_help_text = "A webhook-id, or a type of event."
    ordering = ["-id"]
    show_full_result_count = False


@admin.register(Notification)
class NotificationAdmin(OwnedAdmin):
    """What was told to whom, and whether it was read."""

    list_display = ["created_at", "whose", "brand", "type", "priority", "title", "read_at"]
    list_display_links = ["title"]
    list_filter = ["type", "priority", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    search_fields = ["owner_id", "title"]
    ordering = ["-id"]


@admin.register(Alarm)
class AlarmAdmin(ReadOnly, admin.ModelAdmin):
    """Looked at once a minute; what each means stands in docs/monitoring.md."""

    list_display = ["name", "since", "value", "detail", "checked_at", "told_at"]
    ordering = ["name"]


@admin.register(DeadLetter)
class DeadLetterAdmin(ReadOnly, admin.ModelAdmin):
    """Tasks that failed for good. Sent again, one is done as if it had been queued now."""

    list_display = ["created_at", "task", "reason", "error", "request_id", "sent_again_at"]
    list_display_links = ["task"]
    list_filter = ["reason", "task", ("sent_again_at", admin.EmptyFieldListFilter)]
    search_fields = ["=request_id", "=task"]
    ordering = ["-created_at"]
    show_full_result_count = False
    actions = ["send_again"]

    def has_send_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("events.change_deadletter")

    @admin.action(description="Send again", permissions=["send"])
    def send_again(self, request: HttpRequest, queryset: QuerySet[DeadLetter]) -> None:
        sent = [letter for letter in queryset.filter(sent_again_at=None) if dead_letters.send_again(letter)]
        for letter in sent:
            self.log_change(request, letter, "Sent again")
        self.message_user(request, f"{len(sent)} tasks were sent again.", messages.SUCCESS)
