"""What happened: one append-only stream for programs, one log for people who must answer for what they did, what people were
told and mailed, and what is wrong now for those who run the house."""

from typing import Any, ClassVar

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.db.models import F, Func, Q

from accounts.models import Brand, BrandOwned, Owned, User
from lib.ids import uuid7
from lib.sealed import SealedTextField


class FilledIn(models.BigIntegerField):
    """Filled in by the database and not read back: whoever may only add rows could not."""

    db_returning = False

    def deconstruct(self) -> Any:
        name, _, args, kwargs = super().deconstruct()
        return name, "django.db.models.BigIntegerField", args, kwargs


class Event(BrandOwned):
    """One thing that happened, written in the transaction that did it. Readers (webhooks, notices, statistics) follow."""

    COLUMNS: ClassVar = (
        *("id", "brand_id", "type", "subject_kind", "subject_id", "owner_id", "data", "created_at", "xid", "seq"),
    )

    type = models.CharField(max_length=60)  # dotted: message.completed; the names stand in docs/events.md
    subject_kind = models.CharField(max_length=40)
    subject_id = models.UUIDField()
    owner_id = models.UUIDField(null=True)  # whose doing it was, when it was a person's
    data = models.JSONField(default=dict)
    # What events.reading goes by; the database fills both in. Rows of before they were there have 0.
    xid = FilledIn(db_default=Func(function="pg_current_xact_id", template="(%(function)s()::text)::bigint"))
    seq = FilledIn(db_default=0, editable=False)

    class Meta:
        indexes = [
            models.Index(fields=["brand", "subject_id", "id"], name="events_of_a_subject"),
            models.Index(fields=["xid", "seq"], name="events_in_order"),
        ]

    def __str__(self) -> str:
        return self.type


class Activity(models.Model):
    """A line of the audit log: who did what to which row, and the values before and after (events.activity). Never edited.

    It names people by id only. A line without a brand is the house's own: no policy but the service's shows it.
    """

    class ActorKind(models.TextChoices):
        MEMBER = "member"
        KEY = "key", "API key"
        STAFF = "staff"
        SYSTEM = "system"
        NOBODY = "nobody", "nobody we know"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    brand = models.ForeignKey(Brand, models.PROTECT, null=True, related_name="+")
    created_at = models.DateTimeField(auto_now_add=True)
    actor = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", db_constraint=False)
    actor_kind = models.CharField(max_length=10, choices=ActorKind, default=ActorKind.MEMBER)
    key_id = models.UUIDField(null=True)  # the API key that acted for its member
    action = models.CharField(max_length=60)  # support.read, key.created, member.suspended
    resource_type = models.CharField(max_length=40)
    resource_id = models.UUIDField(null=True)
    description = models.CharField(max_length=300, blank=True)
    changes = models.JSONField(default=dict)
    request_id = models.CharField(max_length=64, blank=True, default="")
    origin = models.BinaryField(null=True)  # digest of the ActivityOrigin; null = there is none

    class Meta:
        verbose_name_plural = "activities"
        indexes = [
            models.Index(fields=["brand", "-created_at"], name="activities_of_a_brand"),
            models.Index(fields=["brand", "-id"], name="activities_page_by_page"),
            models.Index(fields=["actor", "-id"], name="activities_of_an_actor"),
            models.Index(fields=["resource_id", "-id"], name="activities_of_a_row"),
        ]

    def __str__(self) -> str:
        return self.action


class ActivityOrigin(models.Model):
    """Where whoever did it asked from, beside the line of the same id. Deleted when its owner is erased.

    The line holds a digest of it. Without the salt nobody can find the address by trying them all.
    """

    id = models.UUIDField(primary_key=True, editable=False)  # of the Activity
    brand = models.ForeignKey(Brand, models.PROTECT, null=True, related_name="+")
    owner_id = models.UUIDField()  # who asked; zeros = nobody we know
    ip_address = models.GenericIPAddressField(null=True)
    user_agent = models.CharField(max_length=300, blank=True, default="")
    salt = models.BinaryField(default=bytes)

    class Meta:
        indexes = [models.Index(fields=["owner_id"], name="origins_of_a_person")]

    def __str__(self) -> str:
        return self.ip_address or "unknown"


