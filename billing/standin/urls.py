from django.urls import path

from billing.standin import pages

app_name = "stand-in"
urlpatterns = [
    path("checkout/<str:session_id>/", pages.checkout, name="checkout"),
    path("portal/<str:session_id>/", pages.portal, name="portal"),
    path("invoice/<str:invoice_id>/", pages.invoice, name="invoice"),
]
