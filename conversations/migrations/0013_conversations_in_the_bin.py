from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0012_templates")]

    operations = [
        AddIndexAtWork(
            model_name="conversation",
            index=models.Index(
                condition=models.Q(("deleted_at__isnull", False)),
                fields=["brand", "deleted_at"],
                name="conversations_in_the_bin",
            ),
        ),
    ]
