"""What a member should hear about plan and payments, by bell and mail: a reader of the stream, and of trials that end soon.

Nobody who changes a subscription or a payment calls this; it is told after the commit, once for each event.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from accounts import preferences
from accounts.models import Brand
from billing.models import BillingTransaction, Cycle, Plan, Subscription
from events import notices
from events.models import Event, Notification
from events.reading import unread
from lib import clock, dates
from lib.db import SERVICE, scope
from lib.money import dollars

BEFORE_TRIAL_ENDS = timedelta(days=3)
READER = "billing_notices"
PAGE = "/settings/plan/"
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Words:
    """What is said; `is_mailed` = it cannot wait for the next visit."""

    title: str
    message: str
    priority: str = notices.Priority.NORMAL
    is_mailed: bool = True


@dataclass(frozen=True, slots=True)
class News:
    """One event, with the rows it is about as they stand now."""

    event: Event
    plan: str
    next_plan: str
    subscription: Subscription | None

    def day(self, name: str) -> str:
        """A date of the subscription in words, or the vaguest that are true."""
        moment: datetime | None = getattr(self.subscription, name, None)
        return day(moment, self.event.brand) if moment else _("the end of what is paid")


def _started(news: News) -> Words | None:
    row = news.subscription
    if row is None or not (row.plan.price_microusd or row.plan.overage_by_default):
        return None  # everybody who joins begins with the free plan
    return Words(
        _("You are on %(plan)s") % {"plan": news.plan},
        _("Your plan is now %(plan)s. What it includes counts from this moment.") % {"plan": news.plan},
    )


def _trial_started(news: News) -> Words:
    until = news.day("trial_ends_at")
    return Words(
        _("Your trial of %(plan)s has begun") % {"plan": news.plan},
        _("You can try everything of %(plan)s until %(until)s.") % {"plan": news.plan, "until": until},
    )


def _changed(news: News) -> Words:
    return Words(
        _("You are on %(plan)s") % {"plan": news.plan},
        _("Your plan is now %(plan)s. What you used before counts on.") % {"plan": news.plan},
    )


def _change_planned(news: News) -> Words:
    on = news.day("period_ends_at")
    return Words(
        _("Your plan changes to %(next_plan)s") % {"next_plan": news.next_plan},
        _(
            "You keep %(plan)s until %(on)s, which is paid. Then %(next_plan)s begins. You can take this back "
            "until then."
        )
        % {"plan": news.plan, "on": on, "next_plan": news.next_plan},
    )


def _cancel_planned(news: News) -> Words:
    on = news.day("period_ends_at")
    return Words(
        _("%(plan)s ends on %(on)s") % {"plan": news.plan, "on": on},
        _(
            "You cancelled %(plan)s. You keep it until %(on)s, nothing more is charged, and you can take this "
            "back until then."
        )
        % {"plan": news.plan, "on": on},
    )


def _payment_failed(news: News) -> Words:
    until = news.day("grace_ends_at")
    return Words(
        _("Your payment failed"),
        _(
            "We could not charge your payment method for %(plan)s. You keep the plan until %(until)s; we try "
            "again before. Check your payment method so that nothing stops."
        )
        % {"plan": news.plan, "until": until},
        notices.Priority.URGENT,
    )


def _lapsed(news: News) -> Words:
    return Words(
        _("%(plan)s is suspended") % {"plan": news.plan},
        _(
            "%(plan)s was not paid in time, so you have what is free for now. Nothing you wrote is lost. Pay "
            "what is open, and the plan is yours again."
        )
        % {"plan": news.plan},
        notices.Priority.URGENT,
    )


def _over(news: News) -> Words:
    return Words(
        _("%(plan)s has ended") % {"plan": news.plan},
        _("%(plan)s has ended, and you have what is free. You can choose a plan any time.") % {"plan": news.plan},
    )


def _trial_ended(news: News) -> Words:
    return Words(
        _("Your trial of %(plan)s has ended") % {"plan": news.plan},
        _("You have what is free now. You can choose a plan any time; nothing is lost."),
    )


def _restored(news: News) -> Words:
    return Words(_("Your payment went through"), _("Thank you. %(plan)s goes on as before.") % {"plan": news.plan})


def _resumed(news: News) -> Words:
    return Words(
        _("%(plan)s goes on") % {"plan": news.plan},
        _("You took your change back: %(plan)s goes on as before.") % {"plan": news.plan},
        is_mailed=False,
    )


def _paid(news: News) -> Words | None:
    if news.event.data.get("type") != BillingTransaction.Type.ONE_TIME:
        return None  # the period's own; its invoice is mail enough
    total = dollars(news.event.data["total_amount_microusd"])
    return Words(
        _("Your pack is here"),
        _("You paid %(total)s, and your pack is ready. It is used when your plan's own are.") % {"total": total},
    )


def _refunded(news: News) -> Words:
    total = dollars(abs(news.event.data["total_amount_microusd"]))
    return Words(
        _("%(total)s went back to you") % {"total": total},
        _("We gave %(total)s back to your payment method. Your bank may take some days to show it.") % {"total": total},
    )


SAID: dict[str, Callable[[News], Words | None]] = {
    "subscription.started": _started,
    "subscription.activated": _started,
    "subscription.trial_started": _trial_started,
    "subscription.changed": _changed,
    "subscription.change_planned": _change_planned,
    "subscription.change_dropped": _resumed,
    "subscription.cancel_planned": _cancel_planned,
    "subscription.resumed": _resumed,
    "subscription.payment_failed": _payment_failed,
    "subscription.restored": _restored,
    "subscription.lapsed": _lapsed,
    "subscription.trial_ended": _trial_ended,
    "subscription.cancelled": _over,
    "billing.paid": _paid,
    "billing.refunded": _refunded,
}


def look(now: datetime | None = None) -> int:
    """Tell what happened since the last look, and of trials that end within three days. Returns how many were told."""
    now = now or clock.now()
    told = 0
    for events in unread(READER, SAID):
        with scope(SERVICE):
            keys = {_once(event): event for event in events if event.owner_id}
            known = Notification.objects.filter(once__in=keys, brand_id__in={event.brand_id for event in events})
            for key in known.values_list("once", flat=True):
                keys.pop(key, None)
        for event in keys.values():
            try:
                with scope(SERVICE), preferences.in_language_of(event.owner_id):
                    told += _tell(event) is not None
            except Exception:  # one that cannot be told must not keep the others from it
                log.exception("the event %s could not be told", event.pk)
    return told + tell_of_trials(now)


def tell_of_trials(now: datetime) -> int:
    """Three days before a trial ends, once. Nobody is told of one that was cancelled: it costs nothing."""
    with scope(SERVICE):
        soon = Subscription.objects.select_related("brand", "plan").filter(
            ended_at=None,
            status=Subscription.Status.TRIALING,
            cancel_at_period_end=False,
            trial_ends_at__gt=now,
            trial_ends_at__lte=now + BEFORE_TRIAL_ENDS,
        )
        return sum(_trial_ends_soon(row) is not None for row in soon if row.owner_id != row.brand_id)


def _trial_ends_soon(row: Subscription) -> Notification | None:
    with preferences.in_language_of(row.owner_id):
        return _told_of_trial(row)


def _told_of_trial(row: Subscription) -> Notification | None:
    assert row.trial_ends_at is not None
    ends = day(row.trial_ends_at, row.brand)
    if not row.provider:
        then = _("Then you have what is free, unless you choose a plan.")
    elif row.cycle == Cycle.YEAR:
        price = row.plan.annual_price_microusd or 12 * row.plan.price_microusd
        then = _("Then %(price)s a year is charged, unless you cancel before.") % {"price": dollars(price)}
    else:
        price = row.plan.price_microusd
        then = _("Then %(price)s a month is charged, unless you cancel before.") % {"price": dollars(price)}
    return notices.tell(
        row.brand_id,
        row.owner_id,
        notices.Type.BILLING_UPDATE,
        title=_("Your trial of %(plan)s ends on %(ends)s") % {"plan": row.plan, "ends": ends},
        message=_("You can try everything of %(plan)s until %(ends)s. %(then)s")
        % {"plan": row.plan, "ends": ends, "then": then},
        action_url=PAGE,
        action_label=_("Plan and usage"),
        once=f"trial:{row.pk}:{row.trial_ends_at:%Y-%m-%d}",
    )


def day(moment: datetime, brand: Brand) -> str:
    local = moment.astimezone(ZoneInfo(brand.zone))
    return dates.said(local, "j F Y")


def _once(event: Event) -> str:
    return f"event:{event.pk}"


def _tell(event: Event) -> Notification | None:
    subscription = None
    if event.subject_kind == "subscription":
        subscription = Subscription.objects.select_related("plan").filter(pk=event.subject_id).first()
    words = SAID[event.type](
        News(
            event,
            _name(event.brand, event.data.get("plan")),
            _name(event.brand, event.data.get("next_plan")),
            subscription,
        )
    )
    if words is None:
        return None
    assert event.owner_id is not None
    say = notices.tell if words.is_mailed else notices.notify
    return say(
        event.brand_id,
        event.owner_id,
        notices.Type.BILLING_UPDATE,
        title=words.title,
        message=words.message,
        priority=words.priority,
        action_url=PAGE,
        action_label=_("Plan and usage"),
        once=_once(event),
    )


def _name(brand: Brand, code: str | None) -> str:
    """Plans are named as their brand names them now."""
    if not code:
        return ""
    return Plan.objects.filter(brand=brand, code=code).values_list("name", flat=True).first() or code
