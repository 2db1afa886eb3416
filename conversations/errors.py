from django.utils.translation import gettext_lazy

from lib.errors import Conflict, DomainError, TooLarge


class StillAnswering(Conflict):
    says = gettext_lazy("An answer is still being written in this chat.")
    code = "still_answering"


class TooLong(TooLarge):
    says = gettext_lazy("The question does not fit into what the model can read at once.")
    code = "too_long"


class TooMuchSaid(TooLarge):
    """A chat holds more than can be read back for its next question."""


class Dismissed(DomainError):
    says = gettext_lazy(
        "Your right to ask here was withdrawn while this was being answered. What had arrived is charged."
    )
    status, code = 403, "dismissed"


class Restarting(DomainError):
    says = gettext_lazy("This server is about to stop and takes no new questions.")
    status, code = 503, "restarting"
