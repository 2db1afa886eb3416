from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0014_conversations_of_visitors")]

    operations = [RemoveIndexConcurrently(model_name="conversation", name="conversations_to_expire")]
