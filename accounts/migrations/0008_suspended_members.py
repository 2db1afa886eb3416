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
# Only its owner may replace it, and only where it may make things.
AS_LOOKUP = """
grant create on schema lookup to app_lookup;
set local role app_lookup;
{standing}
reset role;
revoke create on schema lookup from app_lookup;
"""


class Migration(migrations.Migration):
    dependencies = [("accounts", "0007_keys_of_a_brand")]

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
            AS_LOOKUP.format(standing=STANDING.format(and_in_force="and m.suspended_at is null")),
            AS_LOOKUP.format(standing=STANDING.format(and_in_force="")),
        ),
    ]
