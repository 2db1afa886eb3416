"""The ways into a brand for somebody who has an account, or will have one in a minute."""

from django.urls import path

from chatsite.members import joining, pages

app_name = "accounts"
urlpatterns = [
    path("", joining.join_view, name="join"),
    path("<str:token>/", pages.invited, name="invited"),
]
