from django.utils.translation import gettext_lazy

from lib.errors import Conflict, DomainError, Unavailable


class NotForSale(DomainError):
    says = gettext_lazy("This is not on offer. Nothing was charged.")
    status, code = 400, "not_for_sale"


class NothingToSellWith(Unavailable):
    says = gettext_lazy(
        "Nothing can be bought here yet: this site has no payment service. Ask those who run it. Nothing was charged."
    )
    code = "no_payment_service"


class PaymentServiceAway(Unavailable):
    says = gettext_lazy("The payment service does not answer. Nothing was charged; try again in a minute.")
    code = "payment_service_away"


class TooOften(DomainError):
    says = gettext_lazy(
        "Too many payments were begun, or looked at, in this minute. Nothing was charged; wait a minute and go on."
    )
    status, code = 429, "too_often"


class PaymentRefused(DomainError):
    says = gettext_lazy("The payment was refused. Nothing was changed.")
    status, code = 402, "payment_refused"


class NotNow(Conflict):
    says = gettext_lazy("What is to be changed does not stand as this needs it. Nothing was changed.")
    code = "not_now"


class Parked(Exception):
    """An event of Stripe's that no program can act on. It is kept and shown to staff; nothing is granted for it.

    The message says why, and what to do.
    """
