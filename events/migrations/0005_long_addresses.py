"""Forms take addresses of up to 320 characters, and whoever gives one that long still gets an answer."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("events", "0004_notices_and_mail")]

    operations = [
        migrations.AlterField("emaillog", "to_email", models.EmailField(max_length=320)),
    ]
