from django.db import migrations

from lib.operations import EnableRLS


class Migration(migrations.Migration):
    dependencies = [("providers", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("SystemPrompt", owner=None, user="select", visitor="select", brand="select, insert, update, delete"),
    ]
