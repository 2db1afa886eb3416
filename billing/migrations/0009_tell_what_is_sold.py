"""Brands of before learn what they sell, as billing.shelf tells it from now on. A second run changes nothing."""

from django.db import migrations

from lib.operations import as_service

SOLD = """
update accounts_brand b
set sold_plans = array(
        select code from billing_plan
        where brand_id = b.id and subject = 'member' and is_active and is_offered and (price_microusd > 0 or overage_by_default)
        order by code
    ),
    sold_packs = array(select distinct meter from billing_creditpackoffer where brand_id = b.id and is_active order by meter)
"""


def tell(apps, editor):
    with editor.connection.cursor() as cursor:
        cursor.execute(SOLD)


class Migration(migrations.Migration):
    dependencies = [("billing", "0008_fill_what_is_new"), ("accounts", "0003_what_is_sold")]

    operations = [migrations.RunPython(as_service(tell), migrations.RunPython.noop)]
