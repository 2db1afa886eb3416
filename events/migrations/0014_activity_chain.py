"""Each line of the audit log is chained to the one before when it is committed, by the database: ADR 10.

No role that a log-in may become writes links or heads: only this function does, as app_lookup, which nobody may become.
"""

from django.db import migrations

# Where somebody asked from, in a digest that tells nothing without the salt.
ORIGIN = """
create function lookup.origin_digest(salt bytea, owner uuid, ip inet, user_agent text) returns bytea
language sql immutable parallel safe as $$
    select sha256(salt || convert_to(owner::text || '|' || coalesce(host(ip), '') || '|' || user_agent, 'UTF8'))
$$
"""
# What a line says, its number, and the digest before. JSON of jsonb is the same text whoever prints it; moments are counted.
DIGEST = """
create function lookup.line_digest(line public.events_activity, number bigint, before bytea) returns bytea
language sql stable parallel safe as $$
    select sha256(convert_to(jsonb_build_array(
        number, encode(before, 'hex'), line.id, line.brand_id, (extract(epoch from line.created_at) * 1000000)::bigint,
        line.actor_id, line.actor_kind, line.key_id, line.action, line.resource_type, line.resource_id,
        line.description, line.changes, line.request_id, encode(line.origin, 'hex'))::text, 'UTF8'))
$$
"""
# Whoever links holds the lock of the chain's head.
LINK = """
create function lookup.link_line(line public.events_activity) returns void
language plpgsql set search_path = pg_catalog, pg_temp as $$
declare
    of_brand uuid := coalesce(line.brand_id, '00000000-0000-0000-0000-000000000000');
    number bigint;
    before bytea;
    proof bytea;
begin
    insert into public.events_activityhead (id, length, digest) values (of_brand, 0, '') on conflict (id) do nothing;
    select h.length + 1, h.digest into number, before from public.events_activityhead h where h.id = of_brand for update;
    proof := lookup.line_digest(line, number, before);
    insert into public.events_activitylink (id, chain, number, digest) values (line.id, of_brand, number, proof);
    update public.events_activityhead h set length = number, digest = proof where h.id = of_brand;
end
$$
"""
# At the end of the transaction, so that nobody waits for the head of a chain while somebody else works.
LINK_NEW = """
create function lookup.link_activity() returns trigger
language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
begin
    perform lookup.link_line(new);
    return null;
end
$$
"""
RIGHTS = """
revoke insert, update, delete on events_activitylink, events_activityhead from app_service;
grant select, insert on events_activitylink to app_lookup;
grant select, insert, update on events_activityhead to app_lookup;
revoke execute on function lookup.origin_digest, lookup.line_digest, lookup.link_line, lookup.link_activity from public;
grant execute on function lookup.origin_digest, lookup.link_activity to app_public;
grant execute on function lookup.line_digest to app_lookup, app_service;
grant execute on function lookup.link_line to app_lookup;
"""
TRIGGER = """
create constraint trigger link after insert on events_activity deferrable initially deferred
for each row execute function lookup.link_activity()
"""
OWNER = """
grant create on schema lookup to app_lookup;
alter function lookup.link_activity owner to app_lookup;
revoke create on schema lookup from app_lookup;
"""
BACK = """
drop trigger link on events_activity;
drop function lookup.link_activity, lookup.link_line, lookup.line_digest, lookup.origin_digest;
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0013_activity_lines"), ("accounts", "0002_walls")]

    operations = [migrations.RunSQL([ORIGIN, DIGEST, LINK, LINK_NEW, RIGHTS, TRIGGER, OWNER], BACK)]
