from django.db import migrations, models

from lib.operations import AddIndexAtWork


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0010_digests_and_blocked_addresses")]

    operations = [
        AddIndexAtWork(model_name="emaillog", index=models.Index(fields=["brand", "-id"], name="mails_of_a_brand")),
    ]
