"""What happened, for staff to read: the stream for programs, the audit log, and what is wrong now."""

from typing import cast

from django.contrib import admin, messages
from django.db.models import QuerySet
from django.http import HttpRequest

from accounts.models import User
from accounts.owned import OwnedAdmin
from events import dead_letters, mail
from events.delivery import blocked
from events.models import Activity, Alarm, BlockedAddress, DeadLetter, EmailLog, Event, Notification
from lib.admin import ReadOnly


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
    list_display = ["created_at", "brand", "actor", "action", "resource_type", "description", "ip_address"]
    list_display_links = ["action"]
    list_filter = ["created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "actor"]
    list_per_page = 50
    search_fields = ["=action", "=resource_id", "description"]
    ordering = ["-id"]
    show_full_result_count = False


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
