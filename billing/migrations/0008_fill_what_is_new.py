"""What installations of before have: plans of the first catalogue go on sale, accounts learn what their plan says now, and
each subscription gets the first line of its history. A second run changes nothing."""

from django.db import migrations

from lib.operations import as_service

OF_S1 = ["free", "basic", "pro", "usage_only"]

ON_SALE = """
update billing_plan set is_offered = true where code = any(%s) and subject = 'member' and is_active
"""
PAY_AS_YOU_GO = """
update billing_plan set overage_by_default = true where code = 'usage_only' and overage_allowed
"""
# Not what stands there already: whoever changed a plan or an account since is right.
FEATURES = """
update quotas_account a
set features = jsonb_build_object(
        'unit', p.unit, 'overage_by_default', p.overage_by_default, 'concurrent_turns', p.concurrent_turns,
        'rate_limit_per_minute', p.rate_limit_per_minute, 'is_billable', s.is_billable
    ) || a.features
from billing_subscription s join billing_plan p on p.brand_id = s.brand_id and p.id = s.plan_id
where s.ended_at is null and a.brand_id = s.brand_id and a.owner_id = s.owner_id
  and a.kind = case p.subject when 'brand' then 'brand' else 'user' end and not a.features ? 'unit'
"""
HISTORY = """
insert into billing_subscriptionhistory (
    id, created_at, brand_id, owner_id, subscription_id, effective_at, code, plan_id, plan_in_force, status, billing_cycle,
    monthly_price_microusd, annual_price_microusd, started_at, ended_at, trial_ends_at, cancelled_at,
    cancellation_reason, cancellation_comment
)
select gen_random_uuid(), now(), s.brand_id, s.owner_id, s.id, s.started_at, 'started', s.plan_id, p.code, s.status, s.cycle,
    case p.period when 'month' then p.price_microusd when 'year' then p.price_microusd / 12 else 0 end,
    p.annual_price_microusd, s.started_at, null, s.trial_ends_at, null, '', ''
from billing_subscription s join billing_plan p on p.brand_id = s.brand_id and p.id = s.plan_id
where not exists (
    select from billing_subscriptionhistory h where h.brand_id = s.brand_id and h.owner_id = s.owner_id
        and h.subscription_id = s.id
)
"""


def fill(apps, editor):
    with editor.connection.cursor() as cursor:
        cursor.execute(ON_SALE, [OF_S1])
        cursor.execute(PAY_AS_YOU_GO)
        cursor.execute(FEATURES)
        cursor.execute(HISTORY)


class Migration(migrations.Migration):
    dependencies = [("billing", "0007_walls_of_books"), ("quotas", "0004_hold_purpose")]

    operations = [migrations.RunPython(as_service(fill), migrations.RunPython.noop)]
