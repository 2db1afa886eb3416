from lib.errors import Conflict, DomainError, TooLarge


class StillAnswering(Conflict):
    """An answer is still being written in this chat."""

    code = "still_answering"


class TooLong(TooLarge):
    """The question does not fit into what the model can read at once."""

    code = "too_long"


class Dismissed(DomainError):
    """Your right to ask here was withdrawn while this was being answered. What had arrived is charged."""

    status, code = 403, "dismissed"


class Restarting(DomainError):
    """This server is about to stop and takes no new questions."""

    status, code = 503, "restarting"
