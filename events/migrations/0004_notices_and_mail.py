"""What people are told and mailed. Mails and readers of the stream are the house's own: only the service has them."""

import django.db.models.deletion
import lib.ids
from django.conf import settings
from django.db import migrations, models

from lib.operations import EnableRLS


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0002_walls"),
        ("events", "0003_alarms_and_dead_letters"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="Reader",
            fields=[
                ("name", models.CharField(max_length=40, primary_key=True, serialize=False)),
                ("read_until", models.DateTimeField()),
            ],
        ),
        migrations.CreateModel(
            name="EmailLog",
            fields=[
                ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("to_email", models.EmailField(max_length=254)),
                ("from_email", models.CharField(max_length=320)),
                ("subject", models.CharField(max_length=300)),
                ("email_type", models.CharField(max_length=40)),
                ("template_id", models.CharField(max_length=80)),
                ("template_data", models.JSONField(default=dict)),
                ("once", models.CharField(blank=True, max_length=160)),
                (
                    "status",
                    models.CharField(
                        choices=[
                            ("queued", "Queued"),
                            ("sent", "sent: the mail server took it"),
                            ("failed", "failed: not sent, and will not be"),
                            ("delivered", "Delivered"),
                            ("bounced", "Bounced"),
                        ],
                        default="queued",
                        max_length=10,
                    ),
                ),
                ("provider", models.CharField(blank=True, max_length=40)),
                ("provider_message_id", models.CharField(blank=True, max_length=200)),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("next_attempt_at", models.DateTimeField()),
                ("error", models.CharField(blank=True, max_length=300)),
                ("sent_at", models.DateTimeField(null=True)),
                ("delivered_at", models.DateTimeField(null=True)),
                ("opened_at", models.DateTimeField(null=True)),
                ("clicked_at", models.DateTimeField(null=True)),
                (
                    "brand",
                    models.ForeignKey(
                        db_column="of_brand_id",
                        null=True,
                        on_delete=django.db.models.deletion.PROTECT,
                        related_name="+",
                        to="accounts.brand",
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
                "verbose_name": "e-mail",
                "indexes": [
                    models.Index(
                        condition=models.Q(("status", "queued")), fields=["next_attempt_at"], name="mails_waiting"
                    ),
                    models.Index(condition=models.Q(("status", "failed")), fields=["created_at"], name="mails_failed"),
                ],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("once", ""), _negated=True),
                        fields=("brand", "once"),
                        name="one_mail_for_each_cause",
                        nulls_distinct=False,
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="Notification",
            fields=[
                ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("owner_id", models.UUIDField()),
                (
                    "type",
                    models.CharField(
                        choices=[
                            ("new_conversation", "New Conversation"),
                            ("new_lead", "New Lead"),
                            ("new_message", "New Message"),
                            ("usage_limit", "Usage Limit"),
                            ("billing_update", "Billing Update"),
                            ("key_update", "Key Update"),
                            ("system", "System"),
                        ],
                        max_length=40,
                    ),
                ),
                ("title", models.CharField(max_length=120)),
                ("message", models.CharField(max_length=600)),
                (
                    "priority",
                    models.CharField(
                        choices=[("low", "Low"), ("normal", "Normal"), ("high", "High"), ("urgent", "Urgent")],
                        default="normal",
                        max_length=10,
                    ),
                ),
                ("action_url", models.CharField(blank=True, max_length=300)),
                ("action_label", models.CharField(blank=True, max_length=60)),
                ("agent_id", models.UUIDField(null=True)),
                ("once", models.CharField(blank=True, max_length=120)),
                ("read_at", models.DateTimeField(null=True)),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["brand", "owner_id", "-id"], name="notifications_of_a_person")],
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("once", ""), _negated=True),
                        fields=("brand", "owner_id", "once"),
                        name="told_once_to_each_person",
                    )
                ],
            },
        ),
        # The bell is on the pages of the brand's admins too, who ask as app_brand.
        EnableRLS("Notification", user="select, update", brand="select, update"),
    ]
