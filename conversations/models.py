"""What people say and what is answered. Content lives here and may be deleted; what it cost lives in quotas and stays."""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import Q, Value
from django.db.models.functions import Now

from accounts.models import BrandOwned, Owned

EMPTY = Value({}, models.JSONField())
NONE = Value([], models.JSONField())


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


class Message(Owned):
    """One thing said (S0 `messages`, S4 `chat_messages`). An answer's row exists before its first word does."""

    class Role(models.TextChoices):
        SYSTEM = "system"
        USER = "user"
        ASSISTANT = "assistant"
        FUNCTION = "function"

    class Status(models.TextChoices):
        DONE = "done"
        PENDING = "pending"  # its turn still runs
        STOPPED = "stopped"
        FAILED = "failed"
        INTERRUPTED = "interrupted"

    conversation = models.ForeignKey(Conversation, models.CASCADE, related_name="messages", db_constraint=False)
    role = models.CharField(max_length=10, choices=Role)
    content = models.TextField(blank=True, default="", db_default="")
    status = models.CharField(max_length=12, choices=Status, default=Status.DONE, db_default=Status.DONE)
    error_code = models.CharField(max_length=60, blank=True, default="", db_default="")
    error_detail = models.CharField(max_length=500, blank=True, default="", db_default="")
    is_charged = models.BooleanField(default=False, db_default=False)
    turn_id = models.UUIDField(null=True)
    provider_id = models.UUIDField(null=True)
    system_prompt_id = models.UUIDField(null=True)
    model = models.CharField(max_length=80, blank=True, default="", db_default="")
    model_name = models.CharField(max_length=80, blank=True, default="", db_default="")  # as the receipt shows it
    tokens_used = models.BigIntegerField(default=0, db_default=0)
    token_usage = models.JSONField(
        default=dict, db_default=EMPTY
    )  # {"prompt_tokens", "completion_tokens", "source": "provider"|"own"}
    cost_microusd = models.BigIntegerField(default=0, db_default=0)
    response_time_ms = models.PositiveIntegerField(null=True)
    metadata = models.JSONField(default=dict, db_default=EMPTY)
    # What went with a question: [{"name", "kind", "bytes", "pages", "is_cut"}], and their text as the model is given it.
    files = models.JSONField(default=list, db_default=NONE)
    file_text = models.TextField(blank=True, default="", db_default="")  # long: read it only where a model is asked
    function_call = models.JSONField(null=True)
    # The tree (ADR 8): an edit and another answer stand beside what was there. One path of it is shown and told to models.
    parent_id = models.UUIDField(null=True)  # the message before it on its branch; null: it is the first
    is_current = models.BooleanField(default=True, db_default=True)  # on the path that is shown, in order of ids
    edited_from_id = models.UUIDField(null=True)  # the question as it was before
    deleted_at = models.DateTimeField(null=True)  # by its person; what hangs on it and what it cost stay
    withdrawn = models.JSONField(null=True)  # what it said, for as long as deleting it can be taken back
    sentiment_score = models.FloatField(null=True)
    sentiment_label = models.CharField(max_length=10, blank=True, default="", db_default="")
    was_corrected = models.BooleanField(default=False, db_default=False)
    correction_id = models.UUIDField(null=True)
    feedback_rating = models.SmallIntegerField(null=True)

    class Meta:
        indexes = [
            models.Index(fields=["conversation", "id"], name="messages_in_order"),  # uuid7: ids sort by time
            models.Index(fields=["brand", "owner_id"], name="messages_of_owner"),
            models.Index(fields=["deleted_at"], condition=Q(withdrawn__isnull=False), name="messages_to_be_gone"),
        ]

    def __str__(self) -> str:
        return f"{self.role}: {self.content[:60]}"


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


class Attachment(Owned):
    """A file on its way to a question. Its bytes are kept until they are read, its text until it goes with the question.

    Then the text is the message's (`Message.file_text`), and this row is gone: whoever deletes a message deletes its files.
    """

    class State(models.TextChoices):
        WAITING = "waiting"
        READING = "reading"
        READY = "ready"
        FAILED = "failed"

    class Kind(models.TextChoices):
        TEXT = "text"
        MARKDOWN = "markdown"
        CSV = "csv"
        PDF = "pdf"
        DOCX = "docx"

    conversation = models.ForeignKey(
        Conversation, models.CASCADE, null=True, related_name="attachments", db_constraint=False, db_index=False
    )  # where its question is being written; null: in a chat that is not begun
    name = models.CharField(max_length=200)  # as people see it; nothing is stored under it
    kind = models.CharField(max_length=10, choices=Kind)
    size_bytes = models.PositiveIntegerField()
    content = models.BinaryField(null=True)
    state = models.CharField(max_length=10, choices=State, default=State.WAITING, db_default=State.WAITING)
    pages = models.PositiveIntegerField(null=True)
    pages_read = models.PositiveIntegerField(default=0, db_default=0)
    error = models.CharField(max_length=500, blank=True, default="", db_default="")
    text = models.TextField(blank=True, default="", db_default="")
    is_cut = models.BooleanField(default=False, db_default=False)  # there was more than is ever read
    changed_at = models.DateTimeField()  # while it is read, its sign of life

    class Meta:
        indexes = [models.Index(fields=["brand", "owner_id", "conversation"], name="attachments_of_owner")]

    def __str__(self) -> str:
        return f"{self.state} {self.kind} {self.pk}"


OPEN_STATES = (Turn.Status.PENDING, Turn.Status.STREAMING)


class PendingMessage(Owned):
    """What somebody without an account wrote when the free questions were used up (S4 `pendingChatMessage`).

    Stored before sign-up is offered, and the visitor's until the new account adopts it; then it is sent once, under its id.
    """

    text = models.TextField(blank=True)  # emptied when it is sent: the chat has it
    conversation_id = models.UUIDField(null=True)  # of the chat it was written in, and that it was sent to
    provider_id = models.UUIDField(null=True)
    system_prompt_id = models.UUIDField(null=True)
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


class Starter(models.Model):
    """A question to begin with (S0, S2: conversation starters). `{fields}` in its text are asked for before it is sent."""

    title = models.CharField(max_length=80)
    text = models.TextField(max_length=4000)
    needs = models.CharField(max_length=160, blank=True, default="", db_default="")  # of whoever uses it, in words
    position = models.PositiveSmallIntegerField(default=100, db_default=100)
    is_active = models.BooleanField(default=True, db_default=True)
    updated_at = models.DateTimeField(auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True)  # can be taken back for 30 days

    class Meta:
        abstract = True
        ordering = ["position", "id"]

    def __str__(self) -> str:
        return self.title


class Template(Owned, Starter):
    """A member's own starter."""

    class Meta(Starter.Meta):
        indexes = [models.Index(fields=["brand", "owner_id", "position"], name="templates_of_owner")]


class BrandTemplate(BrandOwned, Starter):
    """A starter that the brand gives to all who ask there, visitors too."""

    class Meta(Starter.Meta):
        verbose_name = "template of a brand"
        verbose_name_plural = "templates of brands"
        indexes = [models.Index(fields=["brand", "position"], name="templates_of_brand")]
