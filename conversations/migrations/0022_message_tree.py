from django.db import migrations, models

# Whoever only goes on gives no parent: the database hangs the message on the end of the path that is shown. It looks when the
# row is written, under the lock that its writer has on the conversation, so that nobody's message is hung beside another's;
# and a release that knows nothing of the tree keeps it whole. An edited first question has no parent, and says what it was.
HANG = """
create function hang_message() returns trigger language plpgsql as $$
begin
    new.parent_id := (select id from public.conversations_message
                      where conversation_id = new.conversation_id and is_current order by id desc limit 1);
    return new;
end
$$
"""


class Migration(migrations.Migration):
    dependencies = [("conversations", "0021_shares_and_exports")]

    operations = [
        migrations.AddField("message", "parent_id", models.UUIDField(null=True)),
        migrations.AddField("message", "is_current", models.BooleanField(db_default=True, default=True)),
        migrations.AddField("message", "deleted_at", models.DateTimeField(null=True)),
        migrations.AddField("message", "withdrawn", models.JSONField(null=True)),
        migrations.RunSQL(HANG, "drop function hang_message"),
        migrations.RunSQL(
            "create trigger hang before insert on conversations_message for each row"
            " when (new.parent_id is null and new.edited_from_id is null) execute function hang_message()",
            "drop trigger hang on conversations_message",
        ),
    ]
