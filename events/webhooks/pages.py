"""/manage/webhooks/: a brand's admins make webhooks, see how they do, and send again what was missed.

A secret is on one page only, the answer to the request that made it: it is kept in no session and in no address.
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from django.contrib import messages
from django.db.models import Count, Q
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import BrandRequest, admin_goes_out
from events import catalogue
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import custom_headers, endpoints, lagging, replaying, signing
from events.webhooks.schedule import MOST_RETRIES
from lib import clock
from lib.db import scope
from lib.errors import Conflict, DomainError, Invalid, NotFound
from lib.ids import uuid7
from lib.secret import Secret

AT_A_TIME = 50
MOST_PASTED = 256_000
SENT = "%Y%m%dT%H%M%S.%f"  # how an address names a range that was sent again
Status = WebhookDelivery.Status
SHOWN = {"all": None, "failed": (Status.FAILED, Status.CANCELLED), "waiting": (Status.PENDING,)}


@admin_goes_out
@require_safe
def index(request: BrandRequest) -> HttpResponse:
    with scope(request.principal) as request.standing:
        waiting = Count("deliveries", filter=Q(deliveries__status=Status.PENDING))
        hooks = list(lagging.with_due(_own(request)).annotate(waiting=waiting).order_by("name", "id"))
    for hook in hooks:
        hook.is_late = lagging.is_late(hook)
    return _page(request, "list", {"hooks": hooks, "is_full": len(hooks) >= endpoints.MOST})


@admin_goes_out
@require_safe
def new(request: BrandRequest) -> HttpResponse:
    return _form(request, None, {"events": ["*"], "retry_failed": True, "max_retries": MOST_RETRIES})


@admin_goes_out
@require_POST
def make(request: BrandRequest) -> HttpResponse:
    """Make it, and show its secret this once. `once` is the id of the row to be: a form that is sent twice makes one."""
    once = _uuid(request.POST.get("once", "")) or uuid7()
    try:
        made, secret = endpoints.make(request.principal, _wanted(request), webhook_id=once)
    except endpoints.MadeAlready as refused:
        messages.warning(request, refused.detail)
        return _to(once)
    except DomainError as refused:
        return _form(request, None, _sent(request), refused)
    return _detail(request, made.pk, secret=secret)


@admin_goes_out
@require_safe
def detail(request: BrandRequest, webhook_id: UUID) -> HttpResponse:
    return _detail(request, webhook_id)


@admin_goes_out
@require_safe
def change(request: BrandRequest, webhook_id: UUID) -> HttpResponse:
    row = endpoints.find(request.principal, webhook_id)
    names = ("name", "url", "events", "retry_failed", "max_retries")
    shown = {name: getattr(row, name) for name in names}
    return _form(request, row, {**shown, "headers": custom_headers.shown(row.custom_headers)})


@admin_goes_out
@require_POST
def save(request: BrandRequest, webhook_id: UUID) -> HttpResponse:
    row = endpoints.find(request.principal, webhook_id)
    try:
        endpoints.change(request.principal, webhook_id, _wanted(request))
    except DomainError as refused:
        return _form(request, row, _sent(request), refused)
    messages.success(request, _("Saved."))
    return _to(webhook_id)


@admin_goes_out
@require_POST
def act(request: BrandRequest, webhook_id: UUID) -> HttpResponse:
    """`do`: on, off, test, rotate, delete, replay."""
    principal = request.principal
    try:
        match request.POST.get("do"):
            case "on" | "off" as wanted:
                endpoints.switch(principal, webhook_id, on=wanted == "on")
            case "test":
                endpoints.try_out(principal, webhook_id)
                messages.success(request, _("A test event is on its way. It stands first in the list below."))
            case "rotate":
                return _detail(
                    request, webhook_id, secret=endpoints.rotate(principal, webhook_id, seen=request.POST.get("seen"))
                )
            case "delete":
                name = endpoints.find(principal, webhook_id).name
                endpoints.delete(principal, webhook_id)
                messages.success(request, _("%(name)s was deleted, with its deliveries.") % {"name": name})
                return HttpResponseRedirect(reverse("manage-webhooks"), status=303)
            case "replay":
                return _replay(request, webhook_id)
            case _:
                raise Invalid(_("Choose what to do."))
    except DomainError as refused:
        if isinstance(refused, NotFound):
            raise
        messages.error(request, refused.detail)
    return _to(webhook_id)


def _replay(request: BrandRequest, webhook_id: UUID) -> HttpResponse:
    since, until = (_moment(request, name) for name in ("since", "until"))
    failed_only = "failed_only" in request.POST
    at, count = replaying.many(request.principal, webhook_id, failed_only=failed_only, since=since, until=until)
    if not count:
        messages.warning(request, _("There is nothing to send again in this range."))
        return _to(webhook_id)
    return _to(webhook_id, f"?sent={at.astimezone(UTC):{SENT}}")


def _moment(request: BrandRequest, name: str) -> datetime | None:
    """As typed, in the brand's time zone."""
    typed = request.POST.get(name, "").strip()
    if not typed:
        return None
    try:
        moment = parse_datetime(typed)
    except ValueError:  # written like one, of a thirteenth month
        moment = None
    if moment is None:
        raise Invalid(_("Write a time as year-month-day, then hour:minute."))
    return moment if moment.tzinfo else moment.replace(tzinfo=ZoneInfo(request.brand.zone))


