import django.db.models.deletion
from django.db import migrations, models

import lib.ids
from lib.operations import CompositeFK, EnableRLS

OF_CONVERSATION = (["brand_id", "owner_id", "conversation_id"], "Conversation", ["brand_id", "owner_id", "id"])
OWN = "select, insert, update, delete"
STATES = [("pending", "Pending"), ("approved", "Approved"), ("rejected", "Rejected"), ("applied", "Applied")]


def of(related_name):
    return [
        ("id", models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False)),
        ("created_at", models.DateTimeField(auto_now_add=True)),
        (
            "brand",
            models.ForeignKey(on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"),
        ),
        ("owner_id", models.UUIDField()),
        (
            "conversation",
            models.ForeignKey(
                db_constraint=False,
                db_index=False,
                on_delete=django.db.models.deletion.CASCADE,
                related_name=related_name,
                to="conversations.conversation",
            ),
        ),
        ("message_id", models.UUIDField()),
    ]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_what_is_sold"), ("conversations", "0024_messages_to_be_gone")]

    operations = [
        migrations.CreateModel(
            name="Feedback",
            fields=[
                *of("feedback"),
                ("rating", models.SmallIntegerField()),
                ("reason", models.CharField(blank=True, db_default="", default="", max_length=2000)),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "indexes": [models.Index(fields=["conversation"], name="feedback_of_conversation")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["brand", "owner_id", "message_id"], name="one_feedback_for_each_message"
                    ),
                    models.CheckConstraint(condition=models.Q(("rating__in", [1, -1])), name="feedback_is_good_or_bad"),
                ],
            },
        ),
        migrations.CreateModel(
            name="Correction",
            fields=[
                *of("corrections"),
                ("agent_id", models.UUIDField(null=True)),
                ("original_response", models.TextField()),
                ("corrected_response", models.TextField()),
                ("reason", models.CharField(blank=True, db_default="", default="", max_length=2000)),
                ("correction_type", models.CharField(blank=True, db_default="", default="", max_length=40)),
                ("status", models.CharField(choices=STATES, db_default="pending", default="pending", max_length=10)),
                ("was_helpful", models.BooleanField(null=True)),
                ("feedback_notes", models.TextField(blank=True, db_default="", default="")),
                ("updated_at", models.DateTimeField(auto_now=True)),
            ],
            options={
                "indexes": [models.Index(fields=["conversation"], name="corrections_of_conversation")],
                "constraints": [
                    models.UniqueConstraint(
                        fields=["brand", "owner_id", "message_id"], name="one_correction_for_each_message"
                    ),
                ],
            },
        ),
        EnableRLS("Feedback", user=OWN),
        EnableRLS("Correction", user=OWN),
        CompositeFK("Feedback", *OF_CONVERSATION),
        CompositeFK("Correction", *OF_CONVERSATION),
    ]