class ActivityLink(models.Model):
    """A line's place in the chain of its brand, made by the database when the line is committed. Never edited, nor deleted.

    No column is called brand_id, nor is there a foreign key: a link outlives what it proves.
    """

    id = models.UUIDField(primary_key=True, editable=False)  # of the Activity
    chain = models.UUIDField()  # the brand; zeros = the house
    number = models.BigIntegerField()  # from 1, without a gap
    digest = models.BinaryField()  # SHA-256 over the line, its number and the digest before

    class Meta:
        constraints = [models.UniqueConstraint(fields=["chain", "number"], name="one_link_after_the_other")]

    def __str__(self) -> str:
        return f"{self.number} of {self.chain}"


class ActivityHead(models.Model):
    """How long a chain is and how it ends, so that cutting its end off is seen. Whoever links holds its lock."""

    id = models.UUIDField(primary_key=True, editable=False)  # the brand; zeros = the house
    length = models.BigIntegerField()
    digest = models.BinaryField()

    def __str__(self) -> str:
        return f"{self.id}: {self.length}"


class Reader(models.Model):
    """How far somebody who follows the stream has come (events.reading.Place)."""

    name = models.CharField(max_length=40, primary_key=True)
    place = models.TextField(db_default="1")
    read_until = models.DateTimeField()  # when that was

    def __str__(self) -> str:
        return f"{self.name}, {self.read_until:%Y-%m-%d %H:%M:%S}"


class Notification(Owned):
    """Something one person should know, behind the bell of the page, where it is marked as read."""

    class Type(models.TextChoices):
        NEW_CONVERSATION = "new_conversation"
        NEW_LEAD = "new_lead"
        NEW_MESSAGE = "new_message"
        USAGE_LIMIT = "usage_limit"
        BILLING_UPDATE = "billing_update"
        KEY_UPDATE = "key_update"
        SYSTEM = "system"

    class Priority(models.TextChoices):
        LOW = "low"
        NORMAL = "normal"
        HIGH = "high"
        URGENT = "urgent"

    type = models.CharField(max_length=40, choices=Type)
    title = models.CharField(max_length=120)
    message = models.CharField(max_length=600)
    priority = models.CharField(max_length=10, choices=Priority, default=Priority.NORMAL)
    action_url = models.CharField(max_length=300, blank=True)  # a path of this site
    action_label = models.CharField(max_length=60, blank=True)
    agent_id = models.UUIDField(null=True)  # which agent it is about
    once = models.CharField(max_length=120, blank=True)  # told once for each person; "" = as often as it happens
    read_at = models.DateTimeField(null=True)
    is_silent = models.BooleanField(default=False, db_default=False)  # the bell was off: it was never unread there
    count = models.PositiveIntegerField(default=1, db_default=1)  # of how many this one tells
    grouping = models.CharField(
        max_length=80, blank=True, default="", db_default=""
    )  # while it may come to tell of more
    head_id = models.UUIDField(null=True)  # the notice that tells of this one too; it is shown nowhere else

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "owner_id", "once"], condition=~Q(once=""), name="told_once_to_each_person"
            ),
            models.UniqueConstraint(
                fields=["brand", "owner_id", "grouping"], condition=~Q(grouping=""), name="one_open_group_of_notices"
            ),
        ]
        indexes = [models.Index(fields=["brand", "owner_id", "-id"], name="notifications_of_a_person")]

    def __str__(self) -> str:
        return self.title


class NoticePreference(Owned):
    """How one person wants to hear of one kind of thing on one brand. No row: as events.choices has it for everybody."""

    class Digest(models.TextChoices):
        DAILY = "daily"
        WEEKLY = "weekly"

    type = models.CharField(max_length=40, choices=Notification.Type)
    in_app = models.BooleanField(default=True)
    by_mail = models.BooleanField(default=True)
    digest = models.CharField(max_length=10, choices=Digest, blank=True, default="", db_default="")  # "" = at once
    digested_until = models.DateTimeField(null=True)  # what is newer has been in no digest

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "type"], name="one_preference_for_each_kind")
        ]

    def __str__(self) -> str:
        return f"{self.type}: {'bell' if self.in_app else ''} {'mail' if self.by_mail else ''}"


