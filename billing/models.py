"""The cashier. What a plan promises is rows that staff edit; what a member may use is pushed down to quotas."""

from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.models import BrandOwned, Owned
from billing.books import BillingTransaction as BillingTransaction
from billing.books import CreditPackOffer as CreditPackOffer
from billing.books import Customer as Customer
from billing.books import OverageReport as OverageReport
from billing.books import Provider as Provider
from billing.books import StripeEvent as StripeEvent
from billing.standin.models import StandInObject as StandInObject
from billing.standin.models import StandInRequest as StandInRequest
from lib.money import dollars
from lib.windows import WindowKind
from quotas.ledger import MOST_CONCURRENT
from quotas.models import Meter


class Plan(BrandOwned):
    class Subject(models.TextChoices):
        MEMBER = "member", "a member"
        BRAND = "brand", "the brand as a whole"

    class Period(models.TextChoices):
        MONTH = "month"
        YEAR = "year"
        NONE = "none", "no period"

    class Unit(models.TextChoices):
        QUERIES = Meter.QUERIES.value, "queries"
        MESSAGES = Meter.MESSAGES.value, "messages"
        CONVERSATIONS = Meter.CONVERSATIONS.value, "conversations"

    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    description = models.CharField(max_length=200, blank=True)
    subject = models.CharField(max_length=10, choices=Subject, default=Subject.MEMBER)
    price_microusd = models.PositiveBigIntegerField(default=0, help_text="Per period: 9990000 is $9.99.")
    annual_price_microusd = models.PositiveBigIntegerField(
        "annual price (microusd)",
        null=True,
        blank=True,
        help_text="For a year at once: 290000000 is $290. Empty: by the month only.",
    )
    currency = models.CharField(max_length=3, default="USD")
    period = models.CharField(max_length=10, choices=Period, default=Period.MONTH)
    trial_days = models.PositiveSmallIntegerField(default=0)
    unit = models.CharField(
        max_length=20,
        choices=Unit,
        default=Unit.QUERIES,
        db_default="queries",
        help_text="What its members count in: packs and overage stand for this meter. The plan needs a limit of it.",
    )
    byok_allowed = models.BooleanField("own keys allowed", default=False)
    overage_allowed = models.BooleanField(default=False)
    overage_price_microusd = models.PositiveBigIntegerField(
        default=25_000, help_text="Per unit beyond the plan: 25000 is $0.025."
    )
    overage_cap_microusd = models.PositiveBigIntegerField(
        default=10_000_000, help_text="Default cap per month: 10000000 is $10."
    )
    overage_by_default = models.BooleanField(
        default=False, db_default=False, help_text="Pay as you go: overage is on without being switched on."
    )
    retention_days = models.PositiveIntegerField(null=True, blank=True, help_text="0 = no history; empty = no limit.")
    rate_limit_per_minute = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty = the installation's."
    )
    concurrent_turns = models.PositiveIntegerField(
        "answers at once",
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(MOST_CONCURRENT)],
        help_text="Empty = the installation's.",
    )
    is_active = models.BooleanField(default=True, help_text="Off: nobody can be put on it. Who is on it stays.")
    is_offered = models.BooleanField(
        "on the pricing page", default=True, db_default=False, help_text="Off: only staff give it."
    )
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
    def monthly_microusd(self) -> int:
        """Its price for a month, to compare plans by; what has no period costs nothing by itself."""
        return {"month": self.price_microusd, "year": self.price_microusd // 12}.get(self.period, 0)

    @property
    def price_in_words(self) -> str:
        """$9.99 a month; $490.00 a year beside it where there is one."""
        if not self.price_microusd:
            return "free"
        words = f"{dollars(self.price_microusd)} a {self.period}"
        return f"{words} or {dollars(self.annual_price_microusd)} a year" if self.annual_price_microusd else words

    @property
    def begins_with_trial(self) -> bool:
        return bool(self.trial_days and self.price_microusd)

    @property
    def is_paid_first(self) -> bool:
        """It costs something from its first day: nobody is given it for nothing, so it is no brand's default plan."""
        return bool(self.price_microusd and not self.trial_days)

    @property
    def features(self) -> dict[str, object]:
        """What chat must know of the plan, as quotas hands it on."""
        return {
            "unit": self.unit,
            "byok_allowed": self.byok_allowed,
            "overage_allowed": self.overage_allowed,
            "overage_price_microusd": self.overage_price_microusd,
            "overage_cap_microusd": self.overage_cap_microusd,
            "overage_by_default": self.overage_by_default,
            "retention_days": self.retention_days,
            "concurrent_turns": self.concurrent_turns,
            "rate_limit_per_minute": self.rate_limit_per_minute,
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


class Cycle(models.TextChoices):
    MONTH = "month"
    YEAR = "year"


class Subscription(Owned):
    """Which plan a member (or the brand: `owner_id` is the brand's id) has agreed to, and how that stands.

    What it entitles to at an instant, lifecycle.in_force() reads from this row alone. Source: S1 user_subscriptions,
    S2 user_plans, S3 subscription_status.
    """

    class Status(models.TextChoices):
        ACTIVE = "active"
        TRIALING = "trialing"
        PAST_DUE = "past_due"
        CANCELLED = "cancelled"

    plan = models.ForeignKey(Plan, models.PROTECT, related_name="subscriptions", db_constraint=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.ACTIVE)
    cycle = models.CharField(max_length=10, choices=Cycle, default=Cycle.MONTH, db_default="month")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True, blank=True)
    period_starts_at = models.DateTimeField(
        null=True, blank=True, help_text="Of what is paid now; empty = not paid for."
    )
    period_ends_at = models.DateTimeField(null=True, blank=True)
    anchor_at = models.DateTimeField(
        null=True, blank=True, help_text="From which its months are counted; empty = calendar months."
    )
    trial_ends_at = models.DateTimeField(null=True, blank=True)
    grace_ends_at = models.DateTimeField(null=True, blank=True, help_text="Until when an unpaid plan is kept.")
    cancel_at_period_end = models.BooleanField(default=False, db_default=False)
    next_plan = models.ForeignKey(
        Plan, models.PROTECT, null=True, blank=True, related_name="+", db_constraint=False, db_index=False
    )  # a downgrade that waits for the end of what is paid
    provider = models.CharField(
        max_length=20, blank=True, default="", db_default="", help_text="Who collects the money; empty = nobody."
    )
    provider_subscription_id = models.CharField(max_length=255, blank=True, default="", db_default="")
    is_billable = models.BooleanField(default=False, db_default=False, help_text="A payment method is stored.")
    has_meter = models.BooleanField(
        null=True, help_text="Its invoices count what goes beyond the plan; empty = nobody has looked yet."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "owner_id"], condition=Q(ended_at=None), name="one_subscription_in_force"
            ),
            models.UniqueConstraint(
                fields=["brand", "provider", "provider_subscription_id"],
                condition=~Q(provider_subscription_id=""),
                name="one_subscription_per_provider_id",
            ),
            models.UniqueConstraint(fields=["brand", "owner_id", "id"], name="subscription_of_owner"),
            models.CheckConstraint(
                condition=Q(period_starts_at=None, period_ends_at=None) | Q(period_ends_at__gt=F("period_starts_at")),
                name="subscription_period_runs_forward",
            ),
            models.CheckConstraint(
                condition=Q(grace_ends_at=None) | Q(status="past_due"), name="subscription_grace_only_when_past_due"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.plan} since {self.started_at:%Y-%m-%d}"


