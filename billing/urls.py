"""Without a namespace: chat's and staff's templates lead here by name, and chat does not know who serves them."""

from django.urls import path

from billing import manage, pages

urlpatterns = [
    path("pricing/", pages.prices, name="pricing"),
    path("settings/plan/", pages.plan_and_usage, name="plan-and-usage"),
    path("settings/plan/overage/", pages.overage, name="overage"),
    path("billing/return/", pages.plan_and_usage, name="billing-return"),
    path("manage/plan/", manage.plan, name="manage-plan"),
]
