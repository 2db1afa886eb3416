"""What the till knows of Stripe's side: who a member is there, what was paid, what it told us, what we reported.

Amounts are signed micro-dollars (micro-units of the row's currency): what a member paid is above 0, what went back below.
"""

from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Q

from accounts.models import BrandOwned, Owned
from quotas.models import Meter


class Provider(models.TextChoices):
    """Who collects the money. An object of one is unknown to the others, so a row says whose it is."""

    STRIPE = "stripe"
    STRIPE_TEST = "stripe_test", "Stripe, test mode"
    STAND_IN = "stand_in", "local stand-in for Stripe"


class Customer(Owned):
    """A member of a brand as Stripe knows them. One for each member, brand and provider, made at the first purchase."""

    provider = models.CharField(max_length=20, choices=Provider)
    stripe_customer_id = models.CharField(max_length=255, db_index=True)
    is_billable = models.BooleanField(default=False, db_default=False, help_text="A payment method is stored.")
    # Raised by everything that is written from a look at Stripe: whoever looked before that looks again.
    revision = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "provider"], name="one_customer_per_member"),
            models.UniqueConstraint(fields=["brand", "stripe_customer_id"], name="one_member_per_customer"),
        ]

    def __str__(self) -> str:
        return self.stripe_customer_id


class CreditPackOffer(BrandOwned):
    """A pack that a brand sells: `amount` units of `meter`. What was bought is a quotas.Pack. Source: S1 credit_packs."""

    code = models.SlugField(max_length=40)
    name = models.CharField(max_length=80)
    meter = models.CharField(max_length=20, choices=Meter)
    amount = models.BigIntegerField(validators=[MinValueValidator(1)], help_text="Units of the meter.")
    price_microusd = models.PositiveBigIntegerField(help_text="5000000 is $5.")
    currency = models.CharField(max_length=3, default="USD")
    expires_after_days = models.PositiveIntegerField(
        null=True, blank=True, validators=[MinValueValidator(1)], help_text="Empty = never."
    )
    is_active = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "name"]
        constraints = [
            models.UniqueConstraint(fields=["brand", "code"], name="one_offer_per_code"),
            models.CheckConstraint(
                condition=Q(amount__gt=0) & Q(price_microusd__gt=0), name="offer_gives_and_costs_something"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class BillingTransaction(Owned):
    """One line of a member's account with the house. Written once; only how it stands may change. Source: S3.

    A correction is a line of its own: a refund, a credit.
    """

    class Type(models.TextChoices):
        SUBSCRIPTION = "subscription"
        OVERAGE = "overage", "beyond the plan"
        ONE_TIME = "one_time", "pack"
        REFUND = "refund"  # of our own will, or by the bank (a dispute)
        CREDIT = "credit"  # a balance that the next invoices are paid from

    class Status(models.TextChoices):
        OPEN = "open", "not paid yet"
        PAID = "paid"
        FAILED = "failed", "payment failed"
        DISPUTED = "disputed", "disputed at the bank"
        REFUNDED = "refunded"
        VOID = "void"  # it turned out to be nothing: an invoice withdrawn, a dispute won

    type = models.CharField(max_length=20, choices=Type)
    status = models.CharField(max_length=10, choices=Status)
    description = models.CharField(max_length=200)
    amount_microusd = models.BigIntegerField(help_text="Without tax.")
    tax_amount_microusd = models.BigIntegerField(default=0)
    total_amount_microusd = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    payment_method = models.CharField(max_length=60, blank=True)  # in words: visa 4242
    payment_provider = models.CharField(max_length=20, choices=Provider)
    # The invoice's, the Checkout session's, the refund's, the dispute's.
    provider_transaction_id = models.CharField(max_length=255)
    payment_id = models.CharField(max_length=255, blank=True)  # the payment that refunds and disputes name
    invoice_number = models.CharField(max_length=80, blank=True)
    invoice_url = models.CharField(max_length=1000, blank=True)
    period_starts_at = models.DateTimeField(null=True, blank=True)
    period_ends_at = models.DateTimeField(null=True, blank=True)
    happened_at = models.DateTimeField()  # by the provider's clock
    reason = models.CharField(max_length=200, blank=True)  # of a refund, as staff gave it
    actor_id = models.UUIDField(null=True, blank=True)  # the member of staff who did it, if a person did

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "payment_provider", "type", "provider_transaction_id"],
                name="one_line_per_transaction_and_type",
            ),
            models.CheckConstraint(
                condition=Q(total_amount_microusd=F("amount_microusd") + F("tax_amount_microusd")),
                name="transaction_adds_up",
            ),
            models.CheckConstraint(
                condition=Q(type__in=["refund", "credit"], total_amount_microusd__lte=0)
                | Q(type__in=["subscription", "overage", "one_time"], total_amount_microusd__gte=0),
                name="transaction_sign_fits",
            ),
        ]
        indexes = [
            models.Index(fields=["brand", "owner_id", "-happened_at"], name="transactions_of_a_member"),
            models.Index(fields=["payment_id"], name="transactions_of_a_payment"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.provider_transaction_id}"


class StripeEvent(models.Model):
    """The inbox: what Stripe told us, once each. It is acted on by asking Stripe how the thing stands now.

    No tenant table: whose it is, only its content says. The service log-in alone reaches it.
    """

    class Outcome(models.TextChoices):
        WAITING = "", "waiting"
        APPLIED = "applied"
        IGNORED = "ignored", "nothing for us to do"
        PARKED = "parked", "a person must look"

    id = models.CharField(max_length=255, primary_key=True)  # evt_…
    type = models.CharField(max_length=100)
    api_version = models.CharField(max_length=40, blank=True)
    livemode = models.BooleanField()
    created = models.DateTimeField()  # by Stripe's clock
    body = models.JSONField()
    received_at = models.DateTimeField()
    applied_at = models.DateTimeField(null=True, blank=True)  # when it was acted on, or set aside
    outcome = models.CharField(max_length=10, choices=Outcome, blank=True, default="")
    attempts = models.PositiveSmallIntegerField(default=0)
    error = models.CharField(max_length=500, blank=True, default="")

    class Meta:
        verbose_name = "Stripe event"
        indexes = [
            models.Index(fields=["received_at"], condition=Q(outcome=""), name="events_waiting"),
            models.Index(fields=["received_at"], condition=Q(outcome="parked"), name="events_parked"),
        ]

    def __str__(self) -> str:
        return f"{self.type} {self.id}"


class OverageReport(Owned):
    """The outbox of Billing Meters: one row for each ledger entry on an overage bucket, reported under the entry's id."""

    entry_id = models.UUIDField(unique=True)
    amount_microusd = models.BigIntegerField()  # == Entry.used_delta; a reversal's is below 0
    used_at = models.DateTimeField()  # == Entry.created_at: the period it is billed in
    sent_at = models.DateTimeField(null=True, blank=True)
    error = models.CharField(max_length=300, blank=True, default="")

    class Meta:
        constraints = [models.CheckConstraint(condition=~Q(amount_microusd=0), name="report_says_something")]
        indexes = [models.Index(fields=["used_at"], condition=Q(sent_at=None), name="reports_unsent")]

    def __str__(self) -> str:
        return f"{self.amount_microusd} of {self.entry_id}"
