"""Staff read what was said only under a support grant for that brand, and every reading is in the brand's log.

Titles are content too, so even the list is closed without a grant.
"""

from typing import Any
from uuid import UUID

from django.contrib import admin
from django.contrib.admin.utils import unquote
from django.core.exceptions import PermissionDenied
from django.db.models import Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from accounts.models import SupportGrant
from accounts.support import grants_in_force
from conversations.models import BrandTemplate, Conversation, Message, Turn
from events import activity
from lib.admin import ReadOnly


class UnderGrant(ReadOnly, admin.ModelAdmin):
    list_filter = ["created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    ordering = ["-id"]
    show_full_result_count = False

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        match = request.resolver_match
        if match and match.url_name == "autocomplete":
            return False  # titles, read without a line in the log
        return super().has_view_permission(request, obj)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(brand__in=self._grants(request).values("brand"))

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        self._require_permission(request)
        grants = {grant.brand_id: grant for grant in self._grants(request)}
        if not grants:
            return self._refuse(request)
        response = super().changelist_view(request, extra_context)
        if shown := getattr(response, "context_data", {}).get("cl"):
            for brand_id in {row.brand_id for row in shown.result_list}:
                self._record(request, grants[brand_id], None, {"searched": request.GET.get("q", "")})
        return response

    def change_view(
        self, request: HttpRequest, object_id: str, form_url: str = "", extra_context: Any = None
    ) -> HttpResponse:
        return self._open(request, object_id) or super().change_view(request, object_id, form_url, extra_context)

    def history_view(self, request: HttpRequest, object_id: str, extra_context: Any = None) -> HttpResponse:
        return self._open(request, object_id) or super().history_view(request, object_id, extra_context)

    def _open(self, request: HttpRequest, object_id: str) -> HttpResponse | None:
        """Write down that staff read this row; the refusal when they may not, the same whether or not it is there."""
        self._require_permission(request)
        row = self.get_object(request, unquote(object_id))
        if row is None:
            return self._refuse(request)
        self._record(request, self._grants(request).filter(brand=row.brand_id)[0], row.pk, {})
        return None

    def _require_permission(self, request: HttpRequest) -> None:
        if not self.has_view_permission(request):
            raise PermissionDenied

    def _grants(self, request: HttpRequest) -> QuerySet[SupportGrant]:
        assert isinstance(request.user.pk, UUID)
        return grants_in_force(request.user.pk)

    def _refuse(self, request: HttpRequest) -> HttpResponse:
        context = {**self.admin_site.each_context(request), "title": "What was said is closed", "opts": self.opts}
        return TemplateResponse(request, "admin/no_grant.html", context, status=403)

    def _record(self, request: HttpRequest, grant: SupportGrant, row_id: UUID | None, changes: dict[str, Any]) -> None:
        activity.record(
            grant.brand_id,
            "support.read",
            actor_id=grant.staff_id,
            resource=(str(self.opts.model_name), row_id),
            description=grant.reason,
            changes={"grant": str(grant.pk), "until": grant.expires_at.isoformat(), **changes},
        )


@admin.register(Conversation)
class ConversationAdmin(UnderGrant):
    list_display = ["title", "brand", "owner_id", "source", "message_count", "model", "last_message_at"]
    search_fields = ["title", "=id", "=owner_id"]
    fields = [
        "title", "messages", "brand", "owner_id", "owner_kind", "source", "model", "message_count",
        "total_tokens_used", "total_cost_microusd", "created_at", "last_message_at", "archived_at", "deleted_at",
    ]  # fmt: skip

    def messages(self, conversation: Conversation) -> SafeString:
        address = reverse("admin:conversations_message_changelist")
        return format_html('<a href="{}?conversation__id__exact={}">Read them</a>', address, conversation.pk)


@admin.register(Message)
class MessageAdmin(UnderGrant):
    list_display = ["created_at", "brand", "role", "content", "status", "model_name", "tokens_used"]
    search_fields = ["=id", "=conversation__id", "=turn_id"]
    fields = [
        "role", "content", "status", "error_code", "error_detail", "brand", "owner_id", "conversation_id", "turn_id",
        "model_name", "tokens_used", "token_usage", "cost_microusd", "is_charged", "response_time_ms", "created_at",
    ]  # fmt: skip


@admin.register(Turn)
class TurnAdmin(ReadOnly, admin.ModelAdmin):
    """What staff need to follow one request: no content, so no grant. Found by the id that pages and answers show."""

    list_display = ["created_at", "brand", "status", "error_code", "request_id", "heartbeat_at", "ended_at"]
    list_filter = ["status", "created_at", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    show_full_result_count = False
    ordering = ["-id"]
    search_fields = ["=request_id", "=id", "=owner_id", "=message_id"]
    search_help_text = "The id of a request, a turn, a member or an answer."
    fields = [
        "status", "error_code", "request_id", "brand", "owner_id", "conversation_id", "message_id", "provider_id",
        "api_key_id", "prompt_tokens_estimate", "held_tokens", "produced_tokens", "is_charged", "attempts",
        "created_at", "first_piece_at", "heartbeat_at", "stop_asked_at", "ended_at", "joined",
    ]  # fmt: skip
    readonly_fields = ["joined"]

    @admin.display(description="what belongs to it")
    def joined(self, turn: Turn) -> SafeString:
        pages = (("Holds", "quotas_hold"), ("Entries", "quotas_entry"), ("Messages", "conversations_message"))
        links = ((reverse(f"admin:{page}_changelist"), turn.pk, name) for name, page in pages)
        return format_html_join(", ", '<a href="{}?q={}">{}</a>', links)

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Turn], search_term: str
    ) -> tuple[QuerySet[Turn], bool]:
        """By equality, each of which has an index; a word that is no id is a request's."""
        term = search_term.strip()
        if not term:
            return queryset, False
        wanted = Q(request_id=term)
        try:
            known = UUID(term)
        except ValueError:
            return queryset.filter(wanted), False
        return queryset.filter(wanted | Q(pk=known) | Q(message_id=known) | Q(owner_id=known)), False


@admin.register(BrandTemplate)
class BrandTemplateAdmin(admin.ModelAdmin):
    """The starters that a brand gives. Its admins edit them too."""

    list_display = ["title", "brand", "needs", "is_active", "position", "updated_at"]
    list_filter = ["is_active", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["title", "text"]
    autocomplete_fields = ["brand"]
    exclude = ["deleted_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(deleted_at=None)

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand"] if obj else []
