"""Notices that tell of many things, digests, what becomes of a mail, and addresses that are written to no more."""

import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("events", "0009_webhooks"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.CreateModel(
            name="BlockedAddress",
            fields=[
                ("address", models.EmailField(max_length=320, primary_key=True, serialize=False)),
                (
                    "reason",
                    models.CharField(
                        choices=[
                            ("bounced", "mail to it came back for good"),
                            ("complained", "its reader called a mail of ours spam"),
                            ("unsubscribed", "its reader told the mail provider to stop"),
                        ],
                        max_length=12,
                    ),
                ),
                ("detail", models.CharField(blank=True, max_length=300)),
                ("mail_id", models.UUIDField(null=True)),
                ("blocked_at", models.DateTimeField()),
                ("lifted_at", models.DateTimeField(null=True)),
                (
                    "lifted_by",
                    models.ForeignKey(
                        db_constraint=False,
                        null=True,
                        on_delete=django.db.models.deletion.SET_NULL,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
            ],
            options={"verbose_name_plural": "blocked addresses"},
        ),
        migrations.AddField("notification", "count", models.PositiveIntegerField(db_default=1, default=1)),
        migrations.AddField(
            "notification", "grouping", models.CharField(blank=True, db_default="", default="", max_length=80)
        ),
        migrations.AddField("notification", "head_id", models.UUIDField(null=True)),
        migrations.AddField(
            "noticepreference",
            "digest",
            models.CharField(
                blank=True,
                choices=[("daily", "Daily"), ("weekly", "Weekly")],
                db_default="",
                default="",
                max_length=10,
            ),
        ),
        migrations.AddField("noticepreference", "digested_until", models.DateTimeField(null=True)),
        migrations.AlterField(
            "emaillog",
            "status",
            models.CharField(
                choices=[
                    ("queued", "Queued"),
                    ("sent", "sent: the mail server took it"),
                    ("failed", "failed: not sent, and will not be"),
                    ("suppressed", "suppressed: not sent, because its address is blocked"),
                    ("delivered", "Delivered"),
                    ("opened", "Opened"),
                    ("clicked", "Clicked"),
                    ("bounced", "bounced: it came back"),
                    ("complained", "complained: its reader called it spam"),
                ],
                default="queued",
                max_length=10,
            ),
        ),
        migrations.AddConstraint(
            "notification",
            models.UniqueConstraint(
                condition=models.Q(("grouping", ""), _negated=True),
                fields=("brand", "owner_id", "grouping"),
                name="one_open_group_of_notices",
            ),
        ),
    ]
