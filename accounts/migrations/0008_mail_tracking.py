from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_keys_of_a_brand")]

    operations = [
        migrations.AddField(
            "brand",
            "mail_tracking",
            models.BooleanField(
                db_default=False,
                default=False,
                help_text="Note which mails are opened and whose links are followed. Never of mails about signing in.",
            ),
        ),
    ]
