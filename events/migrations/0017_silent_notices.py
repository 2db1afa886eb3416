from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0016_indexes_of_activity")]

    operations = [
        migrations.AddField("notification", "is_silent", models.BooleanField(db_default=False, default=False)),
    ]
