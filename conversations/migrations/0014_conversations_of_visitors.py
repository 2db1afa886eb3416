from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0013_conversations_in_the_bin")]

    operations = [
        AddIndexAtWork(
            model_name="conversation",
            index=models.Index(
                condition=models.Q(("owner_kind", "visitor")),
                fields=["brand", "last_message_at"],
                name="conversations_of_visitors",
            ),
        ),
    ]
