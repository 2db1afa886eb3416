"""Staff's pages of rows that are somebody's: a member's, or the brand's own."""

from typing import Any

from django.contrib import admin
from django.db.models import OuterRef, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.http import HttpRequest

from accounts.models import Brand, User
from lib.admin import ReadOnly


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
