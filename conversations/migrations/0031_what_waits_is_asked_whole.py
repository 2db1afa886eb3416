from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("conversations", "0030_conversations_that_continue"),
    ]

    operations = [
        migrations.AddField(
            model_name="pendingmessage",
            name="asked",
            field=models.JSONField(db_default=models.Value({}, models.JSONField()), default=dict),
        ),
    ]
