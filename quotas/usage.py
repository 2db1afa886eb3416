"""What was used, one line for each use (S1 and S3 `usage_logs`), beside the ledger that proves the sums."""

from datetime import date
from typing import Any
from uuid import UUID

from lib.db import Principal, Statement, send
from lib.ids import uuid7
from quotas.models import UsageLog

# What was taken and what it costs is read from the ledger's own lines, written just before in the same transaction.
# It is of whoever asked, also when an account has taken the chat over meanwhile.
# `counted_against_quota`: an allowance became smaller by it. A repeat for the same reservation changes nothing.
LOG = """
insert into quotas_usagelog (id, brand_id, owner_id, usage_type, reservation, agent_id, provider_id, model, prompt_tokens,
                             completion_tokens, total_tokens, pocket, counted_against_quota, overage, byok,
                             unit_cost_microusd, total_cost_microusd, model_cost_microusd, created_at)
select %(id)s, %(brand)s, coalesce(taken.payer, %(owner)s), %(type)s, %(reservation)s, %(agent)s, %(provider)s, %(model)s,
       %(prompt_tokens)s, %(completion_tokens)s, %(prompt_tokens)s::bigint + %(completion_tokens)s::bigint, %(pocket)s::text,
       taken.has_counted, %(pocket)s::text = 'overage', %(pocket)s::text = 'own_key', taken.owed, taken.owed,
       %(model_cost)s, now()
from (select coalesce(bool_or(e.used_delta > 0 and b.pocket in ('plan', 'pack')), false) as has_counted,
             coalesce(sum(e.used_delta) filter (where b.pocket = 'overage'), 0)::bigint as owed,
             (array_agg(a.owner_id) filter (where a.kind in ('user', 'visitor')))[1] as payer
      from quotas_entry e join quotas_bucket b on b.id = e.bucket_id join quotas_account a on a.id = b.account_id
      where e.reservation = %(reservation)s and e.kind = 'use') taken
on conflict do nothing
"""
BY_DAY = """
select day, queries, plan_queries, pack_queries, overage_queries, own_key_queries, conversations,
       total_tokens, total_cost_microusd, model_cost_microusd
from daily_quota_usage where brand_id = %(brand)s and owner_id = %(owner)s and day >= %(since)s order by day
"""


def logging(
    brand_id: UUID,
    owner_id: UUID,
    *,
    usage_type: str,
    reservation: UUID,
    pocket: str,
    model: str = "",
    provider_id: UUID | None = None,
    agent_id: UUID | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    model_cost_microusd: int = 0,
) -> Statement:
    """One use as a statement, for the service's transaction that settled it; to be sent after settling(), one unit each.

    pocket               what reserve() said would pay
    model_cost_microusd  what its tokens cost at the model's price; what its member owes is read from the ledger
    """
    names = {
        "id": uuid7(),
        "brand": brand_id,
        "owner": owner_id,
        "type": UsageLog.Type(usage_type).value,
        "reservation": reservation,
        "agent": agent_id,
        "provider": provider_id,
        "model": model,
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "pocket": pocket,
        "model_cost": model_cost_microusd,
    }
    return LOG, names


def newest(principal: Principal, *, limit: int, before: UUID) -> list[UsageLog]:
    """The person's own lines, the newest first, those made before the line `before`. In the person's scope."""
    own = UsageLog.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, id__lt=before)
    return list(own.order_by("-id")[:limit])


def by_day(brand_id: UUID, owner_id: UUID, *, since: date) -> list[Any]:
    """The days on which something was used, oldest first, in the brand's zone: how many questions, from which pocket.

    Runs in the open scope: a member sees the own days only. Source: S1 `daily_quota_usage`.
    """
    return send((BY_DAY, {"brand": brand_id, "owner": owner_id, "since": since}))[0]
