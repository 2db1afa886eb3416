from django.urls import path

from conversations import manage, views

app_name = "conversations"

urlpatterns = [
    path("", views.home, name="home"),
    path("c/", views.new, name="new"),
    path("c/send/", views.send, name="start"),
    path("c/<uuid:conversation_id>/", views.detail, name="detail"),
    path("c/<uuid:conversation_id>/send/", views.send, name="send"),
    path("turns/<uuid:turn_id>/stream", views.stream, name="stream"),
    path("turns/<uuid:turn_id>/stop", views.stop, name="stop"),
    path("manage/models/", manage.models, name="manage-models"),
    path("manage/models/chain/", manage.chain, name="manage-chain"),
]
