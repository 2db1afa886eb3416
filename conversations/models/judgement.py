"""What readers think of an answer."""

from django.db import models
from django.db.models import Q

from accounts.models import Owned
from conversations.models.conversation import Conversation


class Feedback(Owned):
    """What its reader thinks of an answer; S3's `feedback_rating` on the message says the same."""

    conversation = models.ForeignKey(
        Conversation, models.CASCADE, related_name="feedback", db_constraint=False, db_index=False
    )
    message_id = models.UUIDField()
    rating = models.SmallIntegerField()  # 1 good, -1 bad
    reason = models.CharField(max_length=2000, blank=True, default="", db_default="")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "message_id"], name="one_feedback_for_each_message"),
            models.CheckConstraint(condition=Q(rating__in=[1, -1]), name="feedback_is_good_or_bad"),
        ]
        indexes = [models.Index(fields=["conversation"], name="feedback_of_conversation")]

    def __str__(self) -> str:
        return f"{self.rating:+d} for {self.message_id}"


class Correction(Owned):
    """What an answer should have said (S3 `corrections`). Nobody but its author reads it before the brand approves it."""

    class Status(models.TextChoices):
        PENDING = "pending"
        APPROVED = "approved"
        REJECTED = "rejected"
        APPLIED = "applied"

    conversation = models.ForeignKey(
        Conversation, models.CASCADE, related_name="corrections", db_constraint=False, db_index=False
    )
    message_id = models.UUIDField()
    agent_id = models.UUIDField(null=True)
    original_response = models.TextField()
    corrected_response = models.TextField()
    reason = models.CharField(max_length=2000, blank=True, default="", db_default="")
    correction_type = models.CharField(max_length=40, blank=True, default="", db_default="")
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING, db_default=Status.PENDING)
    was_helpful = models.BooleanField(null=True)
    feedback_notes = models.TextField(blank=True, default="", db_default="")
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "message_id"], name="one_correction_for_each_message")
        ]
        indexes = [models.Index(fields=["conversation"], name="corrections_of_conversation")]

    def __str__(self) -> str:
        return f"{self.status} correction of {self.message_id}"
