from django.db import migrations

from lib.operations import FillInBatches

# Until now every chat was one line. What has its parent is passed over, so a second try is quick.
PARENTS = """
with batch as (select id from conversations_conversation where id > %(after)s order by id limit %(most)s), filled as (
    update conversations_message m set parent_id = line.parent_id
    from (select o.id, lag(o.id) over (partition by o.conversation_id order by o.id) as parent_id
          from batch join conversations_message o on o.conversation_id = batch.id) line
    where m.id = line.id and m.parent_id is null and m.edited_from_id is null and line.parent_id is not null)
select id from batch order by id desc limit 1
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0022_message_tree")]

    operations = [FillInBatches(PARENTS)]
