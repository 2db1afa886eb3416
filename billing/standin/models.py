"""What the stand-in keeps, in the house's own database, so that web and worker ask the same Stripe.

Not tenant tables: Stripe knows no brands. The service log-in alone reaches them.
"""

from django.db import models


class StandInObject(models.Model):
    """One object of Stripe's: a customer, an invoice, an event."""

    id = models.TextField(primary_key=True)  # cus_…, in_…, evt_…
    kind = models.CharField(max_length=60)  # Stripe's `object`
    body = models.JSONField()  # as the API shows it
    inside = models.JSONField(default=dict)  # what Stripe knows and does not show: how a card behaves, what was sent
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "object of the stand-in for Stripe"
        verbose_name_plural = "objects of the stand-in for Stripe"
        indexes = [models.Index(fields=["kind", "-created_at"], name="standin_objects_of_a_kind")]

    def __str__(self) -> str:
        return self.id


class StandInRequest(models.Model):
    """The first answer to an idempotency key, written in the transaction that did what it says."""

    key = models.TextField(primary_key=True)
    fingerprint = models.CharField(max_length=64)  # of method, path and parameters
    status = models.PositiveSmallIntegerField()
    body = models.JSONField()
    created_at = models.DateTimeField()

    class Meta:
        verbose_name = "answered request of the stand-in for Stripe"
        verbose_name_plural = "answered requests of the stand-in for Stripe"

    def __str__(self) -> str:
        return self.key
