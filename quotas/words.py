"""Refusals and resets in words a person can act on."""

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from accounts.models import Brand
from lib import dates
from lib.figures import grouped
from lib.money import dollars
from quotas.errors import AnonymousLimit, QuotaExceeded, TooManyRunning
from quotas.models import Account, Bucket, Meter
from quotas.standing import Standing

if TYPE_CHECKING:
    from quotas.decision import Decision

NAMES = {
    Meter.QUERIES: (gettext_lazy("question"), gettext_lazy("questions")),
    Meter.TOKENS: (gettext_lazy("token"), gettext_lazy("tokens")),
    Meter.CONVERSATIONS: (gettext_lazy("conversation"), gettext_lazy("conversations")),
    Meter.MESSAGES: (gettext_lazy("message"), gettext_lazy("messages")),
}  # one, and many
RETRY_AFTER_S = 5
KEPT = gettext_lazy("Your text is kept, and nothing was charged.")
PAYING = {"overage", "payment_method", "pack", "plan"}  # ways on that cost something
WITHOUT_ACCOUNT = {Account.Kind.VISITOR, Account.Kind.NETWORK, Account.Kind.VISITORS}
WITH_OWN_KEY = gettext_lazy("Your key: not counted")  # as price() says it, whatever the plan has left


def meter_name(meter: str) -> str:
    return str(NAMES[Meter(meter)][1]) if meter in NAMES else meter.replace("_", " ")


def unit_name(meter: str) -> str:
    return str(NAMES[Meter(meter)][0]) if meter in NAMES else meter.replace("_", " ").removesuffix("s")


def resets(closes_at: datetime | None, zone: str, now: datetime) -> str:
    """When it comes back, in the brand's zone: "at midnight", "on 1 December". Empty when it never does."""
    if closes_at is None:
        return ""
    local, today = closes_at.astimezone(ZoneInfo(zone)), now.astimezone(ZoneInfo(zone))
    if (closes_at - now).total_seconds() <= 25 * 3600 and local.date() > today.date():
        is_midnight = (local.hour, local.minute) == (0, 0)
        return _("at midnight") if is_midnight else _("at %(time)s") % {"time": f"{local:%H:%M}"}
    return _("on %(day)s") % {"day": dates.said(local, "j F")}


def no_plan(brand: Brand) -> QuotaExceeded:
    return QuotaExceeded(
        _("You have no plan on this brand yet, so there is nothing to ask with. Ask its admin for one."),
        reason="no_plan",
        meter=Meter.QUERIES.value,
        limit=0,
        left=0,
        wanted=1,
        resets_at=None,
        requires_payment=False,
        ways=["plan", "ask_admin"] if brand.sold_plans else ["ask_admin"],
    )


def too_many_running(kind: str, limit: int) -> TooManyRunning:
    """The cap on answers at once. When one will end nobody knows, so the wait is a guess; stopping one ends it now."""
    own = kind in (Account.Kind.USER, Account.Kind.VISITOR)
    if own:
        detail = ngettext(
            "You have one answer running, which is all you may have at once. Wait for one to end, or stop one.",
            "You have %(limit)s answers running, which is all you may have at once. Wait for one to end, or stop one.",
            limit,
        )
    else:
        detail = ngettext(
            "This brand has one answer running, which is all it may have at once. Wait a moment, and ask again.",
            "This brand has %(limit)s answers running, which is all it may have at once. Wait a moment, and ask again.",
            limit,
        )
    return TooManyRunning(
        f"{detail % {'limit': grouped(limit)}} {KEPT}",
        reason=f"{kind}_concurrent_turns",
        limit=limit,
        retry_after=RETRY_AFTER_S,
        requires_payment=False,
        ways=["wait"],
    )


def allowed(pocket: str, *, unit: Standing | None, in_packs: int, price_microusd: int, left_microusd: int) -> str:
    """Who would pay for the next one, and what is left there. `unit` is the meter that the plan counts, if it does."""
    name = meter_name(unit.meter if unit else Meter.QUERIES)
    if pocket == "own_key":
        return _("Your own key pays for it; your plan does not count it.")
    if pocket == Bucket.Pocket.PACK:
        return _("Your packs have %(left)s %(units)s left.") % {"left": grouped(in_packs), "units": name}
    if pocket == Bucket.Pocket.OVERAGE:
        costs = {"price": dollars(price_microusd), "left": dollars(left_microusd)}
        return _("It costs %(price)s; %(left)s of your limit for this month are left.") % costs
    if unit is None or unit.left is None or unit.limit is None:
        return _("Your plan sets no limit to %(units)s.") % {"units": name}
    told = {"left": grouped(unit.left), "limit": grouped(unit.limit), "units": name}
    return _("Your plan has %(left)s of %(limit)s %(units)s left.") % told


