from django.urls import path

from billing.standin import pages

app_name = "stand-in"
urlpatterns = [
    path("checkout/<slug:session_id>/", pages.checkout, name="checkout"),
    path("portal/<slug:session_id>/", pages.portal, name="portal"),
    path("invoice/<slug:invoice_id>/", pages.invoice, name="invoice"),
]
