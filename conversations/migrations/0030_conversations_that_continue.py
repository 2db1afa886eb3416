from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0029_conversation_continues")]

    operations = [
        AddIndexAtWork(
            model_name="conversation",
            index=models.Index(
                condition=models.Q(("continues_id__isnull", False)),
                fields=["continues_id"],
                name="conversations_that_continue",
            ),
        ),
    ]
