from django.db import migrations

from lib.operations import CompositeFK, EnableRLS

OF_CONVERSATION = ("Conversation", ["brand_id", "owner_id", "id"])
ALL = "select, insert, update, delete"


class Migration(migrations.Migration):
    dependencies = [("conversations", "0001_initial"), ("accounts", "0002_walls")]

    operations = [
        EnableRLS("Conversation", user=ALL, visitor="select, insert, update", brand="select"),
        EnableRLS("Message", user=ALL, visitor="select, insert, update", brand="select"),
        EnableRLS("Turn", user="select, insert", visitor="select, insert", brand="select"),
        CompositeFK("Message", ["brand_id", "owner_id", "conversation_id"], *OF_CONVERSATION),
        CompositeFK("Turn", ["brand_id", "owner_id", "conversation_id"], *OF_CONVERSATION),
    ]