class WebhookEndpoint(BrandOwned):
    """An address of a brand's own that is told of what happens there (S3 `webhooks`), signed by Standard Webhooks."""

    class Off(models.TextChoices):
        """Why it is switched off."""

        BY_HAND = "by_hand"
        GONE = "gone"  # it answered 410
        FAILING = "failing"  # for days on end

    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", db_constraint=False)  # who made it
    agent_id = models.UUIDField(null=True)  # events of this agent only
    name = models.CharField(max_length=80)
    url = models.CharField(max_length=1000)
    events = ArrayField(models.CharField(max_length=60))  # names, `conversation.*`, or `*`
    secret = SealedTextField(bind=("pk", "brand_id"))  # whsec_...
    old_secret = SealedTextField(bind=("pk", "brand_id"), null=True)  # signs too, until then
    old_secret_until = models.DateTimeField(null=True)
    older_secrets = SealedTextField(bind=("pk", "brand_id"), null=True)  # a JSON list of those before, [secret, until]
    custom_headers = SealedTextField(
        bind=("pk", "brand_id"), null=True
    )  # a JSON object; a value may be a key of theirs
    is_active = models.BooleanField(default=True)
    off_because = models.CharField(max_length=10, choices=Off, blank=True, default="")
    retry_failed = models.BooleanField(default=True)
    max_retries = models.PositiveSmallIntegerField(default=9)
    # Of deliveries that are over, one way or the other; one that is sent again counts again.
    total_deliveries = models.PositiveBigIntegerField(default=0)
    successful_deliveries = models.PositiveBigIntegerField(default=0)
    failed_deliveries = models.PositiveBigIntegerField(default=0)
    failing_since = models.DateTimeField(null=True)  # the first attempt that failed after the last one that did not
    last_delivered_at = models.DateTimeField(null=True)
    updated_at = models.DateTimeField(auto_now=True)
    # Which key of the ring sealed it, read by the database from the envelope itself.
    key_id = models.GeneratedField(
        expression=Func(
            F("secret"),
            template="encode(substring(%(expressions)s from 3 for get_byte(%(expressions)s, 1)), 'escape')",
            output_field=models.TextField(),
        ),
        output_field=models.TextField(),
        db_persist=True,
    )

    class Meta:
        constraints = [models.UniqueConstraint(fields=["brand", "id"], name="webhook_of_its_brand")]

    def __str__(self) -> str:
        return self.name


