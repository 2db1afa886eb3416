"""What staff may make of a plan, and what it does to those who are on it, said before it is done."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.forms.models import BaseInlineFormSet

from accounts.models import Brand
from billing.models import Plan, PlanLimit, Subscription
from lib.money import MICRO, dollars
from quotas.buckets import MOST_UNITS
from quotas.models import Meter

CENT = MICRO // 100
LEAST_CHARGE = 50 * CENT  # what Stripe takes at least
MOST_DAYS = 3650  # that a pack lasts
TOLD = {  # what members feel at once, in the words of the page
    "unit": "what it counts in",
    "byok_allowed": "own keys",
    "overage_allowed": "overage",
    "overage_price_microusd": "price beyond the plan",
    "overage_cap_microusd": "cap of overage",
    "overage_by_default": "overage without being switched on",
    "retention_days": "days of history",
    "rate_limit_per_minute": "calls a minute",
    "concurrent_turns": "answers at once",
}


def in_dollars(currency: str) -> str:
    if currency.upper() != "USD":
        raise ValidationError("Prices are kept in US dollars (USD).")
    return "USD"


class PlanForm(forms.ModelForm):
    confirmed = forms.BooleanField(
        required=False, label="I have read what this does", help_text="Asked for when it changes what members have."
    )

    def clean_currency(self) -> str:
        return in_dollars(self.cleaned_data["currency"])

    def clean(self) -> dict[str, Any]:
        given: dict[str, Any] = super().clean() or self.cleaned_data
        price, yearly = given.get("price_microusd") or 0, given.get("annual_price_microusd")
        period = given.get("period")
        for name, amount in (("price_microusd", price), ("annual_price_microusd", yearly or 0)):
            if amount % CENT:
                self.add_error(name, "A price is whole cents: a multiple of 10000.")
            elif 0 < amount < LEAST_CHARGE:
                self.add_error(name, f"Cards are charged {dollars(LEAST_CHARGE)} at least. 0 is free.")
        if price and period == Plan.Period.NONE:
            self.add_error("period", "A price needs a period: month or year.")
        if yearly is not None and not (price and period == Plan.Period.MONTH):
            self.add_error("annual_price_microusd", "A yearly price stands beside a monthly one: give that first.")
        elif yearly is not None and not 0 < yearly <= 12 * price:
            self.add_error("annual_price_microusd", f"A year costs at most twelve months: {dollars(12 * price)}.")
        if given.get("trial_days") and not price:
            self.add_error("trial_days", "What is free needs no trial.")
        if given.get("overage_allowed"):
            each, cap = given.get("overage_price_microusd") or 0, given.get("overage_cap_microusd") or 0
            if not each:
                self.add_error("overage_price_microusd", "Overage needs a price above 0.")
            elif cap < each:
                self.add_error("overage_cap_microusd", f"The cap lets nobody ask once: it is below {dollars(each)}.")
        elif given.get("overage_by_default"):
            self.add_error("overage_by_default", "Overage has to be allowed before it can be on by itself.")
        if self.instance.pk and given.get("is_active") is False and self._is_default():
            self.add_error("is_active", "New members get this plan. Give the brand another default plan first.")
        if self.instance.pk and price and not given.get("trial_days") and self._is_default():
            self.add_error(
                "trial_days" if self.instance.price_microusd else "price_microusd",
                "New members get this plan, and everybody who cancels another: they would have it for nothing. Give it "
                "trial days, or give the brand another default plan first.",
            )
        self.instance.is_confirmed = bool(given.get("confirmed"))
        return given

    def _is_default(self) -> bool:
        plan = self.instance
        return Brand.objects.filter(pk=plan.brand_id, default_plan=plan.code).exists()


class LimitFormSet(BaseInlineFormSet):
    """The lines of a plan, judged together with it; its form was valid before they are looked at."""

    def clean(self) -> None:
        super().clean()
        plan: Any = self.instance
        if any(self.errors) or not hasattr(plan, "is_confirmed"):
            return
        kept = [form.cleaned_data for form in self.forms if form.cleaned_data and not form.cleaned_data.get("DELETE")]
        lines = {
            line["meter"]: PlanLimit(**{name: line[name] for name in ("meter", "window", "limit")}) for line in kept
        }
        if plan.subject == Plan.Subject.MEMBER and plan.unit not in lines:
            raise ValidationError(
                f"The plan counts in {plan.unit} and says nothing of them: add a line of {plan.unit}. An empty number is "
                "no limit."
            )
        if plan.is_confirmed or plan._state.adding:
            return
        people = Subscription.objects.filter(plan_id=plan.pk, ended_at=None).count()
        told = effects(Plan.objects.prefetch_related("limits").get(pk=plan.pk), plan, lines)
        if people and told:
            who = "1 member is" if people == 1 else f"{people:,} members are"
            if plan.subject == Plan.Subject.BRAND:
                who = "The brand is"
            raise ValidationError(
                f"{who} on this plan, and the change is felt at once: {'; '.join(told)}. "
                "What was used stays used. To do it, tick “I have read what this does” and save again."
            )


def effects(before: Plan, after: Plan, lines: dict[str, PlanLimit]) -> list[str]:
    """What a change does to those who are on the plan, in words; nothing of what they do not feel."""
    had = {limit.meter: limit for limit in before.limits.all()}
    told = [f"no {meter} any more" for meter in had if meter not in lines]
    for meter, line in lines.items():
        if meter not in had:
            told.append(f"{line} as well")
        elif str(line) != str(had[meter]):
            told.append(f"{had[meter]} becomes {line}")
    for name, words in TOLD.items():
        was, is_now = getattr(before, name), getattr(after, name)
        if was != is_now:
            told.append(f"{words}: {_in_words(name, was)} becomes {_in_words(name, is_now)}")
    if (before.price_microusd, before.annual_price_microusd) != (after.price_microusd, after.annual_price_microusd):
        told.append(
            f"{after.price_in_words} for who subscribes from now on; who pays already goes on at {before.price_in_words}"
        )
    return told


def _in_words(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None:
        return "no limit"
    return dollars(int(str(value))) if name.endswith("_microusd") else str(value)


class OfferForm(forms.ModelForm):
    """What could not be sold is refused here; else it is when somebody paid for it, or keeps stripe_sync from all."""

    def clean_currency(self) -> str:
        return in_dollars(self.cleaned_data["currency"])

    def clean_price_microusd(self) -> int:
        price: int = self.cleaned_data["price_microusd"]
        if price % CENT:
            raise ValidationError("A price is whole cents: a multiple of 10000.")
        if price < LEAST_CHARGE:
            raise ValidationError(f"Cards are charged {dollars(LEAST_CHARGE)} at least.")
        return price

    def clean_amount(self) -> int:
        amount: int = self.cleaned_data["amount"]
        if amount > MOST_UNITS:
            raise ValidationError(f"A pack has {MOST_UNITS:,} units at most.")
        return amount

    def clean_expires_after_days(self) -> int | None:
        days: int | None = self.cleaned_data["expires_after_days"]
        if days and days > MOST_DAYS:
            raise ValidationError(f"At most {MOST_DAYS:,} days, or empty for never.")
        return days


class CopyForm(forms.ModelForm):
    """A plan like another one under a new code; not on the pricing page until staff say so."""

    class Meta:
        model = Plan
        fields = ["code", "name"]

    def clean_code(self) -> str:
        code: str = self.cleaned_data["code"]
        if Plan.objects.filter(brand=self.instance.brand, code=code).exists():
            raise ValidationError("The brand has a plan with this code already.")
        return code

    def save(self, commit: bool = True) -> Plan:
        lines = list(self.instance.limits.all())
        copy: Plan = self.instance
        copy.pk, copy._state.adding, copy.is_offered = Plan._meta.pk.get_default(), True, False
        copy.save(force_insert=True)
        PlanLimit.objects.bulk_create(
            PlanLimit(brand=copy.brand, plan=copy, meter=line.meter, window=line.window, limit=line.limit)
            for line in lines
        )
        return copy


METERS = [choice for choice in Meter.choices if choice[0] != Meter.OVERAGE_MICROUSD]  # money is no limit of a plan
