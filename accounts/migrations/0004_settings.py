"""What people choose on the settings page, and which models a brand does not offer."""

import django.contrib.postgres.fields
import lib.zones
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_what_is_sold"),
    ]

    operations = [
        migrations.AddField(
            model_name="brand",
            name="withheld_models",
            field=django.contrib.postgres.fields.ArrayField(
                base_field=models.UUIDField(), blank=True, db_default=[], default=list, editable=False, size=None
            ),
        ),
        migrations.AddField(
            model_name="profile",
            name="announce",
            field=models.CharField(
                choices=[("full", "Full"), ("first", "First"), ("end", "End")],
                db_default="full",
                default="full",
                max_length=10,
            ),
        ),
        migrations.AddField(
            model_name="profile",
            name="avatar_key",
            field=models.CharField(blank=True, db_default="", default="", max_length=200),
        ),
        migrations.AddField(
            model_name="profile",
            name="enter_sends",
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name="profile",
            name="language",
            field=models.CharField(blank=True, db_default="", default="", max_length=10),
        ),
        migrations.AddField(
            model_name="profile",
            name="shortcuts_on",
            field=models.BooleanField(db_default=True, default=True),
        ),
        migrations.AddField(
            model_name="profile",
            name="theme",
            field=models.CharField(
                blank=True, choices=[("light", "Light"), ("dark", "Dark")], db_default="", default="", max_length=10
            ),
        ),
        migrations.AddField(
            model_name="profile",
            name="zone",
            field=models.CharField(
                blank=True, db_default="", default="", max_length=64, validators=[lib.zones.is_zone]
            ),
        ),
    ]
