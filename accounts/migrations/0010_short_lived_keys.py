from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0009_suspended_members")]

    operations = [
        migrations.AddField(
            model_name="apikey",
            name="is_short_lived",
            field=models.BooleanField(db_default=False, default=False, editable=False),
        )
    ]
