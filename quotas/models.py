"""The meter. A Hold is a promise, an Entry is a fact; every number in a Bucket is the sum of its Entries and open Holds."""

from datetime import datetime

from django.db import models
from django.db.models import F, Q

from accounts.models import Owned
from lib.windows import WindowKind


class Meter(models.TextChoices):
    TOKENS = "tokens"
    QUERIES = "queries"
    CONVERSATIONS = "conversations"
    MESSAGES = "messages"
    AGENTS = "agents"
    KNOWLEDGE_BYTES = "knowledge_bytes"
    API_CALLS = "api_calls"
    OVERAGE_MICROUSD = "overage_microusd"  # what a member lets us charge beyond the plan; its limit is the cap


class Account(Owned):
    """Whoever has an allowance. `owner_id` is the subject's own id: the user's, the visitor's, the agent's, the brand's."""

    class Kind(models.TextChoices):
        VISITOR = "visitor"
        NETWORK = "network"
        USER = "user"
        AGENT = "agent"
        BRAND = "brand"
        HOUSE = "house"  # ours: what a provider reports beyond the hold
        VISITORS = "visitors"  # all of a brand's together; last, because ranks stand in rows

    kind = models.CharField(max_length=10, choices=Kind)
    plan_code = models.CharField(max_length=40, blank=True)
    plan_name = models.CharField(max_length=80, blank=True)
    # What the plan says beside its limits: unit (the meter that packs and overage stand for), overage_allowed,
    # overage_by_default, overage_price_microusd, overage_cap_microusd, is_billable, byok_allowed, retention_days,
    # concurrent_turns, rate_limit_per_minute.
    features = models.JSONField(default=dict, blank=True)
    overage_on = models.BooleanField(default=False, db_default=False, help_text="The member's own choice.")
    overage_cap_microusd = models.BigIntegerField(
        null=True, blank=True, help_text="The member's own cap per month; empty = the plan's."
    )
    # Of what was taken back after it was used; == used of the bucket of the pocket `arrears`. No overage while it is owed.
    arrears_microusd = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "kind", "owner_id"], name="one_account_per_subject"),
            models.UniqueConstraint(fields=["brand", "owner_id", "id"], name="account_of_owner"),
            models.CheckConstraint(
                condition=Q(arrears_microusd__gte=0) & (Q(overage_cap_microusd=None) | Q(overage_cap_microusd__gte=0)),
                name="account_owes_and_caps_no_less_than_nothing",
            ),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.owner_id}"


# Rows are locked in this order, the one that most requests share last.
LOCK_RANK = {kind: rank for rank, kind in enumerate(Account.Kind.values)}


class Entitlement(Owned):
    """How much of one meter an account has in each window. Billing sets it; `ends_at` null = the plan's, in force.

    An override for one member stands beside the plan's until `overrides_until`, and only its limit counts, in the plan's
    window. It is known to end, so nothing has to happen then: whoever comes next finds it over, and clears that date.
    """

    account = models.ForeignKey(Account, models.PROTECT, related_name="entitlements", db_constraint=False)
    meter = models.CharField(max_length=20, choices=Meter)
    window = models.CharField(max_length=10, choices=[(kind.value, kind.value) for kind in WindowKind])
    limit = models.BigIntegerField(null=True, help_text="In units of the meter; empty = no limit.")
    anchor_at = models.DateTimeField(
        null=True, help_text="Start of the subscription, from which its months are counted."
    )
    ends_at = models.DateTimeField(null=True)
    overrides_until = models.DateTimeField(null=True, help_text="An override's end, until it was carried out.")
    reason = models.CharField(max_length=200, blank=True, db_default="")
    actor_id = models.UUIDField(null=True)  # the member of staff whose override it is

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "meter"], condition=Q(ends_at=None), name="one_entitlement_in_force_per_meter"
            ),
            models.UniqueConstraint(
                fields=["account", "meter"], condition=~Q(overrides_until=None), name="one_override_per_meter"
            ),
            models.CheckConstraint(condition=Q(limit__gte=0), name="entitlement_limit_not_negative"),
        ]

    def __str__(self) -> str:
        return f"{self.limit} {self.meter} per {self.window}"


