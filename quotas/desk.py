"""What staff do at the meter: each deed is a form with a reason, which says beforehand what will happen."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any, ClassVar
from uuid import UUID

from django import forms

from accounts.models import User
from lib import clock
from lib.ids import uuid7
from lib.money import MICRO, dollars
from quotas import ledger
from quotas.buckets import MOST_UNITS
from quotas.models import Account, Bucket, Entry, Meter, Pack
from quotas.words import meter_name


class Deed(forms.Form):
    """One deed at one row. `fits` = it makes sense there; do() raises lib.errors.Invalid for what the ledger refuses."""

    label: ClassVar[str]
    slug: ClassVar[str]
    permission: ClassVar[str]

    reason = forms.CharField(max_length=200, help_text="It stands in the ledger for good, with your name.")

    def __init__(self, row: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.row = row
        self.order_fields([*(name for name in self.fields if name != "reason"), "reason"])

    @classmethod
    def fits(cls, row: Any) -> bool:
        return True

    def will_happen(self) -> Iterator[str]:
        """Sentences above the form: whom it is about, and what changes."""
        yield from ()

    def do(self, actor_id: UUID | None) -> str:
        """Do it, and say what was done."""
        raise NotImplementedError


class TopUp(Deed):
    label, slug, permission = "Top up", "top-up", "quotas.change_account"

    meter = forms.ChoiceField()
    amount = forms.IntegerField(
        min_value=1, max_value=MOST_UNITS, help_text="Units of the meter, added to the open window."
    )

    def __init__(self, row: Account, *args: Any, **kwargs: Any) -> None:
        super().__init__(row, *args, **kwargs)
        limited = row.entitlements.filter(ends_at=None, limit__isnull=False).order_by("meter")
        self.fields["meter"].choices = [(one.meter, f"{one.meter}: {one}") for one in limited]  # type: ignore[attr-defined]

    @classmethod
    def fits(cls, row: Account) -> bool:
        return row.kind == Account.Kind.BRAND

    def do(self, actor_id: UUID | None) -> str:
        bucket = ledger.top_up(self.row.brand, **self.cleaned_data, actor_id=actor_id)
        left = "no limit of" if bucket.left is None else f"{bucket.left:,}"
        return f"{self.row.brand} now has {left} {bucket.meter} left."


class GrantPack(Deed):
    label, slug, permission = "Grant a pack", "grant-pack", "quotas.add_pack"

    name = forms.CharField(max_length=80, help_text="As the member sees it.")
    amount = forms.IntegerField(min_value=1, max_value=MOST_UNITS)
    expires_in_days = forms.IntegerField(min_value=1, max_value=3650, required=False, help_text="Empty: never.")
    source = forms.CharField(widget=forms.HiddenInput, max_length=80)

    def __init__(self, row: Account, *args: Any, **kwargs: Any) -> None:
        # One form is one pack, however often it is sent.
        super().__init__(row, *args, initial={"source": f"staff:{uuid7()}"}, **kwargs)

    @classmethod
    def fits(cls, row: Account) -> bool:
        return row.kind == Account.Kind.USER

    @property
    def meter(self) -> str:
        unit: str = self.row.features.get("unit", Meter.QUERIES.value)
        return unit

    def will_happen(self) -> Iterator[str]:
        yield f"{whose(self.row)} gets a pack of {meter_name(self.meter)}, free of charge."
        yield "It is used when the plan's own are used up, and before anything is charged."

    def clean_source(self) -> str:
        source: str = self.cleaned_data["source"]
        if not source.startswith("staff:"):  # what was bought is granted by what was paid
            raise forms.ValidationError("Open this page anew.")
        return source

    def do(self, actor_id: UUID | None) -> str:
        wanted = self.cleaned_data
        days = wanted["expires_in_days"]
        pack = ledger.grant_pack(
            self.row.brand,
            self.row.owner_id,
            meter=self.meter,
            amount=wanted["amount"],
            name=wanted["name"],
            price_microusd=0,
            source=wanted["source"],
            expires_at=clock.now() + timedelta(days=days) if days else None,
            reason=wanted["reason"],
            actor_id=actor_id,
        )
        return f"Now {whose(self.row)} has {pack.name}: {pack.amount:,} {meter_name(self.meter)}."


class Override(Deed):
    label, slug, permission = "Override a limit", "override", "quotas.add_entitlement"

    meter = forms.ChoiceField()
    limit = forms.IntegerField(
        min_value=0, max_value=MOST_UNITS, required=False, help_text="In each of the plan's windows; empty = no limit."
    )
    days = forms.IntegerField(min_value=1, max_value=3650, help_text="From now on; then the plan's limit counts again.")

    def __init__(self, row: Account, *args: Any, **kwargs: Any) -> None:
        super().__init__(row, *args, **kwargs)
        of_plan = row.entitlements.filter(ends_at=None).order_by("meter")
        self.fields["meter"].choices = [(one.meter, f"{one.meter}: {one}") for one in of_plan]  # type: ignore[attr-defined]

    @classmethod
    def fits(cls, row: Account) -> bool:
        return row.kind == Account.Kind.USER

    def will_happen(self) -> Iterator[str]:
        yield f"{whose(self.row)} alone has another limit for a while, in the open window too."
        yield "An earlier override of the same meter ends."

    def do(self, actor_id: UUID | None) -> str:
        wanted = self.cleaned_data
        until = clock.now() + timedelta(days=wanted["days"])
        ledger.override(
            self.row.brand,
            self.row.owner_id,
            meter=wanted["meter"],
            limit=wanted["limit"],
            until=until,
            reason=wanted["reason"],
            actor_id=actor_id,
        )
        limit = "no limit of" if wanted["limit"] is None else f"{wanted['limit']:,}"
        return f"Now {whose(self.row)} has {limit} {meter_name(wanted['meter'])} until {until:%Y-%m-%d %H:%M} UTC."


class ClearArrears(Deed):
    label, slug, permission = "Forgive what is owed", "clear-arrears", "quotas.change_account"

    forgiven_dollars = forms.DecimalField(min_value=0, max_digits=12, decimal_places=6)

    @classmethod
    def fits(cls, row: Account) -> bool:
        return row.kind == Account.Kind.USER and row.arrears_microusd > 0

    def will_happen(self) -> Iterator[str]:
        yield f"{whose(self.row)} owes {dollars(self.row.arrears_microusd)} for what was used of packs whose money went back."
        yield "When nothing is owed any more, questions beyond the plan can be charged again. No money moves."

    def do(self, actor_id: UUID | None) -> str:
        amount = int(self.cleaned_data["forgiven_dollars"] * MICRO)
        account = ledger.clear_arrears(
            self.row.brand,
            self.row.owner_id,
            amount_microusd=amount,
            reason=self.cleaned_data["reason"],
            actor_id=actor_id,
        )
        return f"Now {whose(self.row)} owes {dollars(account.arrears_microusd)}."


class TakeBack(Deed):
    label, slug, permission = "Take back", "take-back", "quotas.change_pack"

    amount = forms.IntegerField(min_value=1, max_value=MOST_UNITS, help_text="Units of the pack.")

    @classmethod
    def fits(cls, row: Pack) -> bool:
        return row.taken_back < row.amount

    def will_happen(self) -> Iterator[str]:
        pack: Pack = self.row
        there = pack.amount - pack.taken_back
        yield f"{whose(pack)} has {pack.bucket.left or 0:,} left of {pack.name}; {there:,} of it can be taken back."
        if pack.price_microusd:
            yield "What is left is taken by a reversal; for what was used already, its part of the price is owed."
        yield "No money moves here: refund the payment on its own page, which takes the pack back too."

    def do(self, actor_id: UUID | None) -> str:
        taken = ledger.take_back_pack(self.row, **self.cleaned_data, actor_id=actor_id)
        owed = f" {dollars(taken.arrears_microusd)} is owed." if taken.arrears_microusd else ""
        return f"{taken.units:,} units of {self.row.name} were taken back.{owed}"


class Reverse(Deed):
    label, slug, permission = "Give back", "reverse", "quotas.add_entry"

    @classmethod
    def fits(cls, row: Entry) -> bool:
        pockets = (Bucket.Pocket.ARREARS, Bucket.Pocket.HOUSE)
        return row.kind == Entry.Kind.USE and row.used_delta > 0 and row.bucket.pocket not in pockets

    def will_happen(self) -> Iterator[str]:
        bucket: Bucket = self.row.bucket
        yield (
            f"{whose(self.row)} gets back {counted(bucket, self.row.used_delta)}: of this window "
            f"{counted(bucket, bucket.used - self.row.used_delta)} will then be used, not {counted(bucket, bucket.used)}."
        )
        yield "The line stays as it is, and a reversal stands below it. It can be given back once."
        if bucket.pocket == Bucket.Pocket.OVERAGE:
            yield "What was billed already is not paid back by this: refund the payment on its own page."

    def do(self, actor_id: UUID | None) -> str:
        line = ledger.reverse(self.row.pk, reason=self.cleaned_data["reason"], actor_id=actor_id)
        return f"Now {whose(self.row)} has back {counted(self.row.bucket, -line.used_delta)}."


def counted(bucket: Bucket, number: int) -> str:
    if bucket.meter == Meter.OVERAGE_MICROUSD:
        return dollars(number)
    name = meter_name(bucket.meter)
    return f"{number:,} {name.removesuffix('s') if number == 1 else name}"


def whose(row: Any) -> str:
    """The address of the member a row is about, or the brand's name."""
    if row.owner_id == row.brand_id:
        return str(row.brand)
    return User.objects.filter(pk=row.owner_id).values_list("email", flat=True).first() or str(row.owner_id)
