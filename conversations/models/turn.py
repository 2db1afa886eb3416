"""One call of a provider, and when the reaper last looked for turns that nobody writes any more."""

from django.db import models
from django.db.models import Q

from accounts.models import Owned
from conversations.models.conversation import Conversation
from conversations.models.defaults import EMPTY, NONE


class Turn(Owned):
    """One call of a provider, from the hold to the bill. Its id is also the reservation in the ledger.

    `conversation` is null for a program's call that keeps nothing: then no content stands here either.
    """

    class Status(models.TextChoices):
        PENDING = "pending"  # begun; no piece stored yet
        STREAMING = "streaming"
        DONE = "done"
        STOPPED = "stopped"
        FAILED = "failed"
        INTERRUPTED = "interrupted"  # its process died

    conversation = models.ForeignKey(Conversation, models.CASCADE, null=True, related_name="turns", db_constraint=False)
    message_id = models.UUIDField(null=True)  # the answer's
    provider_id = models.UUIDField()
    api_key_id = models.UUIDField(null=True)
    status = models.CharField(max_length=12, choices=Status, default=Status.PENDING, db_default=Status.PENDING)
    partial = models.TextField(
        blank=True, default="", db_default=""
    )  # as of the last checkpoint; emptied when the message has it
    produced_tokens = models.BigIntegerField(default=0, db_default=0)  # own count as of the last checkpoint
    sent = models.JSONField(
        default=dict, db_default=EMPTY
    )  # what went to the provider: ids of messages, prompt, parameters
    prompt_tokens_estimate = models.BigIntegerField(default=0, db_default=0)
    held_tokens = models.BigIntegerField(default=0, db_default=0)  # no more than this is ever charged
    heartbeat_at = models.DateTimeField()
    first_piece_at = models.DateTimeField(null=True)
    first_piece_ms = models.IntegerField(null=True)  # from asking the model that answered; null: none came
    ended_at = models.DateTimeField(null=True)
    is_charged = models.BooleanField(default=False, db_default=False)
    pocket = models.CharField(
        max_length=10, blank=True, default="", db_default=""
    )  # what pays: plan, pack, overage, own_key
    error_code = models.CharField(max_length=60, blank=True, default="", db_default="")
    request_id = models.CharField(max_length=64, blank=True, default="", db_default="")  # of the request that asked
    stop_asked_at = models.DateTimeField(null=True)  # a person wants it stopped, whichever process writes it
    # calls that failed and were followed by another, of the same model or the next one of the brand's chain; the last
    # one's end is the turn's own: [{"provider_id", "model", "error_code", "ms"}]
    attempts = models.JSONField(default=list, db_default=NONE)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "owner_id", "conversation"],  # an error must not tell strangers of a turn
                condition=Q(status__in=["pending", "streaming"]),
                name="one_running_turn_per_conversation",
            ),
        ]
        indexes = [
            models.Index(
                fields=["heartbeat_at"], condition=Q(status__in=["pending", "streaming"]), name="turns_running"
            ),
            # Only what has ended: a heartbeat writes nothing here. Ids are uuid7, so this is by time too.
            models.Index(fields=["brand", "id"], condition=~Q(status__in=["pending", "streaming"]), name="turns_ended"),
            models.Index(fields=["request_id"], name="turns_of_a_request"),
        ]

    def __str__(self) -> str:
        return f"{self.status} turn {self.pk}"


OPEN_STATES = (Turn.Status.PENDING, Turn.Status.STREAMING)


class Look(models.Model):
    """When the reaper looked last, in one row. While it could not look, nobody's heartbeat need have got through either.

    Only the last time of blindness is kept; the reaper takes it off the age of a heartbeat.
    """

    id = models.SmallIntegerField(primary_key=True)
    seen_at = models.DateTimeField()
    blind_from = models.DateTimeField()
    blind_until = models.DateTimeField()

    def __str__(self) -> str:
        return f"seen {self.seen_at:%H:%M:%S}"