class Bucket(Owned):
    """One account's allowance in one window and pocket. A new window is a new row; nothing is ever set to zero."""

    class Pocket(models.TextChoices):
        PLAN = "plan"
        PACK = "pack"
        OVERAGE = "overage"  # micro-dollars to the cap
        ARREARS = "arrears"  # micro-dollars owed for what was used of a pack whose money was taken back
        HOUSE = "house"

    account = models.ForeignKey(Account, models.PROTECT, related_name="buckets", db_constraint=False)
    meter = models.CharField(max_length=20, choices=Meter)
    pocket = models.CharField(max_length=10, choices=Pocket, default=Pocket.PLAN)
    window = models.CharField(max_length=10)
    lock_rank = models.PositiveSmallIntegerField()
    opens_at = models.DateTimeField()
    closes_at = models.DateTimeField(null=True)  # exclusive; null = never
    limit = models.BigIntegerField(null=True)  # == Sum(Entry.limit_delta); null = no limit
    used = models.BigIntegerField(default=0)  # == Sum(Entry.used_delta)
    held = models.BigIntegerField(default=0)  # == Sum(Hold.amount) of the open holds
    # How far used + held stood above the limit when it sank, and still do: what is in flight settles, nothing new begins.
    excess = models.BigIntegerField(default=0, db_default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["account", "meter", "pocket", "window", "opens_at"],
                condition=~Q(pocket="pack"),
                name="one_bucket_per_window",
            ),
            models.UniqueConstraint(fields=["brand", "owner_id", "id"], name="bucket_of_owner"),
            models.UniqueConstraint(fields=["brand", "id"], name="bucket_of_brand"),
            models.CheckConstraint(
                condition=Q(limit=None) | Q(limit__gte=F("used") + F("held") - F("excess")),
                name="bucket_never_overspent",
            ),
            models.CheckConstraint(condition=Q(used__gte=0, held__gte=0), name="bucket_not_negative"),
        ]
        indexes = [
            models.Index(fields=["account", "meter"], condition=Q(pocket="pack"), name="packs_of_an_account"),
        ]

    def __str__(self) -> str:
        return f"{self.meter} from {self.opens_at:%Y-%m-%d}"

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)


class Pack(Owned):
    """What was bought or given: so many units of one meter. Its balance is a bucket of the pocket `pack`."""

    bucket = models.OneToOneField(Bucket, models.PROTECT, related_name="pack", db_constraint=False)
    name = models.CharField(max_length=80)
    price_microusd = models.PositiveBigIntegerField(default=0)
    amount = models.BigIntegerField(db_default=0, help_text="Units bought; what is left stands in the bucket.")
    taken_back = models.BigIntegerField(default=0, db_default=0, help_text="Units of it whose money went back.")
    source = models.CharField(max_length=120, help_text="What it came from, once: checkout:cs_1, staff:...")

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "source"], name="one_pack_per_source"),
            models.CheckConstraint(
                condition=Q(taken_back__gte=0, taken_back__lte=F("amount")), name="pack_taken_back_once"
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def expires_at(self) -> datetime | None:
        return self.bucket.closes_at


class Hold(Owned):
    """Room promised to one reservation (a turn's id, mostly) before the work is done. Settling replaces it by an Entry."""

    reservation = models.UUIDField()
    # What the reservation's id is an id of. A hold for a turn that was not begun is given back after seconds, by those
    # who know turns; any other stands until it is settled or expires.
    purpose = models.CharField(max_length=20, default="turn", db_default="turn")
    bucket = models.ForeignKey(Bucket, models.PROTECT, related_name="holds", db_constraint=False)
    meter = models.CharField(max_length=20)
    amount = models.BigIntegerField()  # in the bucket's unit: `rate` of them for each unit of the meter asked
    rate = models.BigIntegerField(default=1, db_default=1)  # overage: micro-dollars per unit; everything else: 1
    own_key = models.BooleanField(default=False, db_default=False)
    expires_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["reservation", "bucket"], name="one_hold_per_reservation_and_bucket"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="hold_not_negative"),
            models.CheckConstraint(condition=Q(rate__gte=1), name="hold_has_a_rate"),
        ]
        indexes = [
            models.Index(fields=["expires_at"], name="holds_by_expiry"),
            models.Index(fields=["brand", "owner_id", "reservation"], name="holds_of_an_account"),
        ]

    def __str__(self) -> str:
        return f"{self.amount} {self.meter}"


