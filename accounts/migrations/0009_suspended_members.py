"""A brand's admins may suspend a member: the row stays, and gives no standing while it is suspended."""

from django.db import migrations, models
from django.db.models import Q

STANDING = """
create or replace function lookup.standing(brand uuid, owner uuid) returns text
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select coalesce(
        (select m.role from public.accounts_membership m
         join public.accounts_user u on u.id = m.user_id and u.is_active
         join public.accounts_brand b on b.id = m.brand_id and b.is_active
         where m.brand_id = brand and m.user_id = owner {and_in_force}),
        (select 'visitor' from public.accounts_visitor v
         join public.accounts_brand b on b.id = v.brand_id and b.is_active
         where v.brand_id = brand and v.id = owner))
$$;
"""
KEY_HOLDER = """
create or replace function lookup.api_key_holder(prefix text, digest text)
returns table (id uuid, brand_id uuid, user_id uuid, standing text, scopes text[], is_brands boolean, models text[],
               counted_as uuid, per_minute integer, per_day integer, person_per_minute integer, zone text)
language sql stable security definer set search_path = pg_catalog, pg_temp as $$
    select k.id, k.brand_id, k.user_id, m.role::text, k.scopes::text[], k.is_brands, k.allowed_models::text[],
           coalesce(k.family_id, k.id), k.rate_limit_per_minute, k.rate_limit_per_day, m.rate_limit_per_minute, b.zone::text
    from public.accounts_apikey k
    join public.accounts_brand b on b.id = k.brand_id and b.is_active
    join public.accounts_user u on u.id = k.user_id and u.is_active
    join public.accounts_membership m on m.brand_id = k.brand_id and m.user_id = k.user_id {and_in_force}
    where k.key_prefix = prefix and k.key_hash = digest and k.is_active
          and (k.expires_at is null or k.expires_at > now())
          and k.agent_id is null  -- refused until there is a door for one agent alone
          and (not k.is_brands or m.role in ('admin', 'owner'))
$$;
"""
# Only their owner may replace them, and only where it may make things.
AS_LOOKUP = """
grant create on schema lookup to app_lookup;
set local role app_lookup;
{functions}
reset role;
revoke create on schema lookup from app_lookup;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0008_mail_tracking")]

    operations = [
        migrations.AddField(
            model_name="membership", name="suspended_at", field=models.DateTimeField(blank=True, null=True)
        ),
        migrations.AddConstraint(
            model_name="invitation",
            constraint=models.UniqueConstraint(
                condition=Q(("accepted_at", None)), fields=("brand", "email"), name="one_open_invitation_per_address"
            ),
        ),
        migrations.RunSQL(
            AS_LOOKUP.format(functions=(STANDING + KEY_HOLDER).format(and_in_force="and m.suspended_at is null")),
            AS_LOOKUP.format(functions=(STANDING + KEY_HOLDER).format(and_in_force="")),
        ),
    ]
