"""Append-only: people may add an event of their own brand, nobody may change or remove one."""

from django.db import migrations

from lib.operations import EnableRLS


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS(
            "Event", owner=None, user="insert", visitor="insert", brand="select, insert", service="select, insert"
        ),
        EnableRLS("Activity", owner=None, user="insert", brand="select, insert", service="select, insert"),
    ]
