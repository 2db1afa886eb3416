"""Lines from before the chain: what would name a person moves beside them, then each is linked, in the order of their ids.

Once and never again: in here alone the service may change lines and link them.
"""

from django.db import migrations

from lib.operations import FillInBatches

MAY = """
grant update on events_activity to app_service;
grant insert on events_activitylink to app_service;
grant insert, update on events_activityhead to app_service;
grant execute on function lookup.link_line to app_service;
"""
MAY_NOT = """
revoke update on events_activity from app_service;
revoke insert on events_activitylink from app_service;
revoke insert, update on events_activityhead from app_service;
revoke execute on function lookup.link_line from app_service;
"""
MOVE = """
with batch as (
    select * from events_activity a where a.id > %(after)s order by a.id limit %(most)s
), old as (
    select b.id, b.brand_id, coalesce(b.actor_id, '00000000-0000-0000-0000-000000000000') as owner_id, b.ip_address,
           b.user_agent, uuid_send(gen_random_uuid()) as salt
    from batch b
    where b.origin is null and (b.ip_address is not null or b.user_agent <> '')
          and not exists (select from events_activitylink l where l.id = b.id)
), moved as (
    insert into events_activityorigin (id, brand_id, owner_id, ip_address, user_agent, salt)
    select id, brand_id, owner_id, ip_address, user_agent, salt from old
), told as (
    update events_activity a
    set origin = lookup.origin_digest(old.salt, old.owner_id, old.ip_address, old.user_agent),
        ip_address = null, user_agent = ''
    from old where a.id = old.id
)
select id from batch order by id desc limit 1
"""
NAME = """
with batch as (select id from events_activity where id > %(after)s order by id limit %(most)s), named as (
    update events_activity a
    set actor_kind = case when a.changes ->> 'by' = 'staff' or a.action = 'support.read' then 'staff'
                          when a.actor_id is null then 'system' else a.actor_kind end,
        description = case when a.resource_type in ('user', 'emailaddress', 'invitation') then '' else a.description end
    from batch where a.id = batch.id and not exists (select from events_activitylink l where l.id = a.id)
)
select id from batch order by id desc limit 1
"""
LINK = """
with batch as (select id from events_activity where id > %(after)s order by id limit %(most)s), linked as (
    select lookup.link_line(a) from (
        select a.* from events_activity a join batch on batch.id = a.id
        where not exists (select from events_activitylink l where l.id = a.id) order by a.id
    ) a
)
select id, (select count(*) from linked) from batch order by id desc limit 1
"""


class Migration(migrations.Migration):
    atomic = False
    dependencies = [("events", "0014_activity_chain")]

    operations = [
        migrations.RunSQL(MAY, MAY_NOT),
        FillInBatches(MOVE),
        FillInBatches(NAME),
        FillInBatches(LINK),
        migrations.RunSQL(MAY_NOT, MAY),
    ]
