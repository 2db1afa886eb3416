import django.db.models.deletion
from django.db import migrations, models

import lib.ids
from lib.operations import CompositeFK, EnableRLS

KINDS = [("text", "Text"), ("markdown", "Markdown"), ("csv", "Csv"), ("pdf", "Pdf"), ("docx", "Docx")]
STATES = [("waiting", "Waiting"), ("reading", "Reading"), ("ready", "Ready"), ("failed", "Failed")]


class Migration(migrations.Migration):
    dependencies = [("accounts", "0003_what_is_sold"), ("conversations", "0010_conversation_is_counted")]

    operations = [
        migrations.AddField("message", "file_text", models.TextField(blank=True, db_default="", default="")),
        migrations.AddField(
            "message", "files", models.JSONField(db_default=models.Value([], models.JSONField()), default=list)
        ),
        migrations.CreateModel(
            name="Attachment",
            fields=[
                (
                    "id",
                    models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False),
                ),
                ("created_at", models.DateTimeField(auto_now_add=True)),
                ("owner_id", models.UUIDField()),
                ("name", models.CharField(max_length=200)),
                ("kind", models.CharField(choices=KINDS, max_length=10)),
                ("size_bytes", models.PositiveIntegerField()),
                ("content", models.BinaryField(null=True)),
                (
                    "state",
                    models.CharField(choices=STATES, db_default="waiting", default="waiting", max_length=10),
                ),
                ("pages", models.PositiveIntegerField(null=True)),
                ("pages_read", models.PositiveIntegerField(db_default=0, default=0)),
                ("error", models.CharField(blank=True, db_default="", default="", max_length=500)),
                ("text", models.TextField(blank=True, db_default="", default="")),
                ("is_cut", models.BooleanField(db_default=False, default=False)),
                ("changed_at", models.DateTimeField()),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        db_constraint=False,
                        db_index=False,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="attachments",
                        to="conversations.conversation",
                    ),
                ),
            ],
            options={
                "indexes": [models.Index(fields=["brand", "owner_id", "conversation"], name="attachments_of_owner")],
            },
        ),
        EnableRLS("Attachment", user="select, insert, update, delete"),
        CompositeFK(
            "Attachment",
            ["brand_id", "owner_id", "conversation_id"],
            "Conversation",
            ["brand_id", "owner_id", "id"],
        ),
    ]
