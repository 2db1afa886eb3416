"""Packs, overage and overrides. Checks on tables that are full are validated by the next migration, while all go on."""

import uuid

from django.contrib.postgres.operations import AddConstraintNotValid
from django.db import migrations, models
from django.db.models import F, Q

from lib.operations import CompositeFK, EnableRLS

NOBODY = uuid.UUID(int=0)
OF_BUCKET = ("Bucket", ["brand_id", "owner_id", "id"])
# A pack was the brand's; now it is a person's, who may see it.
UNWALL_PACK = """
drop policy member on quotas_pack; drop policy visitor on quotas_pack; drop policy brand on quotas_pack;
drop policy service on quotas_pack; alter table quotas_pack drop constraint quotas_pack_bucket_id_of_same_brand
"""


def bigint(**fields):
    return models.BigIntegerField(**fields)


class Migration(migrations.Migration):
    dependencies = [("quotas", "0006_usage_walls")]

    operations = [
        migrations.AddField(
            "account",
            "overage_on",
            models.BooleanField(db_default=False, default=False, help_text="The member's own choice."),
        ),
        migrations.AddField(
            "account",
            "overage_cap_microusd",
            bigint(blank=True, help_text="The member's own cap per month; empty = the plan's.", null=True),
        ),
        migrations.AddField("account", "arrears_microusd", bigint(db_default=0, default=0)),
        migrations.AddField(
            "entitlement",
            "overrides_until",
            models.DateTimeField(help_text="An override's end, until it was carried out.", null=True),
        ),
        migrations.AddField("entitlement", "reason", models.CharField(blank=True, db_default="", max_length=200)),
        migrations.AddField("entitlement", "actor_id", models.UUIDField(null=True)),
        migrations.AddField("bucket", "excess", bigint(db_default=0, default=0)),
        migrations.AlterField(
            "bucket",
            "pocket",
            models.CharField(
                choices=[
                    ("plan", "Plan"),
                    ("pack", "Pack"),
                    ("overage", "Overage"),
                    ("arrears", "Arrears"),
                    ("house", "House"),
                ],
                default="plan",
                max_length=10,
            ),
        ),
        migrations.AddField("hold", "rate", bigint(db_default=1, default=1)),
        migrations.AddField("hold", "own_key", models.BooleanField(db_default=False, default=False)),
        migrations.AddField("entry", "rate", bigint(db_default=1, default=1)),
        migrations.AddField("entry", "own_key", models.BooleanField(db_default=False, default=False)),
        migrations.AddField("pack", "owner_id", models.UUIDField(default=NOBODY), preserve_default=False),
        migrations.AddField(
            "pack",
            "source",
            models.CharField(default="", help_text="What it came from, once: checkout:cs_1, staff:...", max_length=120),
            preserve_default=False,
        ),
        migrations.AddField(
            "pack", "amount", bigint(db_default=0, help_text="Units bought; what is left stands in the bucket.")
        ),
        migrations.AddField(
            "pack", "taken_back", bigint(db_default=0, default=0, help_text="Units of it whose money went back.")
        ),
        migrations.RunSQL(UNWALL_PACK, migrations.RunSQL.noop),
        EnableRLS("Pack", user="select", brand="select", service="select, insert, update"),
        CompositeFK("Pack", ["brand_id", "owner_id", "bucket_id"], *OF_BUCKET, on_delete="restrict"),
        migrations.AddConstraint(
            "pack", models.UniqueConstraint(fields=("brand", "source"), name="one_pack_per_source")
        ),
        migrations.AddConstraint(
            "pack",
            models.CheckConstraint(
                condition=Q(taken_back__gte=0, taken_back__lte=F("amount")), name="pack_taken_back_once"
            ),
        ),
        migrations.AddConstraint("hold", models.CheckConstraint(condition=Q(rate__gte=1), name="hold_has_a_rate")),
        migrations.AddConstraint(
            "entitlement",
            models.UniqueConstraint(
                fields=("account", "meter"), condition=~Q(overrides_until=None), name="one_override_per_meter"
            ),
        ),
        AddConstraintNotValid(
            "account",
            models.CheckConstraint(
                condition=Q(arrears_microusd__gte=0) & (Q(overage_cap_microusd=None) | Q(overage_cap_microusd__gte=0)),
                name="account_owes_and_caps_no_less_than_nothing",
            ),
        ),
        migrations.RemoveConstraint("bucket", "bucket_never_overspent"),
        AddConstraintNotValid(
            "bucket",
            models.CheckConstraint(
                condition=Q(limit=None) | Q(limit__gte=F("used") + F("held") - F("excess")),
                name="bucket_never_overspent",
            ),
        ),
    ]
