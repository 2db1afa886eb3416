"""Without a namespace: chat's and staff's templates lead here by name, and chat does not know who serves them."""

from django.urls import path

from billing import buying, manage, pages

urlpatterns = [
    path("pricing/", pages.prices, name="pricing"),
    path("settings/plan/", pages.plan_and_usage, name="plan-and-usage"),
    path("settings/plan/overage/", pages.overage, name="overage"),
    path("settings/plan/change/", buying.change, name="change-plan"),
    path("settings/plan/cancel/", buying.cancel, name="cancel-plan"),
    path("settings/plan/resume/", buying.resume, name="resume-plan"),
    path("billing/subscribe/", buying.subscribe, name="subscribe"),
    path("billing/pack/", buying.pack, name="buy-pack"),
    path("billing/card/", buying.card, name="store-card"),
    path("billing/portal/", buying.portal, name="billing-portal"),
    path("billing/return/", buying.back, name="billing-return"),
    path("manage/plan/", manage.plan, name="manage-plan"),
]
