"""What leaves the product: a link for others, a file to take home."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q

from accounts.models import Owned
from conversations.models.conversation import Conversation


class Share(Owned):
    """A chat as it was at one moment, for whoever has the link. What is said in it afterwards is not in it.

    The link is made from the row and SECRET_KEY (conversations/chats/sharing.py); here stands its digest only.
    """

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="shares", db_constraint=False)
    token_hash = models.CharField(max_length=64)
    title = models.CharField(max_length=200)
    snapshot = models.JSONField()  # {"messages": [{"role", "text", "model"}]}
    expires_at = models.DateTimeField(null=True)  # null = never
    revoked_at = models.DateTimeField(null=True)
    views = models.PositiveBigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["brand", "token_hash"], name="one_share_for_each_link")]
        indexes = [models.Index(fields=["brand", "owner_id", "-id"], name="shares_of_owner")]

    def __str__(self) -> str:
        return self.title


class Export(Owned):
    """Something a person takes home that is too much for one answer: made in the background, kept for a day.

    `done` of `total` chats lie in `parts`, files of their own, until all are there and become one file.
    """

    class Kind(models.TextChoices):
        CHATS = "chats"
        EVERYTHING = "everything"  # "Download all my data"

    class Form(models.TextChoices):
        JSON = "json"
        MARKDOWN = "markdown"
        PDF = "pdf"

    class State(models.TextChoices):
        WAITING = "waiting"
        RUNNING = "running"
        DONE = "done"
        FAILED = "failed"
        CANCELLED = "cancelled"

    kind = models.CharField(max_length=12, choices=Kind)
    form = models.CharField(max_length=10, choices=Form)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, db_default=State.WAITING)
    chats = ArrayField(models.UUIDField())  # which, as they were chosen; one that is deleted meanwhile is left out
    total = models.PositiveIntegerField()
    done = models.PositiveIntegerField(default=0, db_default=0)
    parts = ArrayField(models.CharField(max_length=200), default=list, db_default=[])  # keys of lib.files
    file_key = models.CharField(max_length=200, blank=True, default="", db_default="")
    size_bytes = models.PositiveBigIntegerField(default=0, db_default=0)
    error = models.CharField(max_length=500, blank=True, default="", db_default="")
    moved_at = models.DateTimeField()  # when it last came on; whoever works on it has it until it has not for a while
    ended_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField(null=True)  # when its file is deleted

    class Meta:
        indexes = [
            models.Index(fields=["brand", "owner_id", "-id"], name="exports_of_owner"),
            models.Index(fields=["moved_at"], condition=Q(state__in=["waiting", "running"]), name="exports_under_way"),
            models.Index(fields=["expires_at"], condition=~Q(expires_at=None), name="exports_to_forget"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} as {self.form}, {self.state}"


UNDER_WAY = (Export.State.WAITING, Export.State.RUNNING)