class WebhookDelivery(BrandOwned):
    """One event on its way to one endpoint, and how that went (S3 `webhook_deliveries`)."""

    class Status(models.TextChoices):
        PENDING = "pending"
        DELIVERED = "delivered"
        FAILED = "failed"
        CANCELLED = "cancelled"  # its endpoint was switched off before

    webhook = models.ForeignKey(WebhookEndpoint, models.CASCADE, related_name="deliveries", db_constraint=False)
    message_id = models.UUIDField()  # webhook-id: the event's, the same in every attempt and when it is sent again
    event_type = models.CharField(max_length=60)
    event_data = models.JSONField()  # the body
    status = models.CharField(max_length=10, choices=Status, default=Status.PENDING)
    http_status = models.PositiveSmallIntegerField(null=True)  # of the last attempt; null = there was no answer
    response_body = models.TextField(blank=True, default="")  # its beginning, 4 kB at most, without secrets of ours
    error_message = models.CharField(max_length=300, blank=True, default="")
    attempt_count = models.PositiveSmallIntegerField(default=0)  # since it was queued, or sent again by hand
    attempts = models.JSONField(default=list)  # of the last 20: at, http_status, ms
    next_retry_at = models.DateTimeField(null=True)  # while it is pending; whoever sends it moves it on first
    delivered_at = models.DateTimeField(null=True)
    duration_ms = models.PositiveIntegerField(null=True)  # of the last attempt
    replayed_at = models.DateTimeField(null=True)  # when it was sent again by hand; the same for all of one range

    class Meta:
        verbose_name_plural = "webhook deliveries"
        constraints = [
            models.UniqueConstraint(fields=["brand", "webhook", "message_id"], name="one_delivery_of_each_event")
        ]
        indexes = [
            models.Index(fields=["webhook", "next_retry_at"], condition=Q(status="pending"), name="deliveries_waiting"),
            models.Index(fields=["webhook", "-id"], name="deliveries_of_a_webhook"),
            models.Index(fields=["brand", "-id"], name="deliveries_of_a_brand"),
            models.Index(
                fields=["webhook", "replayed_at"], condition=Q(replayed_at__isnull=False), name="deliveries_sent_again"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.event_type} {self.status}"


class EmailLog(models.Model):
    """One mail to one address, from the moment it was decided on. What it says is made from its template when it is sent.

    No column is called brand_id: a mail may be on no brand's behalf (to ADMINS), and nobody but staff reads this table.
    """

    class Status(models.TextChoices):
        QUEUED = "queued"
        SENT = "sent", "sent: the mail server took it"
        FAILED = "failed", "failed: not sent, and will not be"
        SUPPRESSED = "suppressed", "suppressed: not sent, because its address is blocked"
        DELIVERED = "delivered"  # this and what follows only a provider that reports back can tell
        OPENED = "opened"
        CLICKED = "clicked"
        BOUNCED = "bounced", "bounced: it came back"
        COMPLAINED = "complained", "complained: its reader called it spam"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    created_at = models.DateTimeField(auto_now_add=True)
    brand = models.ForeignKey(Brand, models.PROTECT, null=True, related_name="+", db_column="of_brand_id")
    user = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", db_constraint=False)
    to_email = models.EmailField(max_length=320)
    from_email = models.CharField(max_length=320)
    subject = models.CharField(max_length=300)
    email_type = models.CharField(max_length=40)
    template_id = models.CharField(max_length=80)
    template_data = models.JSONField(default=dict)  # never a link that opens a door, nor a token
    once = models.CharField(max_length=160, blank=True)  # sent once for each brand; "" = each time
    status = models.CharField(max_length=10, choices=Status, default=Status.QUEUED)
    provider = models.CharField(max_length=40, blank=True)
    provider_message_id = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()  # while it is queued; moved on by whoever tries, so that nobody else does
    error = models.CharField(max_length=300, blank=True)
    sent_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)
    opened_at = models.DateTimeField(null=True)
    clicked_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = "e-mail"
        constraints = [
            models.UniqueConstraint(
                fields=["brand", "once"], condition=~Q(once=""), nulls_distinct=False, name="one_mail_for_each_cause"
            )
        ]
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=Q(status="queued"), name="mails_waiting"),
            models.Index(fields=["created_at"], condition=Q(status="failed"), name="mails_failed"),
            models.Index(fields=["brand", "-id"], name="mails_of_a_brand"),
            models.Index(
                fields=["provider_message_id"], condition=~Q(provider_message_id=""), name="mails_by_their_provider"
            ),
        ]

    def __str__(self) -> str:
        return f"{self.email_type} to {self.to_email}"


class BlockedAddress(models.Model):
    """Mail to this address came back or was not wanted, so none is sent to it until somebody lifts that.

    Of the house and not of a brand: a mail server that is written to in vain thinks worse of all of us.
    """

    class Reason(models.TextChoices):
        BOUNCED = "bounced", "mail to it came back for good"
        COMPLAINED = "complained", "its reader called a mail of ours spam"
        UNSUBSCRIBED = "unsubscribed", "its reader told the mail provider to stop"

    address = models.EmailField(max_length=320, primary_key=True)  # in small letters
    reason = models.CharField(max_length=12, choices=Reason)
    detail = models.CharField(max_length=300, blank=True)  # what the other mail server said
    mail_id = models.UUIDField(null=True)  # the mail that showed it
    blocked_at = models.DateTimeField()
    lifted_at = models.DateTimeField(null=True)  # since then it is written to again, unless blocked_at is later
    lifted_by = models.ForeignKey(User, models.SET_NULL, null=True, related_name="+", db_constraint=False)

    class Meta:
        verbose_name_plural = "blocked addresses"

    def __str__(self) -> str:
        return f"{self.address} {self.reason}"


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
