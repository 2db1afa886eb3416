"""What an account may use: pushed down by billing, changed by staff for one member, and the member's own choice of overage.

Part of quotas.ledger, by which other rooms call it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.utils.translation import gettext as _

from accounts.models import Brand, Membership
from events import activity
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Invalid
from lib.money import dollars
from quotas.buckets import MOST_UNITS, allowances, database_now, fit, fit_open_windows, locked_account, open_window
from quotas.models import Account, Bucket, Entitlement, Entry

MOST_CONCURRENT = 100_000


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of a plan: `limit` units of `meter` in each `window`; None = no limit."""

    meter: str
    window: str
    limit: int | None


def entitle(
    brand: Brand,
    *,
    kind: str,
    owner_id: UUID,
    grants: Iterable[Grant],
    plan_code: str = "",
    plan_name: str = "",
    features: Mapping[str, Any] | None = None,
    anchor_at: datetime | None = None,
    now: datetime | None = None,
) -> Account:
    """Set what an account may use from now on. Billing calls this; the same call twice changes nothing.

    A window that is open keeps what was used and what was topped up; its limit moves at once. Where more is used and held
    than the new limit, only new questions are refused. A new anchor counts from the next window on.

    features  what the meter and chat read, see Account.features; `concurrent_turns` (1 or more) stands for the default of
              CONCURRENT_TURNS, `unit` is the meter that packs and overage stand for; `rate_limit_per_minute` of a user is
              handed on to the membership, where every call finds it
    Raises    Invalid for a `concurrent_turns` that is no such number
    """
    if not _is_cap(cap := (features or {}).get("concurrent_turns")):
        raise Invalid(f"concurrent_turns must be a whole number from 1 to {MOST_CONCURRENT:,}, not {cap!r}.")
    now = now or clock.now()
    wanted = {grant.meter: grant for grant in grants}
    with scope(SERVICE):
        account, _ = Account.objects.update_or_create(
            brand=brand,
            kind=kind,
            owner_id=owner_id,
            defaults={"plan_code": plan_code, "plan_name": plan_name, "features": dict(features or {})},
        )
        unchanged = set()
        for row in account.entitlements.filter(ends_at=None):
            grant = wanted.get(row.meter)
            if grant and (grant.window, grant.limit, anchor_at) == (row.window, row.limit, row.anchor_at):
                unchanged.add(row.meter)
            else:
                row.ends_at = now
                row.save(update_fields=["ends_at"])
        Entitlement.objects.bulk_create(
            Entitlement(
                brand=brand,
                owner_id=owner_id,
                account=account,
                meter=meter,
                window=grant.window,
                limit=grant.limit,
                anchor_at=anchor_at,
            )
            for meter, grant in wanted.items()
            if meter not in unchanged
        )
        fit_open_windows(account, now)
        if kind == Account.Kind.USER:
            most = (features or {}).get("rate_limit_per_minute")
            member = Membership.objects.filter(brand=brand, user_id=owner_id)
            member.exclude(rate_limit_per_minute=most).update(rate_limit_per_minute=most)
        return account


def _is_cap(given: Any) -> bool:
    return given is None or (type(given) is int and 1 <= given <= MOST_CONCURRENT)


