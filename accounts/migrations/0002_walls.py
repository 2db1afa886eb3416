"""Row-level security of what stands in accounts, and the look-ups that tell who is asking before any scope is open."""

from django.db import migrations

from lib.operations import EnableRLS

# Rights that new tables give to nobody but the service; a forgotten table is closed to people.
DEFAULTS = "alter default privileges in schema public grant select, insert, update, delete on tables to app_service"
SEQUENCES = "alter default privileges in schema public grant select on sequences to app_service"  # what pg_dump needs
EXISTING = """
grant usage on schema public to app_public;
grant select, insert, update, delete on all tables in schema public to app_service;
grant select on all sequences in schema public to app_service;
"""

LOOKUPS = """
create schema lookup;
grant usage on schema lookup to app_public;
grant create on schema lookup to app_lookup;
grant usage on schema public to app_lookup;
grant select on accounts_membership, accounts_visitor, accounts_apikey, accounts_user, accounts_brand to app_lookup;
create policy lookup on accounts_membership for select to app_lookup using (true);
create policy lookup on accounts_visitor for select to app_lookup using (true);
create policy lookup on accounts_apikey for select to app_lookup using (true);

create function lookup.standing(brand uuid, owner uuid) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        (select m.role from public.accounts_membership m
         join public.accounts_user u on u.id = m.user_id and u.is_active
         join public.accounts_brand b on b.id = m.brand_id and b.is_active
         where m.brand_id = brand and m.user_id = owner),
        (select 'visitor' from public.accounts_visitor v
         join public.accounts_brand b on b.id = v.brand_id and b.is_active
         where v.brand_id = brand and v.id = owner))
$$;

create function lookup.api_key(prefix text, digest text)
returns table (id uuid, brand_id uuid, user_id uuid, scopes text[], rate_limit_per_minute integer, rate_limit_per_day integer)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.id, k.brand_id, k.user_id, k.scopes::text[], k.rate_limit_per_minute, k.rate_limit_per_day
    from public.accounts_apikey k
    where k.key_prefix = prefix and k.key_hash = digest and k.is_active
          and (k.expires_at is null or k.expires_at > now())
          and k.agent_id is null  -- refused until a principal can be bound to one agent
          and lookup.standing(k.brand_id, k.user_id) is not null
$$;

revoke execute on all functions in schema lookup from public;  -- before they are given away: later it revokes nothing
grant execute on all functions in schema lookup to app_public;
alter function lookup.standing owner to app_lookup;
alter function lookup.api_key owner to app_lookup;
grant usage on schema lookup to app_lookup;
revoke create on schema lookup from app_lookup;
"""

# The web log-in may write users (sign-up, passwords), so the flags that make somebody staff are held by a trigger.
STAFF_FLAGS = """
create function public.guard_staff_flags() returns trigger language plpgsql set search_path = pg_catalog, pg_temp as $$
begin
    if current_user not in ('app_service', 'owner') and
       (new.is_staff, new.is_superuser) is distinct from
       (case when tg_op = 'UPDATE' then old.is_staff else false end,
        case when tg_op = 'UPDATE' then old.is_superuser else false end)
    then raise insufficient_privilege using message = 'only the service may change who is staff';
    end if;
    return new;
end $$;
create trigger guard_staff_flags before insert or update on accounts_user
for each row execute function public.guard_staff_flags();
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0001_initial")]

    operations = [
        migrations.RunSQL([DEFAULTS, SEQUENCES, EXISTING], migrations.RunSQL.noop),
        EnableRLS("Profile", owner="user_id", brand_column="", user="select, insert, update"),
        EnableRLS("Membership", owner="user_id", user="select", brand="select, insert, update, delete"),
        EnableRLS("Invitation", owner=None, brand="select, insert, update, delete"),
        EnableRLS("Visitor", owner="id", visitor="select, update", brand="select"),
        EnableRLS("ApiKey", owner="user_id", user="select", brand="select, insert, update"),
        EnableRLS("SupportGrant", owner=None, brand="select"),
        EnableRLS(
            "IdempotencyRecord",
            user="select, insert, update, delete",
            visitor="select, insert, update, delete",
            brand="select, insert, update, delete",
        ),
        migrations.RunSQL(LOOKUPS, "drop schema lookup cascade"),
        migrations.RunSQL(STAFF_FLAGS, "drop function public.guard_staff_flags() cascade"),
    ]