@admin_goes_out
@require_POST
def again(request: BrandRequest, delivery_id: UUID) -> HttpResponse:
    try:
        replaying.one(request.principal, delivery_id)
    except Conflict as refused:
        messages.error(request, refused.detail)
    else:
        messages.success(request, _("It is being sent again, with the webhook-id it had."))
    return HttpResponseRedirect(reverse("manage-webhook-delivery", args=[delivery_id]), status=303)


@admin_goes_out
@require_safe
def delivery(request: BrandRequest, delivery_id: UUID) -> HttpResponse:
    """One delivery with what was sent and answered."""
    with scope(request.principal) as request.standing:
        found = WebhookDelivery.objects.select_related("webhook").filter(
            brand_id=request.principal.brand_id, pk=delivery_id
        )
        row = found.first()
        if row is None:
            raise NotFound(_("This delivery is not here (any more)."))
    body = orjson.dumps(row.event_data, option=orjson.OPT_INDENT_2).decode()
    tries = [{**attempt, "at": datetime.fromisoformat(attempt["at"])} for attempt in reversed(row.attempts)]
    return _page(request, "delivery", {"delivery": row, "hook": row.webhook, "body": body, "tries": tries})


@admin_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
def tester(request: BrandRequest) -> HttpResponse:
    """Whether a signature holds, and why not. What is pasted is kept nowhere."""
    context: dict[str, Any] = {"sent": {}}
    with scope(request.principal) as request.standing:
        pass
    if request.method == "POST":
        sent = {name: request.POST.get(name, "")[:MOST_PASTED] for name in ("body", "headers")}
        # A form's text has line ends of its own; ours are bodies of one line.
        body = sent["body"].replace("\r\n", "\n").strip("\n").encode()
        verdict = signing.judge(body, _headers(sent["headers"]), request.POST.get("secret", ""), now=clock.now())
        context = {"sent": sent, "verdict": verdict}
    return _page(request, "tester", context)


def _headers(text: str) -> dict[str, str]:
    pairs = (line.partition(":") for line in text.splitlines())
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}


def _own(request: BrandRequest) -> Any:
    return WebhookEndpoint.objects.filter(brand_id=request.principal.brand_id)