def price(decision: "Decision") -> str:
    """What the next question costs, before it is sent: a few words beside the button. Empty when it would be refused."""
    cost, beyond = decision.price_microusd, decision.beyond
    if decision.pocket == "own_key":
        return str(WITH_OWN_KEY)
    if decision.pocket == Bucket.Pocket.PACK:
        left = sum(pack.left for pack in decision.packs if pack.meter == decision.unit)
        return _("Your pack: %(left)s left") % {"left": grouped(left)}
    if decision.pocket == Bucket.Pocket.OVERAGE and beyond:
        if not cost:
            return _("Not counted in this chat")
        return _("%(price)s of your %(cap)s") % {"price": dollars(cost), "cap": dollars(beyond.cap_microusd)}
    if not decision.can_query:
        return ""
    return f"1 {unit_name(decision.unit)}" if decision.wanted else _("Not counted in this chat")


def paid(pocket: str, owed_microusd: int) -> str:
    """Who paid for an answer, on its receipt; what the plan includes needs no word."""
    if pocket == Bucket.Pocket.OVERAGE:
        return _("%(price)s beyond your plan") % {"price": dollars(owed_microusd)}
    return {"own_key": _("your own key"), Bucket.Pocket.PACK.value: _("from your pack")}.get(pocket, "")


def refusal(line: Any, features: Mapping[str, Any], *, brand: Brand, is_own: bool) -> QuotaExceeded:
    """Say who lacks what, and what brings more: the next window, overage, another plan, or the brand's admin.

    line      a line of DECIDE that has not enough
    features  what the asker's plan says beside its limits
    is_own    it is the asker's own account that lacks it
    """
    limit, left, wanted, name = line.limit, max(0, line.limit - line.taken), line.amount, meter_name(line.meter)
    if line.kind in WITHOUT_ACCOUNT and line.meter == Meter.QUERIES:
        return anonymous_limit(line, brand)
    what = {
        Account.Kind.BRAND: _("The plan of this brand"),
        Account.Kind.AGENT: _("The plan of this agent"),
    }.get(line.kind, _("What may be asked from here"))
    told = {"left": grouped(left), "limit": grouped(limit), "wanted": grouped(wanted), "units": name}
    if limit == 0:
        said = [_("%(plan)s includes no %(units)s.") % {"plan": _("Your plan") if is_own else what, "units": name}]
    elif not is_own:
        whose = _("This brand") if line.kind == Account.Kind.BRAND else what
        said = [_("%(whose)s has %(left)s %(units)s left, and this may need %(wanted)s.") % {**told, "whose": whose}]
    elif left:
        said = [_("%(left)s of your %(limit)s %(units)s are left, and this may need %(wanted)s.") % told]
    elif limit == 1:
        said = [_("The one %(unit)s of your plan is used.") % {"unit": unit_name(line.meter)}]
    else:
        said = [_("All %(limit)s %(units)s of your plan are used.") % told]
    shut = why_overage_is_shut(line, features) if is_own and line.is_unit else ""
    ways = ways_on(line, features, shut, brand=brand, is_own=is_own)
    price = features.get("overage_price_microusd") or 0
    if shut or "overage" in ways:
        said.append(beyond_it(shut, line, price))
    closes_at = line.closes_at if limit else line.cap_closes_at
    if closes_at is not None:
        local = closes_at.astimezone(ZoneInfo(brand.zone))
        when = {"day": dates.said(local, "j F"), "time": f"{local:%H:%M}", "zone": brand.zone}
        said.append(_("New ones come on %(day)s at %(time)s (%(zone)s).") % when)
    elif not is_own:
        said.append(_("Its admin can add some."))
    elif not shut and "plan" in ways:
        said.append(_("A larger plan gives more."))
    elif not shut and "pack" in ways:
        said.append(_("A pack gives more."))
    if is_own and "ask_admin" in ways:
        said.append(_("The admin of this brand can give more."))
    more = {"overage_price_microusd": price} if "overage" in ways else {}
    refused = QuotaExceeded(
        " ".join([*said, str(KEPT)]),
        reason=shut or f"{line.kind}_{line.meter}_{'used_up' if limit else 'not_included'}",
        meter=line.meter,
        limit=limit,
        left=left,
        wanted=wanted,
        resets_at=closes_at.isoformat() if closes_at else None,
        requires_payment=is_own and not PAYING.isdisjoint(ways),
        ways=ways,
        **more,
    )
    refused.bucket_id = line.bucket_id
    return refused


