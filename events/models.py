"""What happened: one append-only stream for programs, one log for people who must answer for what they did."""

from django.db import models

from accounts.models import BrandOwned, User


class Event(BrandOwned):
    """One thing that happened, written in the transaction that did it. Readers (webhooks, notices, statistics) follow."""

    type = models.CharField(max_length=60)  # dotted: message.completed; the names stand in docs/events.md
    subject_kind = models.CharField(max_length=40)
    subject_id = models.UUIDField()
    owner_id = models.UUIDField(null=True)  # whose doing it was, when it was a person's
    data = models.JSONField(default=dict)

    class Meta:
        indexes = [models.Index(fields=["brand", "subject_id", "id"], name="events_of_a_subject")]

    def __str__(self) -> str:
        return self.type


class Activity(BrandOwned):
    """The audit log: who did what to which row, with the values before and after (secrets left out). Never edited."""

    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", db_constraint=False)
    action = models.CharField(max_length=60)  # support.read, key.created, member.suspended
    resource_type = models.CharField(max_length=40)
    resource_id = models.UUIDField(null=True)
    description = models.CharField(max_length=300, blank=True)
    changes = models.JSONField(default=dict)
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True)

    class Meta:
        verbose_name_plural = "activities"
        indexes = [models.Index(fields=["brand", "-created_at"], name="activities_of_a_brand")]

    def __str__(self) -> str:
        return self.action
