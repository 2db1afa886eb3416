"""How each person wants to hear of what: their own affair, so the brand's admins see none of it."""

import django.db.models.deletion
import lib.ids
from django.db import migrations, models

from lib.operations import EnableRLS


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_settings"),
        ("events", "0005_long_addresses"),
    ]

    operations = [
        migrations.CreateModel(
            name="NoticePreference",
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
                ("in_app", models.BooleanField(default=True)),
                ("by_mail", models.BooleanField(default=True)),
                (
                    "brand",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(fields=("brand", "owner_id", "type"), name="one_preference_for_each_kind")
                ],
            },
        ),
        EnableRLS("NoticePreference", user="select, insert, update, delete"),
    ]
