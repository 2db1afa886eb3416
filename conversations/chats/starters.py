"""Starters (S0, S2: templates): questions to begin with, the brand's and one's own. All in the open scope."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from django import forms
from django.core.exceptions import ValidationError
from django.db.models import Max, QuerySet
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations.engine.tuning import UNSTORABLE
from conversations.models import BrandTemplate, Starter, Template
from lib import clock
from lib.db import Principal
from lib.errors import Invalid, NotFound

FIELD = re.compile(r"\{([^{}\n]{1,40})\}")  # {city}: asked for before the question is sent
MOST_FIELDS = 8
MOST = 200  # of one person, and of one brand
CARDS = 4  # on a new chat and on the landing page
BINNED_FOR = timedelta(days=30)  # a deleted one can be taken back for so long


@dataclass(frozen=True, slots=True)
class Card:
    """A starter as pages and REST show it."""

    id: UUID
    title: str
    text: str
    needs: str
    is_own: bool

    @property
    def fields(self) -> list[str]:
        return fields(self.text)


def fields(text: str) -> list[str]:
    """The names in braces, each once, in the order of the text."""
    return list(dict.fromkeys(name.strip() for name in FIELD.findall(text) if name.strip()))


def offered(principal: Principal) -> list[Card]:
    """What a person may begin with: the brand's starters first, then one's own. A visitor has none of one's own."""
    of_brand = BrandTemplate.objects.filter(brand_id=principal.brand_id, deleted_at=None, is_active=True)
    found = [_card(row, is_own=False) for row in of_brand[:MOST]]
    if principal.role == "app_visitor":
        return found
    own = Template.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, deleted_at=None, is_active=True
    )
    return found + [_card(row, is_own=True) for row in own[:MOST]]


def _card(row: Starter, *, is_own: bool) -> Card:
    return Card(row.pk, row.title, row.text, row.needs, is_own)


class StarterForm(forms.Form):
    title = forms.CharField(max_length=80, error_messages={"required": gettext_lazy("Give it a name.")})
    text = forms.CharField(max_length=4000, error_messages={"required": gettext_lazy("Write the question.")})
    needs = forms.CharField(max_length=160, required=False)

    def clean(self) -> dict[str, Any]:
        found: dict[str, Any] = super().clean() or self.cleaned_data
        for name, text in found.items():
            if isinstance(text, str) and UNSTORABLE.search(text):
                self.add_error(
                    name, ValidationError(_("This holds characters that are no text. Paste it as plain text."))
                )
        if len(fields(found.get("text", ""))) > MOST_FIELDS:
            self.add_error("text", ValidationError(_("A template asks for at most %s things in braces.") % MOST_FIELDS))
        return found


def shelf(principal: Principal) -> QuerySet[Any]:
    """The starters that this principal keeps: a member's own, or as the brand's admin (app_brand) the brand's."""
    if principal.role == "app_brand":
        return BrandTemplate.objects.filter(brand_id=principal.brand_id)
    return Template.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)


def kept(principal: Principal) -> Sequence[Starter]:
    return list(shelf(principal).filter(deleted_at=None)[:MOST])


def get(principal: Principal, starter_id: UUID) -> Starter:
    found: Starter | None = shelf(principal).filter(pk=starter_id, deleted_at=None).first()
    if found is None:
        raise NotFound(_("This template is not here (any more)."))
    return found


def add(principal: Principal, *, title: str, text: str, needs: str = "") -> Starter:
    """At the end of the list. Raises Invalid when there are too many."""
    rows = shelf(principal)
    here = rows.filter(deleted_at=None)
    if here.count() >= MOST:
        raise Invalid(_("There are %s templates, which is all there is room for. Delete one first.") % MOST)
    last = here.aggregate(last=Max("position"))["last"] or 0
    whose = {"brand_id": principal.brand_id}
    if rows.model is Template:
        whose["owner_id"] = principal.owner_id
    made: Starter = rows.model.objects.create(
        **whose, title=title, text=text, needs=needs, position=min(last + 10, 32_000)
    )
    return made


def change(principal: Principal, starter_id: UUID, *, title: str, text: str, needs: str = "") -> Starter:
    row = get(principal, starter_id)
    row.title, row.text, row.needs = title, text, needs
    row.save(update_fields=["title", "text", "needs", "updated_at"])
    return row


def delete(principal: Principal, starter_id: UUID) -> Starter:
    """Out of sight; restore() takes it back. What was deleted 30 days ago goes for good with it."""
    row = get(principal, starter_id)
    row.deleted_at = clock.now()
    row.save(update_fields=["deleted_at"])
    shelf(principal).filter(deleted_at__lt=row.deleted_at - BINNED_FOR).delete()
    return row


def restore(principal: Principal, starter_id: UUID) -> Starter:
    """Take back a deletion; of one that is there it changes nothing."""
    if not shelf(principal).filter(pk=starter_id).update(deleted_at=None):
        raise NotFound(_("This template is not here (any more)."))
    return get(principal, starter_id)
