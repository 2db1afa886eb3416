"""REST: what a person is told, and the activity log (S3; docs/api.md)."""

from typing import Any
from uuid import UUID

from django.urls import path
from rest_framework import serializers

from accounts.access import BrandRequest
from accounts.rest import Api, Listed, newest, operation
from accounts.rest.fields import Free, Id, Moment, NewestFirst, Text, Whole
from events import notices
from events.models import Activity, Notification
from lib.errors import NotFound

TOLD, LOG = "notifications:read", "activity:read"
AN_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f"
AT = "2026-11-21T20:15:00.123456+00:00"


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


class LogWanted(NewestFirst):
    action = Text(required=False, max_length=60, help_text="Such as `key.created`.")
    actor = Id(required=False)


A_NOTICE = {
    "id": AN_ID, "type": "usage_limit", "title": "80 % of your questions are used", "message": "3 of 15 are left today.",
    "priority": "normal", "action_url": "/plan/", "read_at": None, "created_at": AT,
}  # fmt: skip
A_LINE = {
    "id": AN_ID, "created_at": AT, "actor_id": AN_ID, "actor_kind": "member", "key_id": None, "action": "key.created",
    "resource_type": "api_key", "resource_id": AN_ID, "changes": {"name": "Our desk"}, "request_id": "0f8fad5bd9cb469f",
}  # fmt: skip


class Notices(Api):
    tag = "Notifications and activity"

    @operation("listNotifications", TOLD, query=NewestFirst, answers=Notice(many=True), told=A_NOTICE)
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


urlpatterns = [
    path("notifications", Notices.as_view(), name="rest-notifications"),
    path("notifications/read", ReadAll.as_view(), name="rest-read-all"),
    path("notifications/<uuid:notice_id>/read", ReadOne.as_view(), name="rest-read"),
    path("activity", Log.as_view(), name="rest-activity"),
]
