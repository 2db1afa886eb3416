from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0003_turn_request_stop_attempts")]

    operations = [
        migrations.CreateModel(
            name="Look",
            fields=[
                ("id", models.SmallIntegerField(primary_key=True, serialize=False)),
                ("seen_at", models.DateTimeField()),
                ("blind_from", models.DateTimeField()),
                ("blind_until", models.DateTimeField()),
            ],
        ),
    ]
