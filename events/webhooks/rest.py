"""REST: webhooks of a brand and their deliveries (S3; docs/webhooks.md)."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.http.response import HttpResponseBase
from django.urls import path
from rest_framework import serializers

from accounts.access import BrandRequest
from accounts.rest import Api, Listed, newest, operation
from accounts.rest.fields import Flag, Free, Id, Moment, NewestFirst, Query, ShownOnce, Strict, Text, Whole
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints, replaying
from lib.db import scope
from lib.errors import NotFound
from lib.secret import Secret

MANAGE = "webhooks:manage"
AN_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f"
AT = "2026-11-21T20:15:00.123456+00:00"


class Webhook(serializers.Serializer[Any]):
    """An address that is told of what happens in the brand, signed by Standard Webhooks."""

    moves = frozenset(
        ["total_deliveries", "successful_deliveries", "failed_deliveries", "failing_since", "last_delivered_at"]
    )

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
    old_secret_until = Moment(allow_null=True, help_text="Until then the secret before signs beside the newest one.")
    signing_secret = ShownOnce(help_text="Only in the answer that made it; nobody can read it later.")


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


class OneDelivery(Delivery):
    """One event on its way to one webhook, with what was sent and answered."""

    event_data = Free(help_text="The body that is sent.")
    response_body = Text(help_text="The beginning of the last answer, 4 kB at most, without secrets.")


class Again(Strict):
    failed_only = Flag(default=True, help_text="false: also what arrived.")
    since = Moment(required=False, help_text="Of the moments at which deliveries were made; included.")
    until = Moment(required=False)


class Replayed(serializers.Serializer[Any]):
    """A range that is being sent again."""

    replayed_at = Moment(help_text="Names the range: give it as `at` to see how it does.")
    deliveries = Whole(help_text="How many, 10,000 at most.")


class Which(Query):
    at = Moment(help_text="The `replayed_at` of a range.")


class Progress(serializers.Serializer[Any]):
    """How a range does that is being sent again."""

    all = Whole()
    delivered = Whole()
    failed = Whole()
    waiting = Whole()


TO_MAKE = {"name": "Our desk", "url": "https://hooks.example.com/chats", "events": ["conversation.*"]}
A_WEBHOOK = {
    "id": AN_ID, **TO_MAKE, "is_active": True, "off_because": "", "retry_failed": True, "max_retries": 9,
    "total_deliveries": 12, "successful_deliveries": 12, "failed_deliveries": 0, "failing_since": None,
    "last_delivered_at": AT, "created_at": AT, "updated_at": AT, "old_secret_until": None,
}  # fmt: skip
WITH_SECRET = {**A_WEBHOOK, "signing_secret": "whsec_…"}
A_DELIVERY = {
    "id": AN_ID, "webhook_id": AN_ID, "message_id": AN_ID, "event_type": "conversation.started", "status": "delivered",
    "http_status": 200, "error_message": "", "attempt_count": 1, "next_retry_at": None, "delivered_at": AT,
    "duration_ms": 41, "created_at": AT,
}  # fmt: skip
WHOLE_DELIVERY = {
    **A_DELIVERY, "response_body": "ok",
    "event_data": {"id": AN_ID, "type": "conversation.started", "data": {"source": "api"}},
}  # fmt: skip
PROGRESS = {"all": 12, "delivered": 9, "failed": 1, "waiting": 2}
A_RANGE = {"failed_only": True, "since": "2026-11-21T00:00:00Z"}
OF_BRAND: Mapping[str, Any] = {"role": "app_brand"}


class OfWebhooks(Api):
    tag = "Webhooks"

    def locked(self, request: BrandRequest, **ids: Any) -> WebhookEndpoint:
        return endpoints.locked(request.principal, ids["webhook_id"])


class Webhooks(OfWebhooks):
    @operation("listWebhooks", MANAGE, answers=Webhook(many=True), told=A_WEBHOOK, **OF_BRAND)
    def get(self, request: BrandRequest) -> Any:
        """List the brand's webhooks"""
        return WebhookEndpoint.objects.filter(brand_id=request.principal.brand_id).order_by("id")

    @operation(
        "createWebhook", MANAGE,
        asks=ToMake, answers=Webhook(), status=201, goes_out=True, takes_key=True,
        asked=TO_MAKE, told=WITH_SECRET, **OF_BRAND,
    )  # fmt: skip
    def post(self, request: BrandRequest) -> HttpResponseBase:
        """Make a webhook

        Its secret is told in this answer only: a repeat with the same `Idempotency-Key` tells the webhook without it.
        """
        who = request.principal
        with scope(who):
            if (first := self.told_before(request, {})) is not None:
                return first
        fields = endpoints.Wanted(**self.asked).checked()
        with scope(who):
            return self.do(request, {}, lambda: _with_secret(*endpoints.store(who, fields)))


