from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0025_feedback_and_corrections")]

    operations = [
        AddIndexAtWork(
            model_name="conversation",
            index=models.Index(
                condition=models.Q(("pinned_at__isnull", False)),
                fields=["brand", "owner_id"],
                name="conversations_pinned",
            ),
        ),
    ]
