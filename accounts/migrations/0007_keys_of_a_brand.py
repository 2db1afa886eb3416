"""API keys that members make themselves, that are a brand's, that are renewed; and how many calls a member may make."""

import django.contrib.postgres.fields
from django.db import migrations, models

# A member's own keys; what they may do is decided by their standing whenever one is used, not by what stands in the row.
MEMBERS_WRITE = "grant insert, update on accounts_apikey to app_user"

# One indexed row tells who holds a key, what that person is on the brand at this moment, and how much they may call. The
# function before it stays for the release before, and knows nothing of keys that may do less or other than it says.
LOOKUP = """
grant create on schema lookup to app_lookup;
create function lookup.api_key_holder(prefix text, digest text)
returns table (id uuid, brand_id uuid, user_id uuid, standing text, scopes text[], is_brands boolean, models text[],
               counted_as uuid, per_minute integer, per_day integer, person_per_minute integer, zone text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.id, k.brand_id, k.user_id, m.role::text, k.scopes::text[], k.is_brands, k.allowed_models::text[],
           coalesce(k.family_id, k.id), k.rate_limit_per_minute, k.rate_limit_per_day, m.rate_limit_per_minute, b.zone::text
    from public.accounts_apikey k
    join public.accounts_brand b on b.id = k.brand_id and b.is_active
    join public.accounts_user u on u.id = k.user_id and u.is_active
    join public.accounts_membership m on m.brand_id = k.brand_id and m.user_id = k.user_id
    where k.key_prefix = prefix and k.key_hash = digest and k.is_active
          and (k.expires_at is null or k.expires_at > now())
          and k.agent_id is null  -- refused until there is a door for one agent alone
          and (not k.is_brands or m.role in ('admin', 'owner'))
$$;
revoke execute on function lookup.api_key_holder from public;
grant execute on function lookup.api_key_holder to app_public;
alter function lookup.api_key_holder owner to app_lookup;
set local role app_lookup;
create or replace function lookup.api_key(prefix text, digest text)
returns table (id uuid, brand_id uuid, user_id uuid, scopes text[], rate_limit_per_minute integer, rate_limit_per_day integer)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.id, k.brand_id, k.user_id, k.scopes::text[], k.rate_limit_per_minute, k.rate_limit_per_day
    from public.accounts_apikey k
    where k.key_prefix = prefix and k.key_hash = digest and k.is_active
          and (k.expires_at is null or k.expires_at > now())
          and k.agent_id is null and not k.is_brands and k.allowed_models = '{}'
          and lookup.standing(k.brand_id, k.user_id) is not null
$$;
reset role;
revoke create on schema lookup from app_lookup;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0006_sharing_on")]

    operations = [
        migrations.AddField(
            "apikey", "is_brands", models.BooleanField(default=False, db_default=False, verbose_name="the brand's")
        ),
        migrations.AddField(
            "apikey",
            "allowed_models",
            django.contrib.postgres.fields.ArrayField(
                models.CharField(max_length=80),
                default=list,
                db_default=[],
                blank=True,
                help_text="Models that may be asked; empty = all.",
            ),
        ),
        migrations.AddField("apikey", "family_id", models.UUIDField(null=True, blank=True, editable=False)),
        migrations.AddField("apikey", "folded_as", models.UUIDField(null=True, blank=True, editable=False)),
        migrations.AddField("apikey", "revoked_at", models.DateTimeField(null=True, blank=True)),
        migrations.AddField("membership", "rate_limit_per_minute", models.PositiveIntegerField(null=True, blank=True)),
        migrations.RunSQL([MEMBERS_WRITE, LOOKUP], migrations.RunSQL.noop),
    ]
