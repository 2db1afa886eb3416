"""What was used is only ever added, by the service; members read their own, in two views too, which show what their
reader may see."""

from django.db import migrations

from lib.operations import EnableRLS

# S1: usage by day and member, the day being the brand's.
DAILY = """
create view daily_quota_usage with (security_invoker = true) as
select u.brand_id, u.owner_id, (u.created_at at time zone b.zone)::date as day,
       count(*) filter (where u.usage_type in ('message', 'api_call', 'embedding')) as queries,
       count(*) filter (where u.usage_type in ('message', 'api_call', 'embedding') and u.pocket = 'plan') as plan_queries,
       count(*) filter (where u.usage_type in ('message', 'api_call', 'embedding') and u.pocket = 'pack') as pack_queries,
       count(*) filter (where u.usage_type in ('message', 'api_call', 'embedding') and u.overage) as overage_queries,
       count(*) filter (where u.usage_type in ('message', 'api_call', 'embedding') and u.byok) as own_key_queries,
       count(*) filter (where u.usage_type = 'conversation') as conversations,
       sum(u.total_tokens)::bigint as total_tokens, sum(u.total_cost_microusd)::bigint as total_cost_microusd,
       sum(u.model_cost_microusd)::bigint as model_cost_microusd
from quotas_usagelog u join accounts_brand b on b.id = u.brand_id
group by u.brand_id, u.owner_id, day
"""
# S0: the ledger by its own name for it. `amount` is what the line did to what is left.
TRANSACTIONS = """
create view quota_transactions with (security_invoker = true) as
select e.id, e.brand_id, e.owner_id, a.kind as account_kind, b.meter as quota_type, b.pocket, e.kind as transaction_type,
       e.limit_delta - e.used_delta as amount, e.reservation, e.cost_microusd, e.reason, e.actor_id, e.created_at
from quotas_entry e join quotas_bucket b on b.id = e.bucket_id join quotas_account a on a.id = b.account_id
"""
VIEWS = ("daily_quota_usage", "quota_transactions")
RIGHTS = ";".join(
    f"revoke all on {view} from app_service; grant select on {view} to app_user, app_brand, app_service"
    for view in VIEWS
)


class Migration(migrations.Migration):
    dependencies = [("quotas", "0005_usagelog")]

    operations = [
        EnableRLS("UsageLog", user="select", brand="select", service="select, insert"),
        migrations.RunSQL([DAILY, TRANSACTIONS, RIGHTS], [f"drop view {view}" for view in VIEWS]),
    ]