class Entry(Owned):
    """One line of the ledger (S0's `quota_transactions`). Never changed, never deleted; a correction is another line."""

    class Kind(models.TextChoices):
        GRANT = "grant"  # a window opened, or its plan changed
        TOP_UP = "top_up"
        USE = "use"  # a hold settled; used_delta 0 = given back whole
        REVERSAL = "reversal"

    bucket = models.ForeignKey(Bucket, models.PROTECT, related_name="entries", db_constraint=False)
    kind = models.CharField(max_length=10, choices=Kind)
    limit_delta = models.BigIntegerField(default=0)
    used_delta = models.BigIntegerField(default=0)
    reservation = models.UUIDField(null=True)
    hold_id = models.UUIDField(null=True, unique=True)  # the hold this line replaced: the database says "once"
    rate = models.BigIntegerField(default=1, db_default=1)  # the hold's: used_delta / rate units of the meter asked
    own_key = models.BooleanField(default=False, db_default=False)  # asked with the member's own key: costs nothing
    cost_microusd = models.BigIntegerField(default=0)
    reason = models.CharField(max_length=200, blank=True)
    actor_id = models.UUIDField(null=True)  # the member of staff who did it, if a person did

    class Meta:
        verbose_name_plural = "entries"
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="use", limit_delta=0, used_delta__gte=0)
                | Q(kind__in=["grant", "top_up"], used_delta=0, hold_id=None)
                | Q(kind="reversal", used_delta__lte=0, limit_delta__lte=0, hold_id=None),
                name="entry_kind_fits",
            ),
        ]
        indexes = [
            models.Index(fields=["bucket", "created_at"], name="entries_of_a_bucket"),
            models.Index(fields=["reservation"], name="entries_of_a_reservation"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} {self.limit_delta or self.used_delta}"


class UsageLog(Owned):
    """One thing that was used (S1 and S3 `usage_logs`): what a person or a bill asks about a use, beside the ledger that
    proves the sums. Written in the transaction that ends the work, never changed, and no content: it outlives the chat.
    """

    class Type(models.TextChoices):
        MESSAGE = "message"
        CONVERSATION = "conversation"
        KNOWLEDGE_CHUNK = "knowledge_chunk"
        EMBEDDING = "embedding"
        API_CALL = "api_call"
        EXPORT = "export"

    usage_type = models.CharField(max_length=20, choices=Type)
    reservation = models.UUIDField()  # the turn's id, mostly; the ledger's entries carry it too
    agent_id = models.UUIDField(null=True)
    provider_id = models.UUIDField(null=True)
    model = models.CharField(max_length=80, blank=True, default="", db_default="")  # api_identifier of what answered
    prompt_tokens = models.BigIntegerField(default=0, db_default=0)
    completion_tokens = models.BigIntegerField(default=0, db_default=0)
    total_tokens = models.BigIntegerField(default=0, db_default=0)
    pocket = models.CharField(max_length=10, blank=True, default="", db_default="")  # plan, pack, overage, own_key
    counted_against_quota = models.BooleanField(default=False, db_default=False)
    overage = models.BooleanField(default=False, db_default=False)
    byok = models.BooleanField(default=False, db_default=False)
    unit_cost_microusd = models.BigIntegerField(
        default=0, db_default=0
    )  # what one unit cost its member beyond the plan
    total_cost_microusd = models.BigIntegerField(default=0, db_default=0)  # what its member owes for it
    model_cost_microusd = models.BigIntegerField(default=0, db_default=0)  # what its tokens cost at the model's price

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "reservation", "usage_type"], name="one_usage_per_reservation"),
            models.CheckConstraint(
                condition=Q(prompt_tokens__gte=0, completion_tokens__gte=0, total_tokens__gte=0),
                name="usage_tokens_whole",
            ),
            models.CheckConstraint(
                condition=Q(overage=False, total_cost_microusd=0) | Q(overage=True, total_cost_microusd__gte=0),
                name="only_overage_costs",
            ),
        ]
        indexes = [models.Index(fields=["brand", "owner_id", "id"], name="usage_of_an_owner")]

    def __str__(self) -> str:
        return f"{self.usage_type} from {self.pocket or 'nothing'}"
