from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0009_turn_pocket")]

    operations = [
        migrations.AddField(
            model_name="conversation",
            name="is_counted",
            field=models.BooleanField(db_default=True, default=True),
        ),
    ]
