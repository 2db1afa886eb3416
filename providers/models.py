"""Which models are offered, what they cost, and the prompts that go with them."""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import F, Func, Q

from accounts.models import BrandOwned, Owned
from lib.ids import uuid7
from lib.sealed import SealedTextField


class AIProvider(models.Model):
    """One model that members may pick (S4's `ai_providers`). Readable by everybody; keys never stand here."""

    class Protocol(models.TextChoices):
        OPENAI = "openai", "OpenAI, or anything that speaks its protocol"
        ANTHROPIC = "anthropic", "Anthropic"
        DEMO = "demo", "Demo (no key needed)"

    class Kind(models.TextChoices):
        CHAT = "chat", "Chat"
        EMBEDDING = "embedding", "Embeddings, for programs only"

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    name = models.CharField(max_length=80)
    api_identifier = models.SlugField(max_length=80, unique=True, help_text="The name programs use: openai-gpt-4o")
    description = models.CharField(max_length=160, blank=True)
    is_active = models.BooleanField(default=True)
    protocol = models.CharField(max_length=10, choices=Protocol)
    kind = models.CharField(max_length=10, choices=Kind, default=Kind.CHAT, db_default=Kind.CHAT)
    model = models.CharField(max_length=120, help_text="The vendor's own name of the model.")
    base_url = models.CharField(max_length=300, blank=True, help_text="Empty: the vendor's own address.")
    max_tokens = models.PositiveIntegerField(
        default=2048, validators=[MinValueValidator(1)], help_text="Longest answer, always sent."
    )
    context_window = models.PositiveIntegerField(default=32_000, validators=[MinValueValidator(1)])
    config = models.JSONField(
        default=dict,
        blank=True,
        help_text='Default parameters. Never keys. "images": true = takes pictures; a number = tokens that one may cost.',
    )
    position = models.PositiveSmallIntegerField(default=100)
    created_at = models.DateTimeField(auto_now_add=True)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "name"]
        verbose_name = "AI provider"
        constraints = [
            models.CheckConstraint(
                condition=Q(protocol__in=["openai", "anthropic", "demo"]), name="provider_protocol_known"
            ),
            models.CheckConstraint(
                condition=Q(kind="chat") | Q(kind="embedding", protocol__in=["openai", "demo"]),
                name="provider_kind_known",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.kind == self.Kind.EMBEDDING and self.protocol == self.Protocol.ANTHROPIC:
            raise ValidationError({"kind": "Anthropic offers no embeddings."})
        if self.max_tokens >= self.context_window:
            raise ValidationError({"max_tokens": "The longest answer must leave room for the question in the window."})


class Price(models.Model):
    """What a model costs from a date on, in micro-dollars per million tokens. A new price is a new row."""

    id = models.UUIDField(primary_key=True, default=uuid7, editable=False)
    provider = models.ForeignKey(AIProvider, models.CASCADE, related_name="prices")
    input_microusd_per_mtok = models.PositiveBigIntegerField()
    output_microusd_per_mtok = models.PositiveBigIntegerField()
    starts_at = models.DateTimeField()

    class Meta:
        ordering = ["-starts_at"]
        constraints = [models.UniqueConstraint(fields=["provider", "starts_at"], name="one_price_per_start")]

    def __str__(self) -> str:
        return f"{self.provider_id} from {self.starts_at:%Y-%m-%d}"


class SystemPrompt(BrandOwned):
    """A prompt that members may pick. They see its name; only the model and the brand's admins see its text."""

    name = models.CharField(max_length=80)
    description = models.CharField(max_length=160, blank=True)
    prompt_text = models.TextField(max_length=20_000)
    is_active = models.BooleanField(default=True)
    position = models.PositiveSmallIntegerField(default=100)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["position", "name"]
        constraints = [models.UniqueConstraint(fields=["brand", "name"], name="one_prompt_per_name")]

    def __str__(self) -> str:
        return self.name


class Fallback(BrandOwned):
    """One place in the brand's chain: models that answer, in order, when the one that was asked cannot."""

    provider = models.ForeignKey(AIProvider, models.CASCADE, related_name="+")
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "id"]
        verbose_name = "fallback"
        constraints = [models.UniqueConstraint(fields=["brand", "provider"], name="one_place_in_the_chain")]

    def __str__(self) -> str:
        return f"{self.position}: {self.provider_id}"


class ProviderKey(Owned):
    """A member's own key at one vendor (BYOK). Nobody but the engine opens it, and it goes to that vendor's host alone."""

    class Vendor(models.TextChoices):
        OPENAI = "openai", "OpenAI"
        ANTHROPIC = "anthropic", "Anthropic"
        OPENROUTER = "openrouter", "OpenRouter"

    class Status(models.TextChoices):
        VALID = "valid", "Valid"
        INVALID = "invalid", "Refused by its vendor"
        UNCHECKED = "unchecked", "Not checked yet"

    vendor = models.CharField(max_length=20, choices=Vendor)
    secret = SealedTextField(bind=("pk", "brand_id", "owner_id", "vendor"))
    last_four = models.CharField(max_length=4)
    status = models.CharField(max_length=10, choices=Status)
    checked_at = models.DateTimeField(null=True)
    vendor_message = models.CharField(max_length=300, blank=True)  # the vendor's reason, without the key
    is_used = models.BooleanField(default=True)  # off: it is kept, and the member's plan pays
    last_used_at = models.DateTimeField(null=True)
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
        ordering = ["vendor"]
        verbose_name = "own key"
        constraints = [
            models.UniqueConstraint(fields=["brand", "owner_id", "vendor"], name="one_own_key_per_vendor"),
            models.CheckConstraint(
                condition=Q(vendor__in=["openai", "anthropic", "openrouter"]), name="own_key_vendor_known"
            ),
            models.CheckConstraint(
                condition=Q(status__in=["valid", "invalid", "unchecked"]), name="own_key_status_known"
            ),
        ]
        indexes = [models.Index(fields=["key_id"], name="own_keys_by_ring_key")]

    def __str__(self) -> str:
        return f"{self.get_vendor_display()} …{self.last_four}"


class Place(BrandOwned):
    """A model's place in the brand's list. Those without one come after, in the order staff gave them."""

    provider = models.ForeignKey(AIProvider, models.CASCADE, related_name="+")
    position = models.PositiveSmallIntegerField(default=100)

    class Meta:
        ordering = ["position", "id"]
        verbose_name = "place of a model"
        verbose_name_plural = "places of models"
        constraints = [models.UniqueConstraint(fields=["brand", "provider"], name="one_place_in_the_list")]

    def __str__(self) -> str:
        return f"{self.position}: {self.provider_id}"
