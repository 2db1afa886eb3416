"""Which keys were made for a day at most; until now their end and their beginning said so."""

from django.db import migrations

from lib.operations import FillInBatches

KEYS = """
with batch as (
    select id, expires_at <= created_at + interval '1 day' as is_short from accounts_apikey
    where id > %(after)s order by id limit %(most)s
), filled as (
    update accounts_apikey k set is_short_lived = true from batch b where k.id = b.id and b.is_short
)
select id from batch order by id desc limit 1
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("accounts", "0010_short_lived_keys")]

    operations = [FillInBatches(KEYS)]
