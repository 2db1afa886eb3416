"""What happened, for staff to read: the stream for programs, and the audit log."""

from django.contrib import admin

from events.models import Activity, Event
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