def override(
    brand: Brand,
    user_id: UUID,
    *,
    meter: str,
    limit: int | None,
    until: datetime,
    reason: str,
    actor_id: UUID | None,
    now: datetime | None = None,
) -> Entitlement:
    """Let one member have another limit of a meter until a date; then the plan's counts again, without a job.

    It stands beside the plan's, in the plan's window, and survives a change of plan; another one takes its place.

    limit   in units of the meter, for each window; None = no limit
    Raises  Invalid: no such meter in the member's plan, a limit that is none, a date that is over, no reason
    """
    now = now or clock.now()
    if limit is not None and not 0 <= limit <= MOST_UNITS:
        raise Invalid(f"A limit is a whole number from 0 to {MOST_UNITS:,}; leave it empty for no limit.")
    if until <= now:
        raise Invalid("An override ends in the future: give a later date.")
    if not reason.strip():
        raise Invalid("An override needs a reason: it stands beside the plan's limit for good.")
    with scope(SERVICE):
        account = locked_account(brand, kind=Account.Kind.USER, owner_id=user_id)
        of_plan = allowances(account, now).get(meter)
        if of_plan is None:
            raise Invalid(f"The member's plan does not count {meter}, so there is no limit to override.")
        account.entitlements.filter(meter=meter).exclude(overrides_until=None).update(ends_at=now, overrides_until=None)
        made = Entitlement(
            brand=brand,
            owner_id=user_id,
            account=account,
            meter=meter,
            window=of_plan.window,
            limit=limit,
            anchor_at=of_plan.anchor_at,
            ends_at=until,
            overrides_until=until,
            reason=reason.strip(),
            actor_id=actor_id,
        )
        Entitlement.objects.bulk_create([made])
        fit_open_windows(account, now, reason=reason.strip(), actor_id=actor_id)
        return made


def set_overage(
    brand: Brand,
    user_id: UUID,
    *,
    on: bool,
    cap_microusd: int | None,
    actor_id: UUID | None,
    now: datetime | None = None,
) -> Account:
    """The member's own choice: whether to be charged for questions beyond the plan, and up to how much a month.

    It counts at once, in the open month too; a cap below what is spent only refuses what is new.

    cap_microusd  at most the plan's; None = the plan's
    Raises        Invalid: the plan offers no overage, a cap that is negative or above the plan's
    Source        S1, overage settings
    """
    with scope(SERVICE):
        account = locked_account(brand, kind=Account.Kind.USER, owner_id=user_id)
        if on and not account.features.get("overage_allowed"):
            raise Invalid(_("Your plan has no questions beyond its limit, so there is nothing to switch on."))
        most = account.features.get("overage_cap_microusd") or 0
        if cap_microusd is not None and not 0 <= cap_microusd <= most:
            raise Invalid(
                _("The cap can be anything from $0.00 to %(most)s, which is the most on your plan.")
                % {"most": dollars(most)}
            )
        before = {"overage_on": account.overage_on, "overage_cap_microusd": account.overage_cap_microusd}
        account.overage_on, account.overage_cap_microusd = on, cap_microusd
        after = {"overage_on": on, "overage_cap_microusd": cap_microusd}
        if after != before:
            account.save(update_fields=list(after))
            fit_open_windows(account, now or clock.now(), reason="cap changed", actor_id=actor_id)
            activity.record(
                brand.pk,
                "overage.changed",
                actor_id=actor_id,
                resource=("account", account.pk),
                changes={name: [before[name], after[name]] for name in after},
            )
        return account


def top_up(
    brand: Brand, *, meter: str, amount: int, reason: str, actor_id: UUID | None = None, now: datetime | None = None
) -> Bucket:
    """Raise the brand's limit in the window that is open now. Source: S0, top-ups in admin."""
    if amount <= 0:
        raise Invalid("A top-up adds something: give an amount above 0.")
    if not reason.strip():
        raise Invalid("A top-up needs a reason: it stands in the ledger for good.")
    with scope(SERVICE):
        account = (
            Account.objects.select_for_update(no_key=True)
            .filter(brand=brand, kind=Account.Kind.BRAND, owner_id=brand.pk)
            .first()
        )
        bucket = open_window(account, meter, brand, now or database_now()) if account else None
        if bucket is None or bucket.limit is None:
            raise Invalid(
                f"{brand} has no limit of {meter} that could be raised. What a member may ask comes from the member's plan."
            )
        fit(bucket, bucket.limit + amount, kind=Entry.Kind.TOP_UP, reason=reason.strip(), actor_id=actor_id)
        return bucket
