"""REST: webhooks of a brand and their deliveries (S3), what a person is told, and the activity log (docs/api.md)."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from django.urls import path
from rest_framework import serializers

from accounts import idempotency
from accounts.access import BrandRequest
from accounts.rest import Api, Listed, operation
from accounts.rest.fields import Flag, Free, Id, Moment, Query, Strict, Text, Whole
from events import notices
from events.models import Activity, Notification, WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints, replaying
from lib.db import scope
from lib.errors import NotFound

MANAGE, TOLD, LOG = "webhooks:manage", "notifications:read", "activity:read"
AN_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f"
AT = "2026-11-21T20:15:00.123456+00:00"


class Webhook(serializers.Serializer[Any]):
    """An address that is told of what happens in the brand, signed by Standard Webhooks."""

    id = Id()
    name = Text()
    url = Text()
    events = serializers.ListField(child=Text())
    is_active = Flag()
    off_because = Text(help_text="by_hand, gone (it answered 410) or failing; empty while it is on.")
    retry_failed = Flag()
    max_retries = Whole()
    total_deliveries = Whole()
    successful_deliveries = Whole()
    failed_deliveries = Whole()
    failing_since = Moment(allow_null=True)
    last_delivered_at = Moment(allow_null=True)
    created_at = Moment()
    updated_at = Moment()
    signing_secret = Text(required=False, help_text="Only in the answer that made it; nobody can read it later.")


class ToMake(Strict):
    name = Text(max_length=80)
    url = Text(max_length=1000)
    events = serializers.ListField(child=Text(max_length=60), allow_empty=False, max_length=200)
    headers = Text(required=False, max_length=8000, help_text="Lines of `Name: value` that are sent along.")
    retry_failed = Flag(default=True)
    max_retries = Whole(min_value=0, max_value=endpoints.MOST_RETRIES, default=endpoints.MOST_RETRIES)


class ToChange(Strict):
    name = Text(max_length=80, required=False)
    url = Text(max_length=1000, required=False)
    events = serializers.ListField(child=Text(max_length=60), allow_empty=False, max_length=200, required=False)
    headers = Text(required=False, max_length=8000)
    retry_failed = Flag(required=False)
    max_retries = Whole(min_value=0, max_value=endpoints.MOST_RETRIES, required=False)
    is_active = Flag(required=False, help_text="Off: nothing is sent, and what was on its way is cancelled.")


class Delivery(serializers.Serializer[Any]):
    """One event on its way to one webhook."""

    id = Id()
    webhook_id = Id()
    message_id = Id(help_text="The header `webhook-id`: the same in every attempt.")
    event_type = Text()
    status = serializers.ChoiceField(WebhookDelivery.Status.values)
    http_status = Whole(allow_null=True)
    error_message = Text()
    attempt_count = Whole()
    next_retry_at = Moment(allow_null=True)
    delivered_at = Moment(allow_null=True)
    duration_ms = Whole(allow_null=True)
    created_at = Moment()


class Notice(serializers.Serializer[Any]):
    """Something you should know."""

    id = Id()
    type = Text()
    title = Text()
    message = Text()
    priority = serializers.ChoiceField(Notification.Priority.values)
    action_url = Text()
    read_at = Moment(allow_null=True)
    created_at = Moment()


class Read(serializers.Serializer[Any]):
    read = Whole(help_text="How many were unread.")


class LogLine(serializers.Serializer[Any]):
    """Who did what to what. `changes` holds the values before and after; secrets are in none."""

    id = Id()
    created_at = Moment()
    actor_id = Id(allow_null=True)
    actor_kind = Text()
    key_id = Id(allow_null=True)
    action = Text()
    resource_type = Text()
    resource_id = Id(allow_null=True)
    changes = Free()
    request_id = Text()


class Page(Query):
    limit = Whole(min_value=1, max_value=200, default=50)
    after = Id(required=False, help_text="The id of the last one of the page before.")


class LogWanted(Page):
    action = Text(required=False, max_length=60, help_text="Such as `key.created`.")
    actor = Id(required=False)


TO_MAKE = {"name": "Our desk", "url": "https://hooks.example.com/chats", "events": ["conversation.*"]}
A_WEBHOOK = {
    "id": AN_ID, **TO_MAKE, "is_active": True, "off_because": "", "retry_failed": True, "max_retries": 9,
    "total_deliveries": 12, "successful_deliveries": 12, "failed_deliveries": 0, "failing_since": None,
    "last_delivered_at": AT, "created_at": AT, "updated_at": AT,
}  # fmt: skip
A_DELIVERY = {
    "id": AN_ID, "webhook_id": AN_ID, "message_id": AN_ID, "event_type": "conversation.started", "status": "delivered",
    "http_status": 200, "error_message": "", "attempt_count": 1, "next_retry_at": None, "delivered_at": AT,
    "duration_ms": 41, "created_at": AT,
}  # fmt: skip
A_NOTICE = {
    "id": AN_ID, "type": "usage_limit", "title": "80 % of your questions are used", "message": "3 of 15 are left today.",
    "priority": "normal", "action_url": "/plan/", "read_at": None, "created_at": AT,
}  # fmt: skip
A_LINE = {
    "id": AN_ID, "created_at": AT, "actor_id": AN_ID, "actor_kind": "member", "key_id": None, "action": "key.created",
    "resource_type": "api_key", "resource_id": AN_ID, "changes": {"name": "Our desk"}, "request_id": "0f8fad5bd9cb469f",
}  # fmt: skip
OF_BRAND: Mapping[str, Any] = {"role": "app_brand", "goes_out": True}


class OfWebhooks(Api):
    tag = "Webhooks"


class Webhooks(OfWebhooks):
    @operation("listWebhooks", MANAGE, answers=Webhook(many=True), told=A_WEBHOOK, role="app_brand")
    def get(self, request: BrandRequest) -> Any:
        """List the brand's webhooks"""
        return WebhookEndpoint.objects.filter(brand_id=request.principal.brand_id).order_by("id")

    @operation(
        "createWebhook", MANAGE,
        asks=ToMake, answers=Webhook(), status=201, takes_key=True, asked=TO_MAKE,
        told={**A_WEBHOOK, "signing_secret": "whsec_…"}, **OF_BRAND,
    )  # fmt: skip
    def post(self, request: BrandRequest) -> Any:
        """Make a webhook

        Its secret is told in this answer only: a repeat with the same `Idempotency-Key` tells the webhook without it.
        """

        def make() -> tuple[dict[str, Any], dict[str, Any]]:
            made, secret = endpoints.make(request.principal, endpoints.Wanted(**self.asked))
            told = Webhook().to_representation(made)
            return told, {"signing_secret": secret.reveal()}

        return once(request, "webhook", self.asked, make)


