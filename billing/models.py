"""The cashier. What a plan promises is rows that staff edit; what a member may use is pushed down to quotas."""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import BrandOwned, Owned
from billing.standin.models import StandInObject as StandInObject
from billing.standin.models import StandInRequest as StandInRequest
from lib.windows import WindowKind
from quotas.models import Meter


class Plan(BrandOwned):
    class Subject(models.TextChoices):
        MEMBER = "member", "a member"
        BRAND = "brand", "the brand as a whole"

    class Period(models.TextChoices):
        MONTH = "month"
        YEAR = "year"
        NONE = "none", "no period"

    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    subject = models.CharField(max_length=10, choices=Subject, default=Subject.MEMBER)
    price_microusd = models.PositiveBigIntegerField(default=0, help_text="Per period: 9990000 is $9.99.")
    currency = models.CharField(max_length=3, default="USD")
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    trial_days = models.PositiveSmallIntegerField(default=0)
    byok_allowed = models.BooleanField("own keys allowed", default=False)
    overage_allowed = models.BooleanField(default=False)
    overage_price_microusd = models.PositiveBigIntegerField(
        default=25_000, help_text="Per query beyond the plan: 25000 is $0.025."
    )
    overage_cap_microusd = models.PositiveBigIntegerField(
        default=10_000_000, help_text="Default cap per month: 10000000 is $10."
    )
    retention_days = models.PositiveIntegerField(null=True, blank=True, help_text="0 = no history; empty = no limit.")
    is_active = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(fields=["brand", "code"], name="one_plan_per_code"),
            models.UniqueConstraint(fields=["brand", "id"], name="plan_of_brand"),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def features(self) -> dict[str, object]:
        """What chat must know of the plan, as quotas hands it on."""
        return {
            "byok_allowed": self.byok_allowed,
            "overage_allowed": self.overage_allowed,
            "overage_price_microusd": self.overage_price_microusd,
            "overage_cap_microusd": self.overage_cap_microusd,
            "retention_days": self.retention_days,
        }


class PlanLimit(BrandOwned):
    """One line of a plan: `limit` units of `meter` in each `window`."""

    plan = models.ForeignKey(Plan, models.CASCADE, related_name="limits", db_constraint=False)
    meter = models.CharField(max_length=20, choices=Meter)
    window = models.CharField(max_length=10, choices=[(kind.value, kind.value) for kind in WindowKind])
    limit = models.BigIntegerField(
        null=True, blank=True, validators=[MinValueValidator(0)], help_text="Empty = no limit."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["plan", "meter"], name="one_limit_per_meter"),
            models.CheckConstraint(condition=Q(limit__gte=0), name="plan_limit_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{'no limit of' if self.limit is None else self.limit} {self.meter} per {self.window}"


class Subscription(Owned):
    """Which plan a member (or the brand: `owner_id` is the brand's id) is on, and how that stands."""

    class Status(models.TextChoices):
        ACTIVE = "active"
        TRIALING = "trialing"
        PAST_DUE = "past_due"
        CANCELLED = "cancelled"

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions", db_constraint=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "owner_id"], condition=Q(ended_at=None), name="one_subscription_in_force"
            )
        ]

    def __str__(self) -> str:
        return f"{self.plan} since {self.started_at:%Y-%m-%d}"
