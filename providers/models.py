"""Which models are offered, what they cost, and the prompts that go with them."""

from django.core.exceptions import ValidationError
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from accounts.models import BrandOwned
from lib.ids import uuid7


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
