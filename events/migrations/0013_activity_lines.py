"""Lines of the audit log name people by id only; where they asked from moves beside them, and goes with its person.

The columns ip_address and user_agent stay for the release before, which still writes them; no model knows them any more.
"""

import django.db.models.deletion
import lib.ids
from django.db import migrations, models

from lib.operations import EnableRLS


# Of the database's alone: a model that knew them would have them returned, and who may only insert may not read.
DEFAULTS = "alter table events_activity alter actor_kind set default 'member', alter request_id set default ''"


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_sharing_on"), ("events", "0012_mails_by_their_provider")]

    operations = [
        migrations.AlterField(
            model_name="activity",
            name="user_agent",
            field=models.CharField(blank=True, db_default="", max_length=300),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[
                migrations.RemoveField(model_name="activity", name="ip_address"),
                migrations.RemoveField(model_name="activity", name="user_agent"),
            ]
        ),
        migrations.AlterField(
            model_name="activity",
            name="brand",
            field=models.ForeignKey(
                null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
            ),
        ),
        migrations.AlterField(
            model_name="activity",
            name="id",
            field=models.UUIDField(default=lib.ids.uuid7, editable=False, primary_key=True, serialize=False),
        ),
        migrations.AddField(
            model_name="activity",
            name="actor_kind",
            field=models.CharField(
                choices=[
                    ("member", "Member"),
                    ("key", "API key"),
                    ("staff", "Staff"),
                    ("system", "System"),
                    ("nobody", "nobody we know"),
                ],
                default="member",
                max_length=10,
            ),
        ),
        migrations.AddField(model_name="activity", name="key_id", field=models.UUIDField(null=True)),
        migrations.AddField(
            model_name="activity",
            name="request_id",
            field=models.CharField(blank=True, default="", max_length=64),
        ),
        migrations.RunSQL(DEFAULTS, migrations.RunSQL.noop),
        migrations.AddField(model_name="activity", name="origin", field=models.BinaryField(null=True)),
        migrations.CreateModel(
            name="ActivityOrigin",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("owner_id", models.UUIDField()),
                ("ip_address", models.GenericIPAddressField(null=True)),
                ("user_agent", models.CharField(blank=True, default="", max_length=300)),
                ("salt", models.BinaryField(default=bytes)),
                (
                    "brand",
                    models.ForeignKey(
                        null=True, on_delete=django.db.models.deletion.PROTECT, related_name="+", to="accounts.brand"
                    ),
                ),
            ],
            options={"indexes": [models.Index(fields=["owner_id"], name="origins_of_a_person")]},
        ),
        migrations.CreateModel(
            name="ActivityLink",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("chain", models.UUIDField()),
                ("number", models.BigIntegerField()),
                ("digest", models.BinaryField()),
            ],
            options={
                "constraints": [models.UniqueConstraint(fields=("chain", "number"), name="one_link_after_the_other")],
            },
        ),
        migrations.CreateModel(
            name="ActivityHead",
            fields=[
                ("id", models.UUIDField(editable=False, primary_key=True, serialize=False)),
                ("length", models.BigIntegerField()),
                ("digest", models.BinaryField()),
            ],
        ),
        EnableRLS(
            "ActivityOrigin",
            user="insert",
            brand="select, insert",
            service="select, insert, delete",
        ),
    ]
