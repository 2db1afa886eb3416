"""Plans are data: catalogues to start from, and the one function that puts somebody on a plan."""

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID

from django.db.models import Q

from accounts.models import Brand
from billing import shelf
from billing.books import CreditPackOffer
from billing.lifecycle import Facts, current, entitle, fallback_plan, had_trial, take
from billing.models import Plan, PlanLimit, Subscription
from lib import clock
from lib.db import SERVICE, opening, scope
from lib.errors import Conflict, Invalid, NotFound

Status = Subscription.Status
CATALOGUES = Path(__file__).parent / "catalogues"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What a catalogue would give a brand: plans and packs that are new, and those that stay as they are there."""

    name: str
    new: list[Plan]
    kept: list[Plan]
    new_packs: list[CreditPackOffer]
    kept_packs: list[CreditPackOffer]
    limits: dict[str, list[PlanLimit]]  # of the new plans, by code
    default_plan: str  # that new members would get; "" = the brand has one
    mixed: list[str]  # why it is refused: what the brand has under a code of the catalogue, in another unit, in words


class MixedUnits(Conflict):
    """A catalogue would leave a brand with plans of one family that count in two units."""

    code = "mixed_units"

    def __init__(self, brand: Brand, found: Comparison) -> None:
        super().__init__(
            f"{brand} cannot be given “{found.name}”: {'; '.join(found.mixed)}. Who moved from one of these plans to "
            "another would be counted anew, and packs would stand for nothing. Nothing was given. Give this catalogue to a "
            f"brand of its own, or make the plans that {brand} lacks by hand, under Plans, in the unit it has."
        )


def catalogue_names() -> dict[str, str]:
    """What there is to choose from: `s1` and what it is, in words."""
    return {path.stem: json.loads(path.read_text())["name"] for path in sorted(CATALOGUES.glob("*.json"))}


def compare_catalogue(brand: Brand, name: str) -> Comparison:
    """What install_catalogue() would do. Changes nothing. In the service scope."""
    path = CATALOGUES / f"{name}.json"
    if name not in catalogue_names():
        raise NotFound(f"There is no catalogue {name}. There are: {', '.join(catalogue_names())}.")
    catalogue = json.loads(path.read_text())
    have = {plan.code: plan for plan in Plan.objects.filter(brand=brand).prefetch_related("limits")}
    have_packs = {offer.code: offer for offer in CreditPackOffer.objects.filter(brand=brand)}
    default_plan = "" if brand.default_plan else catalogue["default_plan"]
    found = Comparison(catalogue["name"], [], [], [], [], {}, default_plan, [])
    for row in catalogue["plans"]:
        limits, _ = row.pop("limits"), row.pop("ours")
        if row["code"] in have:
            kept, unit = have[row["code"]], row.get("unit", Plan.Unit.QUERIES)
            found.kept.append(kept)
            if kept.unit != unit:
                found.mixed.append(f"{kept.code} counts {kept.unit} here and {unit} there")
        else:
            plan = Plan(brand=brand, **row)
            found.new.append(plan)
            found.limits[plan.code] = [PlanLimit(brand=brand, plan=plan, **limit) for limit in limits]
    for row in catalogue["packs"]:
        row.pop("ours")
        if row["code"] in have_packs:
            found.kept_packs.append(have_packs[row["code"]])
        else:
            found.new_packs.append(CreditPackOffer(brand=brand, **row))
    if not (found.new or found.new_packs):
        found.mixed.clear()  # nothing would come beside it
    return found


def install_catalogue(brand: Brand, name: str) -> list[Plan]:
    """Give a brand the plans and packs of a catalogue (`s0` ... `s3`). Returns the plans that are new.

    Whatever it has already under the same code is left as staff made it. A brand without a default plan gets the
    catalogue's.
    Raises  MixedUnits where a plan under the same code counts in another unit; nothing is given then
    """
    with opening(SERVICE, key=brand.pk):
        given = compare_catalogue(brand, name)
        if given.mixed:
            raise MixedUnits(brand, given)
        Plan.objects.bulk_create(given.new)
        PlanLimit.objects.bulk_create(limit for limits in given.limits.values() for limit in limits)
        CreditPackOffer.objects.bulk_create(given.new_packs)
        shelf.tell(brand)
        if given.default_plan:
            brand.default_plan = given.default_plan
            brand.save(update_fields=["default_plan"])
    return given.new


def assign_plan(
    brand: Brand,
    plan: Plan,
    *,
    user_id: UUID | None = None,
    on_trial: bool = False,
    actor_id: UUID | None = None,
    now: datetime | None = None,
) -> Subscription:
    """Put a member, or the brand itself when `user_id` is None, on a plan that nobody collects money for.

    A repeat changes nothing. In the service scope.
    on_trial  for the plan's trial days only
    Raises    Invalid for a plan that is switched off or for somebody else; AlreadySubscribed for who pays for a plan
    Source    S1 user_subscriptions, S2 user_plans
    """
    now = now or clock.now()
    if not plan.is_active:
        raise Invalid(f"The plan {plan.code} is switched off. Switch it on in /admin/ first, or choose another.")
    if on_trial and not plan.trial_days:
        raise Invalid(f"The plan {plan.code} has no trial.")
    facts = Facts(plan, actor_id=actor_id)
    if on_trial:
        facts = replace(facts, status=Status.TRIALING, trial_ends_at=now + timedelta(days=plan.trial_days))
    subscription = take(brand, user_id, facts, now=now)
    assert subscription is not None  # it is the one that was just given
    return subscription


def assign_default_plan(brand: Brand, user_id: UUID) -> None:
    """What a new member gets; a brand without a default plan gives nothing, and its members cannot ask yet.

    Whoever comes back to a brand and still pays there keeps that, and nobody begins a second trial. A default plan that
    has to be paid first is given to nobody: what is free stands in its place.
    """
    with scope(SERVICE):
        row = current(brand, user_id)
        if row and row.provider:
            entitle(brand, user_id, row, now=clock.now())  # the membership is new, and some of the plan stands on it
            return
        plan = Plan.objects.filter(brand=brand, code=brand.default_plan, is_active=True).first()
        if plan and (plan.is_paid_first or (plan.begins_with_trial and had_trial(brand, user_id))):
            plan = fallback_plan(brand, user_id)
        if plan:
            assign_plan(brand, plan, user_id=user_id, on_trial=plan.begins_with_trial)


def push(plan: Plan) -> int:
    """Give everybody on a plan its limits as they stand now, one transaction each. Returns how many; safe to repeat.

    Also those who have fallen back to it because they have not paid for another.
    """
    with scope(SERVICE):
        rows = Subscription.objects.filter(brand=plan.brand, ended_at=None)
        owners = list(rows.filter(Q(plan=plan) | Q(status=Status.PAST_DUE)).values_list("owner_id", flat=True))
    for owner_id in owners:
        with opening(SERVICE, key=owner_id):
            row = current(plan.brand, owner_id)
            if row:
                entitle(plan.brand, owner_id, row, now=clock.now())
    return len(owners)
