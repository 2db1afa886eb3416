from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("quotas", "0003_holds_of_an_account")]

    operations = [
        migrations.AddField(
            model_name="hold",
            name="purpose",
            field=models.CharField(db_default="turn", default="turn", max_length=20),
        ),
    ]
