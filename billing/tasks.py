from celery import shared_task

from billing import plans
from billing.models import Plan
from lib.db import SERVICE, scope


@shared_task(scoped=False)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def push_plan(plan_id: str) -> int:
    """Give everybody on a plan its limits as staff left them. Returns how many; a repeat changes nothing."""
    with scope(SERVICE):
        plan = Plan.objects.select_related("brand").get(pk=plan_id)
    return plans.push(plan)