class OneWebhook(OfWebhooks):
    @operation("getWebhook", MANAGE, answers=Webhook(), tagged=True, told=A_WEBHOOK, **OF_BRAND)
    def get(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Read a webhook"""
        return endpoints.find(request.principal, webhook_id)

    @operation(
        "updateWebhook", MANAGE,
        asks=ToChange, answers=Webhook(), goes_out=True, tagged=True, asked={"is_active": False}, told=A_WEBHOOK, **OF_BRAND,
    )  # fmt: skip
    def patch(self, request: BrandRequest, webhook_id: UUID) -> HttpResponseBase:
        """Change a webhook, or switch it on or off"""
        who, asked = request.principal, dict(self.asked)
        is_active = asked.pop("is_active", None)
        checked = self.checked(request, webhook_id, asked) if asked else None

        def change() -> WebhookEndpoint:
            row = endpoints.store_change(who, webhook_id, *checked) if checked else endpoints.find(who, webhook_id)
            return row if is_active is None else endpoints.switch(who, webhook_id, on=is_active)

        with scope(who):
            return self.do(request, {"webhook_id": webhook_id}, change)

    def checked(
        self, request: BrandRequest, webhook_id: UUID, asked: Mapping[str, Any]
    ) -> tuple[dict[str, Any], endpoints.Judged]:
        """The columns to write: what was not asked for is left as somebody else may be making it."""
        row = endpoints.find(request.principal, webhook_id)
        names = ("name", "url", "events", "retry_failed", "max_retries")
        wanted = endpoints.Wanted(**{**{name: getattr(row, name) for name in names}, **asked})
        fields, judged = endpoints.checked_change(request.principal, webhook_id, wanted)
        return {name: fields[name] for name in fields if name in asked or name == "custom_headers"}, judged

    @operation("deleteWebhook", MANAGE, tagged=True, **OF_BRAND)
    def delete(self, request: BrandRequest, webhook_id: UUID) -> None:
        """Delete a webhook, with its deliveries"""
        endpoints.delete(request.principal, webhook_id)


class Rotating(OfWebhooks):
    @operation(
        "rotateWebhookSecret", MANAGE,
        answers=Webhook(), takes_key=True, tagged=True, told=WITH_SECRET, **OF_BRAND,
    )  # fmt: skip
    def post(self, request: BrandRequest, webhook_id: UUID) -> WebhookEndpoint:
        """Make a new secret for a webhook

        It is told in this answer only: a repeat with the same `Idempotency-Key` tells the webhook without it. For 24 hours
        the secret before signs beside it, also when another new one is made: whoever missed this answer does that.
        """
        secret = endpoints.rotate(request.principal, webhook_id)
        return _with_secret(endpoints.find(request.principal, webhook_id), secret)


class TryOut(OfWebhooks):
    @operation("testWebhook", MANAGE, answers=Delivery(), status=201, takes_key=True, told=A_DELIVERY, **OF_BRAND)
    def post(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Send a test event"""
        return endpoints.try_out(request.principal, webhook_id)


class Replaying(OfWebhooks):
    @operation("getReplay", MANAGE, query=Which, answers=Progress(), tagged=True, told=PROGRESS, **OF_BRAND)
    def get(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """See how a range does that is sent again"""
        endpoints.find(request.principal, webhook_id)
        return replaying.progress(WebhookDelivery.objects.filter(webhook_id=webhook_id), self.query["at"])

    @operation(
        "replayWebhook", MANAGE,
        asks=Again, answers=Replayed(), takes_key=True, asked=A_RANGE, told={"replayed_at": AT, "deliveries": 12}, **OF_BRAND,
    )  # fmt: skip
    def post(self, request: BrandRequest, webhook_id: UUID) -> Any:
        """Send a range of deliveries again

        With the `webhook-id`s they had, so that nothing is done twice. What is on its way is left alone.
        """
        at, count = replaying.many(request.principal, webhook_id, **self.asked)
        return {"replayed_at": at, "deliveries": count}


class Deliveries(OfWebhooks):
    @operation("listDeliveries", MANAGE, query=NewestFirst, answers=Delivery(many=True), told=A_DELIVERY, **OF_BRAND)
    def get(self, request: BrandRequest, webhook_id: UUID) -> Listed:
        """List what was sent to a webhook

        The newest first.
        """
        endpoints.find(request.principal, webhook_id)
        rows = WebhookDelivery.objects.filter(webhook_id=webhook_id, brand_id=request.principal.brand_id)
        return newest(self, rows.defer("event_data", "response_body"))


class AnyDelivery(OfWebhooks):
    @operation("getDelivery", MANAGE, answers=OneDelivery(), tagged=True, told=WHOLE_DELIVERY, **OF_BRAND)
    def get(self, request: BrandRequest, delivery_id: UUID) -> WebhookDelivery:
        """Read a delivery"""
        row = WebhookDelivery.objects.filter(brand_id=request.principal.brand_id, pk=delivery_id).first()
        if row is None:
            raise NotFound("This delivery is not here (any more).")
        return row


class Replay(OfWebhooks):
    @operation("replayDelivery", MANAGE, answers=Delivery(), takes_key=True, told=A_DELIVERY, **OF_BRAND)
    def post(self, request: BrandRequest, delivery_id: UUID) -> Any:
        """Send a delivery again

        With the `webhook-id` it had, so that nothing is done twice.
        """
        return replaying.one(request.principal, delivery_id)


def _with_secret(row: WebhookEndpoint, secret: Secret) -> WebhookEndpoint:
    row.signing_secret = secret.reveal()  # type: ignore[attr-defined]  # for this one answer
    return row


urlpatterns = [
    path("webhooks", Webhooks.as_view(), name="rest-webhooks"),
    path("webhooks/<uuid:webhook_id>", OneWebhook.as_view(), name="rest-webhook"),
    path("webhooks/<uuid:webhook_id>/rotate-secret", Rotating.as_view(), name="rest-webhook-secret"),
    path("webhooks/<uuid:webhook_id>/test", TryOut.as_view(), name="rest-webhook-test"),
    path("webhooks/<uuid:webhook_id>/replay", Replaying.as_view(), name="rest-webhook-replay"),
    path("webhooks/<uuid:webhook_id>/deliveries", Deliveries.as_view(), name="rest-deliveries"),
    path("deliveries/<uuid:delivery_id>", AnyDelivery.as_view(), name="rest-delivery"),
    path("deliveries/<uuid:delivery_id>/replay", Replay.as_view(), name="rest-replay"),
]
