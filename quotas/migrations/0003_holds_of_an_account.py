from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [
        ("accounts", "0002_walls"),
        ("quotas", "0002_walls"),
    ]

    operations = [
        AddIndexAtWork(
            model_name="hold",
            index=models.Index(fields=["brand", "owner_id", "reservation"], name="holds_of_an_account"),
        ),
    ]
