from django.db import migrations

from lib.operations import EnableRLS


class Migration(migrations.Migration):
    dependencies = [("agents", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("Agent", user="select, insert, update, delete", brand="select, insert, update, delete"),
    ]
