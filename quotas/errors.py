from lib.errors import DomainError


class QuotaExceeded(DomainError):
    """There is not enough left; nothing was held and nothing is charged.

    extra: reason (stable code), meter, limit, left, wanted, resets_at (ISO, or null), requires_payment
    """

    status, code = 402, "quota_exceeded"


class TooManyRunning(DomainError):
    """As many answers are running as may at once; nothing was held and nothing is charged.

    extra: reason (stable code), limit, retry_after (seconds)
    """

    status, code = 429, "too_many_running"
