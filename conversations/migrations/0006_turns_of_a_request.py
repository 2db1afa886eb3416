from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("accounts", "0002_walls"),
        ("conversations", "0005_turn_first_piece_ms"),
    ]

    operations = [
        AddIndexAtWork(
            model_name="turn",
            index=models.Index(fields=["request_id"], name="turns_of_a_request"),
        ),
    ]
