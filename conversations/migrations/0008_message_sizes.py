from django.db import migrations

SET = "alter table conversations_message alter column metadata set storage {0}, alter column function_call set storage {0}"


class Migration(migrations.Migration):
    """What is not compressed has the size that pg_column_size() tells without reading it: LOAD's bound rests on that.

    A picture of nothing but zeros would be a hundredth of itself on the disk. Real ones do not compress.
    """

    dependencies = [("conversations", "0007_turns_ended")]

    operations = [migrations.RunSQL(SET.format("external"), SET.format("extended"))]