class SubscriptionHistory(Owned):
    """One line each time a subscription changes: how it stood from `effective_at` on. Never changed, never deleted.

    Source: S3 subscription_history; `plan` is its tier, `code` what happened (docs/billing.md).
    """

    subscription = models.ForeignKey(Subscription, models.PROTECT, related_name="history", db_constraint=False)
    effective_at = models.DateTimeField()
    code = models.CharField(max_length=20)
    plan = models.ForeignKey(Plan, models.PROTECT, related_name="+", db_constraint=False)
    plan_in_force = models.CharField(
        max_length=40, blank=True
    )  # code of the plan that entitles; differs once grace is over
    status = models.CharField(max_length=10, choices=Subscription.Status)
    billing_cycle = models.CharField(max_length=10, choices=Cycle)
    monthly_price_microusd = models.PositiveBigIntegerField()
    annual_price_microusd = models.PositiveBigIntegerField(null=True)
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    trial_ends_at = models.DateTimeField(null=True)
    cancelled_at = models.DateTimeField(null=True)
    cancellation_reason = models.CharField(max_length=40, blank=True)
    cancellation_comment = models.CharField(max_length=1000, blank=True)
    actor_id = models.UUIDField(null=True)  # the member of staff who did it, if one did

    class Meta:
        verbose_name_plural = "subscription history"
        indexes = [models.Index(fields=["brand", "owner_id", "-effective_at"], name="history_of_an_owner")]

    def __str__(self) -> str:
        return f"{self.code} on {self.effective_at:%Y-%m-%d}"
