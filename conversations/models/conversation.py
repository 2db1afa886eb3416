"""A thread of messages, and what somebody wrote before they had an account to keep one."""

from django.db import models
from django.db.models import Q
from django.db.models.functions import Now

from accounts.models import Owned
from conversations.models.defaults import EMPTY


class Conversation(Owned):
    """A thread of messages (S0 `conversations`, S1, S2, S3, S4 `chats`). `owner_id` is its member or its visitor."""

    class OwnerKind(models.TextChoices):
        USER = "user"
        VISITOR = "visitor"

    class Source(models.TextChoices):
        WEBSITE = "website"
        WIDGET = "widget"
        API = "api"
        MOBILE = "mobile"

    owner_kind = models.CharField(max_length=10, choices=OwnerKind, default=OwnerKind.USER, db_default=OwnerKind.USER)
    title = models.CharField(max_length=200)
    model = models.CharField(
        max_length=80, blank=True, default="", db_default=""
    )  # api_identifier of the provider asked last
    provider_id = models.UUIDField(null=True)
    system_prompt_id = models.UUIDField(null=True)
    system_prompt = models.TextField(
        blank=True, default="", db_default=""
    )  # of this conversation's own; wins over system_prompt_id
    settings = models.JSONField(default=dict, db_default=EMPTY)  # temperature, max_tokens, top_p
    metadata = models.JSONField(default=dict, db_default=EMPTY)
    total_tokens_used = models.BigIntegerField(default=0, db_default=0)
    total_cost_microusd = models.BigIntegerField(default=0, db_default=0)
    message_count = models.PositiveIntegerField(default=0, db_default=0)
    # Its plan was charged one conversation. Until an answer of it has arrived and was paid by the plan, it was not.
    is_counted = models.BooleanField(default=True, db_default=True)
    updated_at = models.DateTimeField(auto_now=True)
    last_message_at = models.DateTimeField(null=True, db_default=Now())  # how long it is kept is counted from here
    archived_at = models.DateTimeField(null=True)
    deleted_at = models.DateTimeField(null=True)  # in the bin for 30 days
    pinned_at = models.DateTimeField(null=True)  # kept, whatever the plan says
    titled_at = models.DateTimeField(null=True)  # a better title than the first words was tried, once
    continues_id = models.UUIDField(null=True)  # the chat whose summary this one begins with
    # S1: what the person was looking at
    context_type = models.CharField(max_length=40, blank=True, default="", db_default="")
    context_id = models.CharField(max_length=120, blank=True, default="", db_default="")
    context_label = models.CharField(max_length=200, blank=True, default="", db_default="")
    # S2: how long and how dear
    duration_seconds = models.PositiveIntegerField(default=0, db_default=0)
    estimated_tokens = models.BigIntegerField(default=0, db_default=0)
    usage_metadata = models.JSONField(default=dict, db_default=EMPTY)
    # S3: an agent's talk with a visitor
    agent_id = models.UUIDField(null=True)
    visitor_id = models.UUIDField(null=True)
    visitor_name = models.CharField(max_length=120, blank=True, default="", db_default="")
    visitor_email = models.CharField(max_length=254, blank=True, default="", db_default="")
    visitor_phone = models.CharField(max_length=40, blank=True, default="", db_default="")
    visitor_ip = models.GenericIPAddressField(null=True)
    visitor_location = models.CharField(max_length=120, blank=True, default="", db_default="")
    visitor_metadata = models.JSONField(default=dict, db_default=EMPTY)
    source = models.CharField(max_length=10, choices=Source, default=Source.WEBSITE, db_default=Source.WEBSITE)
    resolved_at = models.DateTimeField(null=True)
    is_lead = models.BooleanField(default=False, db_default=False)
    lead_captured_at = models.DateTimeField(null=True)
    sentiment_score = models.FloatField(null=True)
    sentiment_label = models.CharField(max_length=10, blank=True, default="", db_default="")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "id"], name="conversation_of_owner"),
            models.CheckConstraint(
                condition=Q(owner_kind="user") | Q(owner_kind="visitor", visitor_id__isnull=False),
                name="visitor_conversation_names_visitor",
            ),
        ]
        indexes = [
            models.Index(fields=["brand", "owner_id", "-last_message_at", "-id"], name="conversations_newest_first"),
            models.Index(
                fields=["brand", "deleted_at"], condition=Q(deleted_at__isnull=False), name="conversations_in_the_bin"
            ),
            models.Index(
                fields=["brand", "owner_id"], condition=Q(pinned_at__isnull=False), name="conversations_pinned"
            ),
            models.Index(
                fields=["continues_id"], condition=Q(continues_id__isnull=False), name="conversations_that_continue"
            ),
            models.Index(
                fields=["brand", "last_message_at"], condition=Q(owner_kind="visitor"), name="conversations_of_visitors"
            ),
        ]

    def __str__(self) -> str:
        return self.title

    @property
    def status(self) -> str:
        """S3's word, derived: archived, resolved or active."""
        return "archived" if self.archived_at else "resolved" if self.resolved_at else "active"


class PendingMessage(Owned):
    """What somebody without an account wrote when the free questions were used up (S4 `pendingChatMessage`).

    Stored before sign-up is offered, and the visitor's until the new account adopts it; then it is sent once, under its id.
    """

    text = models.TextField(blank=True)  # emptied when it is sent: the chat has it
    conversation_id = models.UUIDField(null=True)  # of the chat it was written in, and that it was sent to
    provider_id = models.UUIDField(null=True)
    system_prompt_id = models.UUIDField(null=True)
    asked = models.JSONField(
        default=dict, db_default=EMPTY
    )  # `about`, `settings`, `own_prompt`; `edits`, a message's id
    returned_at = models.DateTimeField(null=True)  # it could not be sent: its text is back in the composer
    sent_at = models.DateTimeField(null=True)
    expires_at = models.DateTimeField()

    class Meta:
        indexes = [
            models.Index(fields=["brand", "owner_id", "-id"], name="pending_of_an_owner"),
            models.Index(fields=["expires_at"], name="pending_to_expire"),
        ]

    def __str__(self) -> str:
        return f"of {self.owner_id}"
