"""What happened: one append-only stream for programs, one log for people who must answer for what they did, and what is wrong
now for those who run the house."""

from django.db import models
from django.db.models import Q

from accounts.models import BrandOwned, User
from lib.ids import uuid7


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


class Alarm(models.Model):
    """A condition that is looked at again and again, and whether it is true now. The log has its history."""

    name = models.CharField(max_length=40, primary_key=True)
    value = models.FloatField(default=0, db_default=0)
    detail = models.CharField(max_length=300, blank=True, default="", db_default="")
    checked_at = models.DateTimeField()
    since = models.DateTimeField(null=True)  # of the trouble; null = all is well
    told_at = models.DateTimeField(null=True)  # when ADMINS were mailed of the state that is now

    def __str__(self) -> str:
        return f"{self.name}: {self.value:g}{' since ' + f'{self.since:%Y-%m-%d %H:%M}' if self.since else ''}"


class DeadLetter(models.Model):
    """A task that was not done and will not be by itself, with what it takes to do it again. Arguments are ids."""

    class Reason(models.TextChoices):
        FAILED = "failed", "it failed, and every repeat did"
        KILLED = "killed", "each worker that took it died"
        UNSENT = "unsent", "the queue was away when it was to be sent"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    task = models.CharField(max_length=120)
    args = models.JSONField(default=list)
    kwargs = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True, default="", db_default="")
    reason = models.CharField(max_length=10, choices=Reason)
    error = models.CharField(max_length=500, blank=True, default="", db_default="")
    sent_again_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["created_at"], condition=Q(sent_again_at=None), name="letters_lying")]

    def __str__(self) -> str:
        return f"{self.task} {self.reason}"
