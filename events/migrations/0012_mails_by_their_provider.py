from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0011_mails_of_a_brand")]

    operations = [
        AddIndexAtWork(
            model_name="emaillog",
            index=models.Index(
                condition=models.Q(("provider_message_id", ""), _negated=True),
                fields=["provider_message_id"],
                name="mails_by_their_provider",
            ),
        ),
    ]
