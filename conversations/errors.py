from lib.errors import Conflict, DomainError, TooLarge


class StillAnswering(Conflict):
    """An answer is still being written in this chat."""

    code = "still_answering"


class TooLong(TooLarge):
    """The question does not fit into what the model can read at once."""

    code = "too_long"


class Restarting(DomainError):
    """This server is about to stop and takes no new questions."""

    status, code = 503, "restarting"