def beyond_it(shut: str, line: Any, price_microusd: int) -> str:
    """Why overage does not pay, or what it would cost."""
    told = {
        "price": dollars(price_microusd),
        "cap": dollars(line.cap or 0),
        "owed": dollars(line.arrears_microusd or 0),
    }
    if shut == "past_due":
        said = _("Your last payment failed, so nothing can be charged beyond the plan until it is paid.")
    elif shut == "arrears":
        said = _("%(owed)s are owed, so nothing more is charged beyond the plan until then.")
    elif shut == "no_payment_method" and line.limit == 0:
        said = _("Each costs %(price)s, once a payment method is stored.")
    elif shut == "no_payment_method":
        said = _("More cost %(price)s each, once a payment method is stored.")
    elif shut == "own_cap_reached":
        said = _("Your own limit for what is charged beyond it, %(cap)s a month, is reached; you can raise it.")
    elif shut == "plan_cap_reached":
        said = _("The %(cap)s a month that may be charged beyond it are used.")
    else:
        said = _("You can allow more, at %(price)s each.")
    return said % told


def without_account(kind: str, brand: Brand) -> str:
    """Nothing more is free without an account: the visitor's own questions, their network's or all visitors' of a day."""
    limit = brand.anonymous_allowance
    if not limit:
        detail = _("Questions need an account here.")
    elif kind == Account.Kind.NETWORK:
        detail = _("All free questions of your network are asked for today.")
    elif kind == Account.Kind.VISITORS:
        detail = _("All free questions are asked for today.")
    else:
        detail = ngettext(
            "You have asked your free question.", "You have asked your %(limit)d free questions.", limit
        ) % {"limit": limit}
    if brand.open_sign_up:
        return f"{detail} " + _("With a free account this one is answered next. Your text is kept.")
    return f"{detail} " + _("Sign in, and this one is answered next. Your text is kept.")


def anonymous_limit(line: Any, brand: Brand) -> AnonymousLimit:
    refused = AnonymousLimit(
        without_account(line.kind, brand),
        reason=f"{line.kind}_queries_{'used_up' if line.limit else 'not_included'}",
        meter=Meter.QUERIES.value,
        limit=line.limit,
        left=max(0, line.limit - line.taken),
        wanted=1,
        resets_at=line.closes_at.isoformat() if line.closes_at else None,
        requires_payment=False,
        ways=["sign_up"],
    )
    refused.bucket_id = line.bucket_id
    return refused


def free_left(left: int, limit: int) -> str:
    """What a visitor has left, beside the button that asks."""
    if left == limit:
        return ngettext("%(left)d free question", "%(left)d free questions", left) % {"left": left}
    told = ngettext("%(left)d of %(limit)d free questions left", "%(left)d of %(limit)d free questions left", left)
    return told % {"left": left, "limit": limit}


def why_overage_is_shut(line: Any, features: Mapping[str, Any]) -> str:
    """The reason that overage did not pay, a stable code; "" where the plan has none, or the member has not chosen it."""
    is_chosen = line.overage_on or features.get("overage_by_default")
    if features.get("is_past_due"):
        return "past_due" if is_chosen or line.limit == 0 else ""
    if not (is_chosen and features.get("overage_allowed") and features.get("overage_price_microusd")):
        return ""
    if line.arrears_microusd:
        return "arrears"
    if not features.get("is_billable"):
        return "no_payment_method"
    of_plan = features.get("overage_cap_microusd") or 0
    return "own_cap_reached" if line.own_cap is not None and line.own_cap < of_plan else "plan_cap_reached"


def ways_on(line: Any, features: Mapping[str, Any], shut: str, *, brand: Brand, is_own: bool) -> list[str]:
    """What the asker can do now, as stable codes; the pages and programs that show them know what they lead to.

    Packs of the asker's unit and other plans than their own are ways only where the brand sells any.
    """
    ways = ["wait"] if (line.closes_at and line.limit) or shut in ("own_cap_reached", "plan_cap_reached") else []
    if not is_own:
        return ["ask_admin", *ways, *(["own_key"] if features.get("byok_allowed") else [])]
    may_overage = line.is_unit and features.get("overage_allowed") and features.get("overage_price_microusd")
    if shut in ("past_due", "arrears", "no_payment_method"):
        ways.append("payment_method")
    elif may_overage and shut != "plan_cap_reached":
        ways.append("overage" if features.get("is_billable") and not line.arrears_microusd else "payment_method")
    if features.get("byok_allowed"):
        ways.append("own_key")
    if line.is_unit and line.meter in brand.sold_packs:
        ways.append("pack")
    if set(brand.sold_plans) - {line.plan_code}:
        ways.append("plan")
    return ways or ["ask_admin"]
