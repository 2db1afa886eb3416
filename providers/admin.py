"""Staff's pages of models, their prices and the prompts of brands."""

from typing import Any

from django import forms
from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest

from lib.admin import ReadOnly
from lib.db import on_commit
from lib.egress import Refused, model_servers, vet_url
from providers import offers
from providers.models import AIProvider, Fallback, Place, Price, ProviderKey, SystemPrompt


class ProviderForm(forms.ModelForm):
    def clean_base_url(self) -> str:
        url: str = self.cleaned_data["base_url"]
        if url:
            try:
                vet_url(url, allow=model_servers())
            except Refused as refused:
                raise forms.ValidationError(refused.detail) from refused
        return url


class PriceInline(admin.TabularInline):
    """A price is history: a new one is a new row from its date on."""

    model = Price
    extra = 1
    fields = ["starts_at", "input_microusd_per_mtok", "output_microusd_per_mtok"]
    has_change_permission = has_delete_permission = lambda self, request, obj=None: False


@admin.register(AIProvider)
class AIProviderAdmin(admin.ModelAdmin):
    form = ProviderForm
    inlines = [PriceInline]
    list_display = [
        "name",
        "api_identifier",
        "kind",
        "protocol",
        "model",
        "is_active",
        "key",
        "price",
        "max_tokens",
        "position",
    ]
    list_filter = ["kind", "protocol", "is_active"]
    list_per_page = 50
    search_fields = ["name", "api_identifier", "model"]

    @admin.display(description="$ per million tokens, in and out")
    def price(self, provider: AIProvider) -> str:
        offer = offers.known().get(provider.pk)
        if offer is None or offer.input_price is None or offer.output_price is None:
            return "none: cannot be asked"
        return f"{offer.input_price / 1e6:g} and {offer.output_price / 1e6:g}"

    @admin.display(description="key")
    def key(self, provider: AIProvider) -> str:
        offer = offers.known().get(provider.pk)
        return "missing: not offered, but to members' own keys" if offer and offer.lacks_key else "there, or not needed"

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False  # switched off instead: old answers name it

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> Any:
        offers.forget()
        return super().changelist_view(request, extra_context)

    def save_related(self, request: HttpRequest, form: Any, formsets: Any, change: bool) -> None:
        super().save_related(request, form, formsets, change)
        on_commit(offers.forget)


@admin.register(SystemPrompt)
class SystemPromptAdmin(admin.ModelAdmin):
    list_display = ["name", "brand", "description", "is_active", "position", "updated_at"]
    list_filter = ["is_active", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["name", "description"]
    autocomplete_fields = ["brand"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand"] if obj else []


class InOrder(admin.ModelAdmin):
    list_display = ["brand", "position", "provider"]
    list_display_links = ["provider"]
    list_filter = [("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand", "provider"]
    list_per_page = 50
    ordering = ["brand", "position", "id"]
    autocomplete_fields = ["brand", "provider"]

    def get_readonly_fields(self, request: HttpRequest, obj: Any = None) -> list[str]:
        return ["brand"] if obj else []


@admin.register(Fallback)
class FallbackAdmin(InOrder):
    """A brand's chain: who answers, in order, when the model that was asked cannot. Its admins edit it too."""


@admin.register(Place)
class PlaceAdmin(InOrder):
    """The order in which a brand shows the models. Its admins edit it too."""


@admin.register(ProviderKey)
class ProviderKeyAdmin(ReadOnly, admin.ModelAdmin):
    """Members' own keys, as far as anybody may see them: never what is inside, and nobody but the member changes one."""

    list_display = [
        "brand",
        "owner_id",
        "vendor",
        "ends_in",
        "status",
        "is_used",
        "checked_at",
        "last_used_at",
        "key_id",
    ]
    list_display_links = ["vendor"]
    list_filter = ["vendor", "status", "is_used", "key_id", ("brand", admin.RelatedOnlyFieldListFilter)]
    list_select_related = ["brand"]
    list_per_page = 50
    search_fields = ["owner_id"]
    readonly_fields = [
        "brand",
        "owner_id",
        "vendor",
        "ends_in",
        "status",
        "vendor_message",
        "is_used",
        "checked_at",
        "last_used_at",
        "key_id",
        "created_at",
        "updated_at",
    ]

    def get_queryset(self, request: HttpRequest) -> QuerySet[ProviderKey]:
        return super().get_queryset(request).defer("secret")

    @admin.display(description="ends in")
    def ends_in(self, key: ProviderKey) -> str:
        return f"…{key.last_four}"
