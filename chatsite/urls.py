from django.conf import settings
from django.contrib import admin
from django.urls import include, path

from billing import webhooks
from chatsite import (
    avatars,
    brand_settings,
    confirming_by_mail,
    leaving,
    metrics,
    own_keys,
    own_settings,
    pages,
    sign_in_ways,
    staying,
)
from chatsite.api_docs import description
from chatsite.api_docs import pages as api_docs
from chatsite.api_keys import pages as api_keys
from chatsite.members import pages as members
from conversations.rest.changes import CONVERSATIONS, MESSAGES
from events.realtime.door import door
from events.realtime.notifications import NOTIFICATIONS

handler400, handler403 = "chatsite.pages.bad_request", "chatsite.pages.permission_denied"
handler404, handler500 = "chatsite.pages.not_found", "chatsite.pages.server_error"

urlpatterns = [
    path("v1/", include("conversations.doors.urls")),  # first: a program's call is not compared with a hundred pages
    path("", include("conversations.urls")),
    path("", include("billing.urls")),
    path("", include("events.urls")),
    path("api/app/v1/", include("chatsite.app_sign_in")),
    path("account/confirm-by-mail/", confirming_by_mail.page, name="confirm-by-mail"),
    path("api/v1/realtime", door(NOTIFICATIONS, CONVERSATIONS, MESSAGES), name="realtime"),
    path("api/v1/", include("conversations.rest.urls")),
    path("api/v1/", include("quotas.rest")),
    path("api/v1/", include("events.webhooks.rest")),
    path("api/v1/", include("events.rest")),
    path("api/v1/", include("chatsite.api_keys.rest")),
    path("api/schema/", description.schema, name="api-schema"),
    path("api/docs/", api_docs.page, name="api-docs"),
    path("api/docs/key/", api_docs.key, name="api-docs-key"),
    path("account/stay/", staying.stay, name="stay-signed-in"),
    path("account/password/set/", sign_in_ways.set_password, name="account_set_password"),
    path("account/", include("allauth.account.urls")),
    path("account/second-factor/", include("allauth.mfa.urls")),
    path("account/elsewhere/", include("allauth.socialaccount.urls")),
    *[
        path("account/elsewhere/", include(f"allauth.socialaccount.providers.{name}.urls"))
        for name in settings.SOCIALACCOUNT_PROVIDERS
    ],
    path("settings/", own_settings.page, name="settings"),
    path("manage/settings/", brand_settings.page, name="manage-settings"),
    path("manage/settings/change/", brand_settings.change, name="change-brand"),
    path("settings/change/", own_settings.change, name="change-setting"),
    path("settings/notices/", own_settings.notify, name="change-notices"),
    path("settings/address/again/", own_settings.try_address_again, name="try-address-again"),
    path("settings/picture/", avatars.change, name="change-avatar"),
    path("settings/delete-account/", leaving.page, name="delete-account"),
    path("avatars/<uuid:brand_id>/<str:name>/", avatars.show, name="avatar"),
    path("settings/sessions/end/", sign_in_ways.end, name="end-session"),
    path("join/", include("chatsite.members.urls")),
    path("manage/members/", members.page, name="manage-members"),
    path("manage/members/change/", members.change, name="change-member"),
    path("manage/members/invite/", members.invite, name="change-invitation"),
    path("stand-in/", include("billing.standin.urls")),
    path("settings/api-keys/", api_keys.own, name="api-keys"),
    path("settings/api-keys/change/", api_keys.change_own, name="change-api-key"),
    path("manage/api-keys/", api_keys.of_brand, name="manage-api-keys"),
    path("manage/api-keys/change/", api_keys.change_of_brand, name="change-brand-api-key"),
    path("settings/keys/", own_keys.page, name="own-keys"),
    path("settings/keys/change/", own_keys.change, name="change-own-key"),
    path("admin/", admin.site.urls),
    path("stripe/webhook/", webhooks.receive, name="stripe-webhook"),
    path("healthz", pages.healthz, name="healthz"),
    path("readyz", pages.readyz, name="readyz"),
    path("metrics", metrics.metrics, name="metrics"),
]
