from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("accounts", "0002_walls"),
        ("conversations", "0006_turns_of_a_request"),
    ]

    operations = [
        AddIndexAtWork(
            model_name="turn",
            index=models.Index(
                condition=models.Q(("status__in", ["pending", "streaming"]), _negated=True),
                fields=["brand", "id"],
                name="turns_ended",
            ),
        ),
    ]
