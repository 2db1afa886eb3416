from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0015_chain_old_lines")]

    operations = [
        AddIndexAtWork("activity", models.Index(fields=["brand", "-id"], name="activities_page_by_page")),
        AddIndexAtWork("activity", models.Index(fields=["actor", "-id"], name="activities_of_an_actor")),
        AddIndexAtWork("activity", models.Index(fields=["resource_id", "-id"], name="activities_of_a_row")),
    ]