class OneWebhook(OfWebhooks):
    @operation("getWebhook", MANAGE, answers=Webhook(), told=A_WEBHOOK, **OF_BRAND)
    def get(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Read a webhook"""
        return endpoints.find(request.principal, webhook_id)

    @operation(
        "updateWebhook",
        MANAGE,
        asks=ToChange,
        answers=Webhook(),
        asked={"is_active": False},
        told=A_WEBHOOK,
        **OF_BRAND,
    )
    def patch(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Change a webhook, or switch it on or off"""
        who, asked = request.principal, dict(self.asked)
        is_active = asked.pop("is_active", None)
        row = endpoints.find(who, webhook_id)
        if asked:
            names = ("name", "url", "events", "retry_failed", "max_retries", "agent_id")
            row = endpoints.change(who, webhook_id, endpoints.Wanted(**{n: getattr(row, n) for n in names} | asked))
        return row if is_active is None else endpoints.switch(who, webhook_id, on=is_active)

    @operation("deleteWebhook", MANAGE, **OF_BRAND)
    def delete(self, request: BrandRequest, webhook_id: UUID) -> None:
        """Delete a webhook, with its deliveries"""
        endpoints.delete(request.principal, webhook_id)


class TryOut(OfWebhooks):
    @operation("testWebhook", MANAGE, answers=Delivery(), status=201, told=A_DELIVERY, **OF_BRAND)
    def post(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Send a test event"""
        return endpoints.try_out(request.principal, webhook_id)


class Deliveries(OfWebhooks):
    @operation("listDeliveries", MANAGE, query=Page, answers=Delivery(many=True), told=A_DELIVERY, role="app_brand")
    def get(self, request: BrandRequest, webhook_id: UUID) -> Listed:
        """List what was sent to a webhook

        The newest first.
        """
        own = {"brand_id": request.principal.brand_id}
        if not WebhookEndpoint.objects.filter(pk=webhook_id, **own).exists():
            raise NotFound("This webhook is not here (any more).")
        rows = WebhookDelivery.objects.filter(webhook_id=webhook_id, **own).defer("event_data", "response_body")
        return newest(self, rows)


class Replay(OfWebhooks):
    @operation("replayDelivery", MANAGE, answers=Delivery(), told=A_DELIVERY, **OF_BRAND)
    def post(self, request: BrandRequest, delivery_id: UUID) -> Any:
        """Send a delivery again

        With the `webhook-id` it had, so that nothing is done twice.
        """
        return replaying.one(request.principal, delivery_id)


class Notices(Api):
    tag = "Notifications and activity"

    @operation("listNotifications", TOLD, query=Page, answers=Notice(many=True), told=A_NOTICE)
    def get(self, request: BrandRequest) -> Listed:
        """List your notifications

        The newest first.
        """
        limit = self.query["limit"]
        rows = notices.recent(request.principal, most=limit + 1, before=self.query.get("after"))
        return Listed(rows[:limit], str(rows[limit - 1].pk) if len(rows) > limit else "")


class ReadAll(Api):
    tag = "Notifications and activity"

    @operation("readAllNotifications", TOLD, answers=Read(), told={"read": 3})
    def post(self, request: BrandRequest) -> Any:
        """Mark all notifications as read"""
        return {"read": notices.mark_all_read(request.principal)}


class ReadOne(Api):
    tag = "Notifications and activity"

    @operation("readNotification", TOLD)
    def post(self, request: BrandRequest, notice_id: UUID) -> None:
        """Mark a notification as read

        One that was read stays as it is.
        """
        if not Notification.objects.filter(pk=notice_id, owner_id=request.principal.owner_id).exists():
            raise NotFound("This notification is not here (any more).")
        notices.mark_read(request.principal, notice_id)


class Log(Api):
    tag = "Notifications and activity"

    @operation("listActivity", LOG, query=LogWanted, answers=LogLine(many=True), told=A_LINE, role="app_brand")
    def get(self, request: BrandRequest) -> Listed:
        """List the brand's activity log

        The newest first.
        """
        rows = Activity.objects.filter(brand_id=request.principal.brand_id).defer("origin")
        if action := self.query.get("action"):
            rows = rows.filter(action=action)
        if actor := self.query.get("actor"):
            rows = rows.filter(actor_id=actor)
        return newest(self, rows)


def newest(view: Api, rows: Any) -> Listed:
    """One page of rows whose ids sort by time."""
    limit = view.query["limit"]
    if after := view.query.get("after"):
        rows = rows.filter(pk__lt=after)
    found = list(rows.order_by("-pk")[: limit + 1])
    return Listed(found[:limit], str(found[limit - 1].pk) if len(found) > limit else "")


def once(
    request: BrandRequest,
    route: str,
    asked: Mapping[str, Any],
    make: Callable[[], tuple[dict[str, Any], dict[str, Any]]],
) -> dict[str, Any]:
    """Make something once for each Idempotency-Key. `make` gives what is told, and what is told the first time only."""
    if not (key := request.headers.get("Idempotency-Key", "")):
        told, secret = make()
        return told | secret
    own = replace(request.principal, role="app_user")
    with scope(own):
        asked_hash = idempotency.fingerprint(sorted(asked.items()))
        record_id, first = idempotency.claim(own, route=f"rest {route}", key=key, request_hash=asked_hash)
    if first is not None:
        return first
    try:
        told, secret = make()
    except BaseException:
        with scope(own):
            idempotency.release(record_id)
        raise
    with scope(own):
        idempotency.keep(record_id, orjson.loads(orjson.dumps(told)), status=201)
    return told | secret


urlpatterns = [
    path("webhooks", Webhooks.as_view(), name="rest-webhooks"),
    path("webhooks/<uuid:webhook_id>", OneWebhook.as_view(), name="rest-webhook"),
    path("webhooks/<uuid:webhook_id>/test", TryOut.as_view(), name="rest-webhook-test"),
    path("webhooks/<uuid:webhook_id>/deliveries", Deliveries.as_view(), name="rest-deliveries"),
    path("deliveries/<uuid:delivery_id>/replay", Replay.as_view(), name="rest-replay"),
    path("notifications", Notices.as_view(), name="rest-notifications"),
    path("notifications/read", ReadAll.as_view(), name="rest-read-all"),
    path("notifications/<uuid:notice_id>/read", ReadOne.as_view(), name="rest-read"),
    path("activity", Log.as_view(), name="rest-activity"),
]
