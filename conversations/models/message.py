"""What was said: messages, and the files on their way to one."""

from django.db import models
from django.db.models import Q

from accounts.models import Owned
from conversations.models.conversation import Conversation
from conversations.models.defaults import EMPTY, NONE


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
