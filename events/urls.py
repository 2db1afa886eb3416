"""Without a namespace: every page's bell leads here by name."""

from django.urls import path

from events import pages

urlpatterns = [
    path("notifications/", pages.notifications, name="notifications"),
    path("notifications/read/", pages.read_all, name="read-notifications"),
    path("notifications/<uuid:notice_id>/read/", pages.read, name="read-notification"),
]
