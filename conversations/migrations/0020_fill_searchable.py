from django.db import migrations

from lib.operations import FillInBatches

# By key, so that a batch is one walk of the index; what has its words already is passed over, so a second try is quick.
MESSAGES = """
with batch as (select id from conversations_message where id > %(after)s order by id limit %(most)s), filled as (
    update conversations_message m set searchable = public.searchable(m.content) from batch
    where m.id = batch.id and m.searchable is null and m.content <> '' and m.role in ('user', 'assistant'))
select id from batch order by id desc limit 1
"""
TITLES = """
with batch as (select id from conversations_conversation where id > %(after)s order by id limit %(most)s), filled as (
    update conversations_conversation c set searchable = public.searchable(c.title) from batch
    where c.id = batch.id and c.searchable is null)
select id from batch order by id desc limit 1
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("conversations", "0019_searchable")]

    operations = [FillInBatches(TITLES), FillInBatches(MESSAGES)]
