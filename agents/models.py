"""Agents of a brand (S3): who answers, how it sounds, how it looks."""

from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from accounts.models import Owned


class Agent(Owned):
    """`owner_id` is the member who made it. What strangers may see of it is a projection, never this row."""

    class Tone(models.TextChoices):
        PROFESSIONAL = "professional"
        FRIENDLY = "friendly"
        CASUAL = "casual"
        FORMAL = "formal"
        EMPATHETIC = "empathetic"

    class Position(models.TextChoices):
        BOTTOM_RIGHT = "bottom-right"
        BOTTOM_LEFT = "bottom-left"

    class Size(models.TextChoices):
        SMALL = "small"
        MEDIUM = "medium"
        LARGE = "large"

    slug = models.SlugField(max_length=60)
    name = models.CharField(max_length=80)
    description = models.TextField(max_length=1000, blank=True)
    avatar_url = models.CharField(max_length=500, blank=True)
    ai_model = models.CharField(max_length=80, help_text="A provider's api_identifier.")
    temperature = models.DecimalField(
        max_digits=3, decimal_places=2, default="0.70", validators=[MinValueValidator(0), MaxValueValidator(2)]
    )
    max_tokens = models.PositiveIntegerField(default=1000, validators=[MinValueValidator(1)])
    system_prompt = models.TextField(max_length=20_000, blank=True)
    welcome_message = models.CharField(max_length=500, blank=True)
    tone = models.CharField(max_length=20, choices=Tone, default=Tone.PROFESSIONAL)
    enable_sentiment_analysis = models.BooleanField(default=True)
    enable_lead_capture = models.BooleanField(default=True)
    primary_color = models.CharField(max_length=7, default="#1a7f5a", validators=[RegexValidator(r"^#[0-9a-f]{6}$")])
    widget_position = models.CharField(max_length=20, choices=Position, default=Position.BOTTOM_RIGHT)
    widget_size = models.CharField(max_length=10, choices=Size, default=Size.MEDIUM)
    is_published = models.BooleanField(default=False)
    total_conversations = models.PositiveBigIntegerField(default=0)
    total_messages = models.PositiveBigIntegerField(default=0)
    total_leads = models.PositiveBigIntegerField(default=0)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["brand", "slug"], name="one_agent_per_slug"),
            models.UniqueConstraint(fields=["brand", "id"], name="agent_of_brand"),
            models.CheckConstraint(
                condition=Q(temperature__gte=0, temperature__lte=2), name="agent_temperature_0_to_2"
            ),
        ]

    def __str__(self) -> str:
        return self.name
