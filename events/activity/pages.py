"""/manage/activity/: a brand's admins look for who did what, see before and after, and take the log home."""

from dataclasses import replace
from datetime import date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.core.validators import MaxValueValidator, MinValueValidator
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_safe

from accounts.access import BrandRequest, admin_goes_out
from events.activity import export, lines, record
from events.activity.lines import Wanted
from events.models import Activity, ActivityOrigin
from lib.db import scope
from lib.errors import NotFound

# Whose ids can be told: before 1970 there are none, and after the last day there is no next one.
KNOWN_DAYS = [MinValueValidator(date(1971, 1, 1)), MaxValueValidator(date(9000, 1, 1))]


class Search(forms.Form):
    """What an admin looks for, as it stands in the address."""

    person = forms.CharField(required=False, max_length=254, label=gettext_lazy("Person"))
    action = forms.CharField(required=False, max_length=60, label=gettext_lazy("Action"))
    resource = forms.CharField(required=False, max_length=64, label=gettext_lazy("Thing"))
    q = forms.CharField(required=False, max_length=100, label=gettext_lazy("Words"))
    since = forms.DateField(required=False, label=gettext_lazy("From"), validators=KNOWN_DAYS)
    until = forms.DateField(required=False, label=gettext_lazy("To"), validators=KNOWN_DAYS)
    after = forms.UUIDField(required=False)

    def wanted(self, request: BrandRequest) -> Wanted:
        """Days are the brand's own. What could not be read looks for nothing, and is said beside its field."""
        given, zone = self.cleaned_data, ZoneInfo(request.brand.zone)
        since, until = given.get("since"), given.get("until")
        person = given.get("person", "").strip()
        return Wanted(
            people=lines.people_called(request.brand.pk, person) if person else None,
            action=given.get("action", "").strip(),
            resource=given.get("resource", "").strip(),
            words=given.get("q", "").strip(),
            since=datetime.combine(since, time(), zone) if since else None,
            until=datetime.combine(until + timedelta(days=1), time(), zone) if until else None,
            after=given.get("after"),
        )

    def kept(self) -> dict[str, str]:
        """For the address of another page of the same."""
        return {
            name: str(value) for name, value in self.cleaned_data.items() if value and name not in ("after", "form")
        }


class Export(Search):
    form = forms.ChoiceField(choices=[("csv", "CSV"), ("json", "JSON")], required=False)


@admin_goes_out
@require_safe
def page(request: BrandRequest) -> HttpResponse:
    search = Search(request.GET)
    is_fit = search.is_valid()
    wanted = search.wanted(request)
    with scope(request.principal) as standing:
        found = lines.page(request.brand.pk, wanted)
        asked = lines.origins(found.rows)
    known, kept = lines.names(request.brand.pk, found.rows), search.kept()
    context = {
        "brand": request.brand,
        "here": "manage-activity",
        "standing": standing,
        "search": search,
        "rows": [_row(line, known, asked) for line in found.rows],
        "actions": sorted(((code, str(words)) for code, words in lines.ACTIONS.items()), key=lambda pair: pair[1]),
        "is_narrowed": bool(kept),
        "is_continued": wanted.after is not None,
        "first": urlencode(kept),
        "more": urlencode({**kept, "after": str(found.more)}) if found.more else "",
    }
    return render(request, "manage/activity.html", context, status=200 if is_fit else 422)


@admin_goes_out
@require_safe
def one(request: BrandRequest, line_id: UUID) -> HttpResponse:
    with scope(request.principal) as standing:
        line = Activity.objects.filter(brand_id=request.brand.pk, pk=line_id).first()
        if line is None:
            raise NotFound(_("This line is not in the log of this brand."))
        asked = lines.origins([line])
    context = {
        "brand": request.brand,
        "here": "manage-activity",
        "standing": standing,
        "row": _row(line, lines.names(request.brand.pk, [line]), asked),
        "told": lines.told(line),
    }
    return render(request, "manage/activity_line.html", context)


@admin_goes_out
@require_safe
def take(request: BrandRequest) -> HttpResponseBase:
    """All lines that were looked for, as a file. That it was taken is a line too."""
    search = Export(request.GET)
    if not search.is_valid():
        return page(request)
    principal, kept, form = request.principal, search.kept(), search.cleaned_data["form"] or "csv"
    with scope(principal):
        record(
            principal.brand_id,
            "activity.exported",
            actor_id=principal.owner_id,
            resource=("activity", None),
            changes={**kept, "form": form},
        )
    return export.file(principal, request.brand, replace(search.wanted(request), after=None), form)


def _row(line: Activity, known: dict[UUID, str], asked: dict[UUID, ActivityOrigin]) -> dict[str, Any]:
    about = known.get(line.resource_id) if line.resource_type == "user" and line.resource_id else None
    return {
        "line": line,
        "what": lines.what(line),
        "who": lines.who(line, known),
        "about": about if about and line.resource_id != line.actor_id else "",
        "origin": asked.get(line.pk),
    }
