from django.db import migrations

import lib.sealed


class Migration(migrations.Migration):
    dependencies = [("events", "0017_silent_notices")]

    operations = [
        migrations.AddField(
            "webhookendpoint", "older_secrets", lib.sealed.SealedTextField(bind=("pk", "brand_id"), null=True)
        ),
    ]
