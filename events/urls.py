"""Without a namespace: every page's bell, and the pages of a brand's admins, lead here by name."""

from django.urls import path

from events import pages
from events.activity import pages as activity
from events.delivery import desk, doors
from events.webhooks import pages as webhooks

urlpatterns = [
    path("manage/activity/", activity.page, name="manage-activity"),
    path("manage/activity/file/", activity.take, name="take-activity"),
    path("manage/activity/<uuid:line_id>/", activity.one, name="manage-activity-line"),
    path("manage/webhooks/", webhooks.index, name="manage-webhooks"),
    path("manage/webhooks/new/", webhooks.new, name="manage-new-webhook"),
    path("manage/webhooks/make/", webhooks.make, name="manage-make-webhook"),
    path("manage/webhooks/signature/", webhooks.tester, name="manage-webhook-tester"),
    path("manage/webhooks/deliveries/<uuid:delivery_id>/", webhooks.delivery, name="manage-webhook-delivery"),
    path("manage/webhooks/deliveries/<uuid:delivery_id>/again/", webhooks.again, name="manage-send-webhook-again"),
    path("manage/webhooks/<uuid:webhook_id>/", webhooks.detail, name="manage-webhook"),
    path("manage/webhooks/<uuid:webhook_id>/change/", webhooks.change, name="manage-change-webhook"),
    path("manage/webhooks/<uuid:webhook_id>/save/", webhooks.save, name="manage-save-webhook"),
    path("manage/webhooks/<uuid:webhook_id>/do/", webhooks.act, name="manage-webhook-act"),
    path("notifications/", pages.notifications, name="notifications"),
    path("notifications/bell/", pages.bell, name="bell"),
    path("notifications/read/", pages.read_all, name="read-notifications"),
    path("notifications/<uuid:notice_id>/read/", pages.read, name="read-notification"),
    path("mail/seen/<str:token>.gif", doors.opened, name="mail-opened"),
    path("mail/to/<str:token>/", doors.follow, name="mail-link"),
    path("mail/stop/<str:token>/", doors.stop, name="stop-mails"),
    path("mail/reports/<slug:provider>/", doors.report, name="mail-reports"),
    path("manage/deliveries/", desk.page, name="deliveries"),
    path("manage/deliveries/mail/<uuid:mail_id>/", desk.mail, name="delivery-of-mail"),
    path("manage/deliveries/mail/<uuid:mail_id>/again/", desk.mail_again, name="send-mail-again"),
]
