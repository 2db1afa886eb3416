"""Plans are data: catalogues to start from, and the one function that puts somebody on a plan."""

import json
from datetime import datetime
from pathlib import Path
from uuid import UUID

from accounts.models import Brand
from billing.models import Plan, PlanLimit, Subscription
from events import stream
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound
from quotas import ledger

CATALOGUES = Path(__file__).parent / "catalogues"


def install_catalogue(brand: Brand, name: str) -> list[Plan]:
    """Give a brand the plans of a catalogue (`s0`, `s1`). Plans it has already are left as staff made them."""
    path = CATALOGUES / f"{name}.json"
    if not path.is_file():
        raise NotFound(
            f"There is no catalogue {name}. There are: {', '.join(sorted(p.stem for p in CATALOGUES.glob('*.json')))}."
        )
    made = []
    with scope(SERVICE):
        for row in json.loads(path.read_text()):
            limits = row.pop("limits")
            plan, created = Plan.objects.get_or_create(brand=brand, code=row["code"], defaults=row)
            if created:
                PlanLimit.objects.bulk_create([PlanLimit(brand=brand, plan=plan, **limit) for limit in limits])
                made.append(plan)
    return made


def assign_plan(brand: Brand, plan: Plan, *, user_id: UUID | None = None, now: datetime | None = None) -> Subscription:
    """Put a member, or the brand itself when `user_id` is None, on a plan. A repeat changes nothing.

    Must run in the service scope. Source: S1 user_subscriptions, S2 user_plans.
    """
    now = now or clock.now()
    kind, owner_id = ("user", user_id) if user_id else ("brand", brand.pk)
    if (plan.subject == Plan.Subject.BRAND) != (user_id is None):
        raise Invalid(f"The plan {plan.code} is for {plan.get_subject_display()}.")
    with scope(SERVICE):
        current = Subscription.objects.select_for_update().filter(brand=brand, owner_id=owner_id, ended_at=None).first()
        if current and current.plan_id != plan.pk:
            current.ended_at = now
            current.save(update_fields=["ended_at"])
        if current is None or current.ended_at:
            before = current.plan.code if current else None
            current = Subscription.objects.create(brand=brand, owner_id=owner_id, plan=plan, started_at=now)
            stream.publish(
                brand.pk,
                "plan.changed",
                subject=(kind, owner_id),
                owner_id=user_id,
                data={"from": before, "to": plan.code},
            )
        _entitle(plan, owner_id, now=now)
        return current


def push(plan: Plan) -> int:
    """Give everybody on a plan its limits as they stand now, one transaction each. Returns how many; safe to repeat."""
    with scope(SERVICE):
        owners = list(Subscription.objects.filter(plan=plan, ended_at=None).values_list("owner_id", flat=True))
    for owner_id in owners:
        with scope(SERVICE):
            if Subscription.objects.filter(plan=plan, owner_id=owner_id, ended_at=None).exists():
                _entitle(plan, owner_id, now=clock.now())
    return len(owners)


def _entitle(plan: Plan, owner_id: UUID, *, now: datetime) -> None:
    ledger.entitle(
        plan.brand,
        kind="brand" if plan.subject == Plan.Subject.BRAND else "user",
        owner_id=owner_id,
        grants=[ledger.Grant(limit.meter, limit.window, limit.limit) for limit in plan.limits.order_by("meter")],
        plan_code=plan.code,
        plan_name=plan.name,
        features=plan.features,
        now=now,
    )


def assign_default_plan(brand: Brand, user_id: UUID) -> None:
    """What a new member gets; a brand without a default plan gives nothing, and its members cannot ask yet."""
    with scope(SERVICE):
        plan = Plan.objects.filter(brand=brand, code=brand.default_plan, is_active=True).first()
        if plan:
            assign_plan(brand, plan, user_id=user_id)
