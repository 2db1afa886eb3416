"""The small tree of refusals. What is raised here is expected; anything else is a bug and crashes."""

from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _


class DomainError(Exception):
    """A request we understood and refuse. `detail` is a sentence for the person: cause, effect, what to do.

    `says` is that of a class which needs no other; it is said in the language of whoever asks when it is raised.
    `extra` travels beside it in every rendering (`left`, `resets_at`, `retry_after`): plain JSON values only.
    """

    status = 400
    code = "invalid"
    says: str | Promise = ""

    def __init__(self, detail: str = "", **extra: Any) -> None:
        super().__init__(str(detail or self.says or type(self).__doc__ or self.code))
        self.detail = str(self)
        self.extra = extra


class Invalid(DomainError):
    """The input cannot be used as it is."""

    status, code = 400, "invalid"


class NotAuthenticated(DomainError):
    """Nobody is signed in, or the key is not valid."""

    status, code = 401, "not_authenticated"


class Forbidden(DomainError):
    """The person is known, and may not do this."""

    status, code = 403, "forbidden"


class NotFound(DomainError):
    """There is no such thing here, or it belongs to somebody else."""

    status, code = 404, "not_found"


class WrongMethod(DomainError):
    """This address is not called with this method."""

    status, code = 405, "method_not_allowed"

    def __init__(self, *methods: str) -> None:
        super().__init__(
            _("Call this address with %(methods)s.") % {"methods": ", ".join(methods)}, allow=", ".join(methods)
        )


class Conflict(DomainError):
    """The same thing is being done right now, or was done differently before."""

    status, code = 409, "conflict"


class TooLarge(DomainError):
    """More bytes than are taken."""

    status, code = 413, "too_large"


class Unavailable(DomainError):
    """Something this needs is away for the moment; nothing was changed."""

    status, code = 503, "unavailable"
