"""What a plan gives, in words, made from its rows: the pricing page claims nothing that nobody keeps."""

from dataclasses import dataclass

from django.template.defaultfilters import filesizeformat
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Brand
from billing.models import Plan, PlanLimit
from lib.figures import grouped
from lib.money import price
from lib.windows import WindowKind
from quotas.models import Meter
from quotas.words import meter_name, unit_name


@dataclass(frozen=True, slots=True)
class Promise:
    """One line of a plan. `is_kept` is false for what the plan does not give."""

    text: str
    is_kept: bool = True


def counted(meter: str, amount: int) -> str:
    """40 questions, 1 conversation, 5.0 MB of knowledge."""
    if meter == Meter.KNOWLEDGE_BYTES:
        return _("%(size)s of knowledge") % {"size": filesizeformat(amount)}
    return f"{grouped(amount)} {one(meter) if amount == 1 else meter_name(meter)}"


def one(meter: str) -> str:
    """The name of a single unit: question, message, conversation."""
    return unit_name(meter)


def each(plan: Plan) -> str:
    """What one more unit costs beyond the plan: $0.025 a question."""
    return _("%(price)s a %(unit)s") % {
        "price": price(plan.overage_price_microusd, plan.currency),
        "unit": one(plan.unit),
    }


def promises(plan: Plan, brand: Brand, *, may_try: bool = True) -> list[Promise]:
    """The lines of a plan's card, what it gives before what it does not.

    may_try  whether the reader could still begin with a trial
    """
    limits = plan.limits.all()
    lines = [_of_limit(plan, limit) for limit in sorted(limits, key=lambda limit: limit.meter != plan.unit)]
    lines += [_of_trial(plan)] if plan.trial_days and may_try else []
    lines += [_of_overage(plan), _of_own_key(plan), _of_history(plan, brand)]
    if plan.concurrent_turns:
        lines.append(
            Promise(
                ngettext("One answer at a time", "%(count)s answers at the same time", plan.concurrent_turns)
                % {"count": plan.concurrent_turns}
            )
        )
    return sorted(lines, key=lambda line: not line.is_kept)


def _of_limit(plan: Plan, limit: PlanLimit) -> Promise:
    name = meter_name(limit.meter)
    if limit.limit is None:
        return Promise(_("As many %(units)s as you like") % {"units": name})
    if limit.limit == 0:
        if plan.overage_by_default and limit.meter == plan.unit:
            return Promise(_("You pay for what you ask, and nothing else"))
        return Promise(_("No %(units)s included") % {"units": name}, is_kept=False)
    amount = {"amount": counted(limit.meter, limit.limit)}
    if limit.window == WindowKind.DAY:
        return Promise(_("%(amount)s a day") % amount)
    if limit.window == WindowKind.MONTH:
        return Promise(_("%(amount)s a month") % amount)
    return Promise(_("%(amount)s in total") % amount)


def _of_trial(plan: Plan) -> Promise:
    return Promise(
        ngettext("One day for free first", "%(days)s days for free first", plan.trial_days) % {"days": plan.trial_days}
    )


def _of_overage(plan: Plan) -> Promise:
    if not (plan.overage_allowed or plan.overage_by_default):
        return Promise(_("No extra %(units)s") % {"units": meter_name(plan.unit)}, is_kept=False)
    words = {
        "units": meter_name(plan.unit),
        "each": each(plan),
        "cap": price(plan.overage_cap_microusd, plan.currency),
    }
    if plan.overage_by_default:
        return Promise(_("%(each)s, at most %(cap)s a month unless you set less") % words)
    return Promise(_("Extra %(units)s at %(each)s if you allow them, at most %(cap)s a month") % words)


def _of_own_key(plan: Plan) -> Promise:
    if plan.byok_allowed:
        return Promise(_("With your own model key, %(units)s are not counted") % {"units": meter_name(plan.unit)})
    return Promise(_("No own model key"), is_kept=False)


def _of_history(plan: Plan, brand: Brand) -> Promise:
    days = plan.retention_days if brand.retention_days is None else brand.retention_days
    if days == 0:
        return Promise(_("Chats are not kept for you"), is_kept=False)
    if days is None:
        return Promise(_("Chats are kept until you delete them"))
    return Promise(ngettext("Chats are kept one day", "Chats are kept %(days)s days", days) % {"days": days})


def months_free(plan: Plan) -> int:
    """How many months a year costs less than twelve months do; 0 when that is no whole number, or nothing."""
    if not plan.price_microusd or plan.annual_price_microusd is None:
        return 0
    paid, rest = divmod(plan.annual_price_microusd, plan.price_microusd)
    return max(0, 12 - paid) if rest == 0 else 0
