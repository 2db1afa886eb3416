"""What a member may fill in about money. A refusal stands at its field, and what was written stays in it."""

import re
from decimal import Decimal
from typing import Any

from django import forms
from django.utils.formats import get_format
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from lib.money import MICRO, price

AMOUNT = re.compile(r"[$€£]?\s*(\d{1,9}(?:\.\d{1,2})?)\s*[$€£]?", re.ASCII)


class OverageForm(forms.Form):
    """Extra questions on or off, and how much they may cost in a month."""

    on = forms.BooleanField(required=False)
    cap = forms.CharField(required=False, max_length=40, strip=True)

    def __init__(self, *args: Any, most_microusd: int, each_microusd: int, currency: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.most_microusd, self.most = most_microusd, price(most_microusd, currency)
        self.each_microusd, self.each = each_microusd, price(each_microusd, currency)

    def clean_cap(self) -> int | None:
        """In micro-dollars; None when the field was left empty while extra questions are off."""
        given: str = self.cleaned_data["cap"]
        if not given:
            if self.data.get("on"):
                raise forms.ValidationError(_("Write the most that extra questions may cost in a month."))
            return None
        found = AMOUNT.fullmatch(given.replace(get_format("DECIMAL_SEPARATOR"), "."))  # 7,50 where people write so
        if found is None:
            raise forms.ValidationError(
                _("Write an amount from 0.01 to %(most)s, such as 5 or 7.50.") % {"most": self.most}
            )
        microusd = int(Decimal(found[1]) * MICRO)
        if microusd > self.most_microusd:
            raise forms.ValidationError(_("Your plan allows %(most)s a month at most.") % {"most": self.most})
        if not microusd:
            raise forms.ValidationError(_("At 0 nothing extra could be asked. Write more, or leave it off."))
        if self.data.get("on") and microusd < self.each_microusd:  # switching off is never refused for its cap
            raise forms.ValidationError(
                _("One costs %(each)s, so nothing extra could be asked. Write more, or leave it off.")
                % {"each": self.each}
            )
        return microusd


class CancelForm(forms.Form):
    """Why somebody goes, in Stripe's list of reasons; S3 keeps it with the subscription's history."""

    REASONS = [
        ("too_expensive", gettext_lazy("It costs too much")),
        ("unused", gettext_lazy("I do not use it enough")),
        ("missing_features", gettext_lazy("Something I need is missing")),
        ("low_quality", gettext_lazy("The answers are not good enough")),
        ("too_complex", gettext_lazy("It is too hard to use")),
        ("customer_service", gettext_lazy("I was not helped well")),
        ("switched_service", gettext_lazy("I use something else now")),
        ("other", gettext_lazy("Another reason")),
    ]

    reason = forms.ChoiceField(
        choices=REASONS,
        error_messages={
            "required": gettext_lazy("Choose a reason, so that we learn what to mend."),
            "invalid_choice": gettext_lazy("Choose one of these reasons."),
        },
    )
    comment = forms.CharField(
        required=False,
        max_length=1000,
        error_messages={"max_length": gettext_lazy("Write at most 1,000 characters; your text is kept.")},
    )
