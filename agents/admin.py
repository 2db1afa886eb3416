"""Staff's page of agents. Members make them; staff look after them."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from agents.models import Agent


@admin.register(Agent)
class AgentAdmin(admin.ModelAdmin):
    list_display = ["name", "brand", "slug", "ai_model", "is_published", "total_conversations", "updated_at"]
    list_filter = ["is_published", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["name", "slug"]
    readonly_fields = [
        "brand", "owner_id", "total_conversations", "total_messages", "total_leads", "created_at", "updated_at",
    ]  # fmt: skip

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False