def _detail(request: BrandRequest, webhook_id: UUID, *, secret: Secret | None = None) -> HttpResponse:
    show = request.GET.get("show", "all")
    with scope(request.principal) as request.standing:
        hook = lagging.with_due(_own(request)).filter(pk=webhook_id).first()
        if hook is None:
            raise NotFound(_("This webhook is not here (any more)."))
        hook.is_late = lagging.is_late(hook)
        all_of_it = WebhookDelivery.objects.filter(webhook_id=webhook_id)
        rows = all_of_it.order_by("-id")
        if among := SHOWN.get(show):
            rows = rows.filter(status__in=among)
        if before := _uuid(request.GET.get("before", "")):
            rows = rows.filter(pk__lt=before)
        deliveries = list(rows.defer("event_data", "response_body")[: AT_A_TIME + 1])
        sent = _sent_at(request.GET.get("sent", ""))
        progress = replaying.progress(all_of_it, sent) if sent else None
        waiting = all_of_it.filter(status=Status.PENDING)[:1000].count()
    context = {
        "hook": hook,
        "headers": custom_headers.shown(hook.custom_headers),
        "seen": endpoints.old_secret_until(hook),
        "has_old_secret": bool(hook.old_secret_until and hook.old_secret_until > clock.now()),
        "secret": secret.reveal() if secret else "",
        "deliveries": deliveries[:AT_A_TIME],
        "more": deliveries[AT_A_TIME - 1].pk if len(deliveries) > AT_A_TIME else None,
        "show": show if show in SHOWN else "all",
        "before": before,
        "progress": progress if progress and progress["all"] else None,
        "is_moving": bool(waiting and not before and any(row.status == Status.PENDING for row in deliveries)),
        "waiting": waiting,
    }
    return _page(request, "detail", context)


def _sent_at(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, SENT).replace(tzinfo=UTC) if text else None
    except ValueError:
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text) if text else None
    except ValueError:
        return None


def _wanted(request: BrandRequest) -> endpoints.Wanted:
    retries = request.POST.get("max_retries", "")
    return endpoints.Wanted(
        name=request.POST.get("name", ""),
        url=request.POST.get("url", ""),
        events=request.POST.getlist("events"),
        headers=request.POST.get("headers", ""),
        retry_failed="retry_failed" in request.POST,
        max_retries=int(retries) if retries.isascii() and retries.isdigit() and len(retries) < 4 else MOST_RETRIES,
    )


def _sent(request: BrandRequest) -> dict[str, Any]:
    """What was typed, for the form that is shown again."""
    names = ("name", "url", "headers", "max_retries")
    return {
        **{name: request.POST.get(name, "") for name in names},
        "events": request.POST.getlist("events"),
        "retry_failed": "retry_failed" in request.POST,
    }


def _form(
    request: BrandRequest, hook: WebhookEndpoint | None, values: dict[str, Any], refused: DomainError | None = None
) -> HttpResponse:
    with scope(request.principal) as request.standing:
        pass
    context = {
        "hook": hook,
        "values": values,
        "families": _families(values["events"]),
        "once": request.POST.get("once") or uuid7(),
        "error": refused.detail if refused else "",
        "most_retries": MOST_RETRIES,
    }
    return _page(request, "form", context, status=422 if refused else 200)


def _families(chosen: Sequence[str]) -> list[dict[str, Any]]:
    """The events by their families, each with whether it is chosen."""
    found: dict[str, dict[str, Any]] = {}
    for kind in catalogue.KINDS.values():
        if not kind.for_hooks:
            continue
        pattern = f"{kind.name.partition('.')[0]}.*"
        family = found.setdefault(pattern, {"pattern": pattern, "is_chosen": pattern in chosen, "kinds": []})
        family["kinds"].append({"name": kind.name, "says": kind.says, "is_chosen": kind.name in chosen})
    for family in found.values():
        family["is_open"] = any(kind["is_chosen"] for kind in family["kinds"])
    return list(found.values())


def _page(request: BrandRequest, name: str, context: dict[str, Any], *, status: int = 200) -> HttpResponse:
    shown = {"here": "manage-webhooks", "standing": request.standing, "zone": request.brand.zone, **context}
    return render(request, f"manage/webhooks/{name}.html", shown, status=status)


def _to(webhook_id: UUID, query: str = "") -> HttpResponseRedirect:
    return HttpResponseRedirect(reverse("manage-webhook", args=[webhook_id]) + query, status=303)
