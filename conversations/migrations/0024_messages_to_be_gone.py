from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0023_fill_parents")]

    operations = [
        AddIndexAtWork(
            model_name="message",
            index=models.Index(
                condition=models.Q(("withdrawn__isnull", False)), fields=["deleted_at"], name="messages_to_be_gone"
            ),
        ),
    ]
