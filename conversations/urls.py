from django.urls import path

from conversations import (
    arriving,
    attaching,
    browsing,
    manage,
    options,
    search_pages,
    starter_pages,
    views,
    visiting,
)

app_name = "conversations"

urlpatterns = [
    path("", visiting.home, name="home"),
    path("welcome/", arriving.welcome, name="welcome"),
    path("c/", views.new, name="new"),
    path("c/send/", views.send, name="start"),
    path("c/more/", browsing.more, name="more"),
    path("c/<uuid:conversation_id>/", views.detail, name="detail"),
    path("c/<uuid:conversation_id>/facts/", browsing.facts, name="facts"),
    path("c/<uuid:conversation_id>/keep/", browsing.keep_one, name="keep-one"),
    path("c/<uuid:conversation_id>/send/", views.send, name="send"),
    path("history/", browsing.history, name="history"),
    path("history/keep/", browsing.keep, name="keep"),
    path("history/undo/", browsing.undo, name="undo"),
    path("history/empty-bin/", browsing.empty_bin, name="empty-bin"),
    path("search/", search_pages.page, name="search"),
    path("search/palette/", search_pages.palette, name="palette"),
    path("attachments/", attaching.attach, name="attach"),
    path("attachments/<uuid:attachment_id>/", attaching.attachment, name="attachment"),
    path("attachments/<uuid:attachment_id>/remove/", attaching.remove, name="remove-attachment"),
    path("c/<uuid:conversation_id>/options/", options.change, name="options"),
    path("templates/", starter_pages.own, name="templates"),
    path("templates/change/", starter_pages.change_own, name="change-template"),
    path("templates/choices/", starter_pages.choices, name="template-choices"),
    path("turns/<uuid:turn_id>/stream", views.stream, name="stream"),
    path("turns/<uuid:turn_id>/stop", views.stop, name="stop"),
    path("manage/models/", manage.models, name="manage-models"),
    path("manage/models/chain/", manage.chain, name="manage-chain"),
    path("manage/models/place/", manage.place, name="manage-place"),
    path("manage/templates/", starter_pages.of_brand, name="manage-templates"),
    path("manage/templates/change/", starter_pages.change_of_brand, name="change-brand-template"),
]
