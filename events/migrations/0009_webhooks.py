"""Webhooks of a brand and what was delivered to them: its admins' own; the sender is the service."""

import django.contrib.postgres.fields
import django.db.models.deletion
import lib.ids
import lib.sealed
from django.conf import settings
from django.db import migrations, models

from lib.operations import CompositeFK, EnableRLS


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_walls"),
        ("events", "0008_events_in_order"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="WebhookEndpoint",
            fields=[
                ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("agent_id", models.UUIDField(null=True)),
                ("name", models.CharField(max_length=80)),
                ("url", models.CharField(max_length=1000)),
                (
                    "events",
                    django.contrib.postgres.fields.ArrayField(base_field=models.CharField(max_length=60), size=None),
                ),
                ("secret", lib.sealed.SealedTextField(bind=("pk", "brand_id"))),
                ("old_secret", lib.sealed.SealedTextField(bind=("pk", "brand_id"), null=True)),
                ("old_secret_until", models.DateTimeField(null=True)),
                ("custom_headers", lib.sealed.SealedTextField(bind=("pk", "brand_id"), null=True)),
                ("is_active", models.BooleanField(default=True)),
                (
                    "off_because",
                    models.CharField(
                        blank=True,
                        choices=[("by_hand", "By Hand"), ("gone", "Gone"), ("failing", "Failing")],
                        default="",
                        max_length=10,
                    ),
                ),
                ("retry_failed", models.BooleanField(default=True)),
                ("max_retries", models.PositiveSmallIntegerField(default=9)),
                ("total_deliveries", models.PositiveBigIntegerField(default=0)),
                ("successful_deliveries", models.PositiveBigIntegerField(default=0)),
                ("failed_deliveries", models.PositiveBigIntegerField(default=0)),
                ("failing_since", models.DateTimeField(null=True)),
                ("last_delivered_at", models.DateTimeField(null=True)),
                ("updated_at", models.DateTimeField(auto_now=True)),
                (
                    "key_id",
                    models.GeneratedField(
                        db_persist=True,
                        expression=models.Func(
                            models.F("secret"),
                            output_field=models.TextField(),
                            template="encode(substring(%(expressions)s from 3 for get_byte(%(expressions)s, 1)), 'escape')",
                        ),
                        output_field=models.TextField(),
                    ),
                ),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
                (
                    "user",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("brand", "id"), name="webhook_of_its_brand")],
            },
        ),
        migrations.CreateModel(
            name="WebhookDelivery",
            fields=[
                ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("message_id", models.UUIDField()),
                ("event_type", models.CharField(max_length=60)),
                ("event_data", models.JSONField()),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("pending", "Pending"),
                            ("delivered", "Delivered"),
                            ("failed", "Failed"),
                            ("cancelled", "Cancelled"),
                        ],
                        default="pending",
                        max_length=10,
                    ),
                ),
                ("http_status", models.PositiveSmallIntegerField(null=True)),
                ("response_body", models.TextField(blank=True, default="")),
                ("error_message", models.CharField(blank=True, default="", max_length=300)),
                ("attempt_count", models.PositiveSmallIntegerField(default=0)),
                ("attempts", models.JSONField(default=list)),
                ("next_retry_at", models.DateTimeField(null=True)),
                ("delivered_at", models.DateTimeField(null=True)),
                ("duration_ms", models.PositiveIntegerField(null=True)),
                ("replayed_at", models.DateTimeField(null=True)),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
                (
                    "webhook",
                    models.ForeignKey(
                        db_constraint=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="deliveries",
                        to="events.webhookendpoint",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "webhook deliveries",
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "pending")),
                        fields=["webhook", "next_retry_at"],
                        name="deliveries_waiting",
                    ),
                    models.Index(fields=["webhook", "-id"], name="deliveries_of_a_webhook"),
                    models.Index(fields=["brand", "-id"], name="deliveries_of_a_brand"),
                    models.Index(
                        condition=models.Q(("replayed_at__isnull", False)),
                        fields=["webhook", "replayed_at"],
                        name="deliveries_sent_again",
                    ),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        fields=("brand", "webhook", "message_id"), name="one_delivery_of_each_event"
                    )
                ],
            },
        ),
        EnableRLS("WebhookEndpoint", owner=None, brand="select, insert, update, delete"),
        EnableRLS("WebhookDelivery", owner=None, brand="select, insert, update"),
        CompositeFK("WebhookDelivery", ["brand_id", "webhook_id"], "WebhookEndpoint", ["brand_id", "id"]),
    ]
