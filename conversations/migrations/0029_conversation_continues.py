from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("conversations", "0028_better_titles")]

    operations = [
        migrations.AddField(model_name="conversation", name="continues_id", field=models.UUIDField(null=True)),
    ]
