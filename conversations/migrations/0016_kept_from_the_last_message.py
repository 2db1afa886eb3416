"""How long a chat is kept is counted from its last message, so that is always known, and no date of its own is stored.

The column `expires_at`, which nothing ever wrote, goes with the next release: the one before this names it.
"""

from django.db import migrations, models
from django.db.models import F
from django.db.models.functions import Now

from lib.operations import as_service


def fill(apps, editor):
    Conversation = apps.get_model("conversations", "Conversation")
    Conversation.objects.filter(last_message_at=None).update(last_message_at=F("created_at"))


class Migration(migrations.Migration):
    dependencies = [("conversations", "0015_no_index_of_expiry")]

    operations = [
        migrations.AlterField(
            model_name="conversation",
            name="last_message_at",
            field=models.DateTimeField(db_default=Now(), null=True),
        ),
        migrations.SeparateDatabaseAndState(
            state_operations=[migrations.RemoveField(model_name="conversation", name="expires_at")]
        ),
        migrations.RunPython(as_service(fill), migrations.RunPython.noop),
    ]
