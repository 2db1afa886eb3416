from uuid import UUID

from lib.errors import DomainError


class QuotaExceeded(DomainError):
    """There is not enough left; nothing was held and nothing is charged.

    extra: reason (stable code), meter, limit, left, wanted, resets_at (ISO, or null), requires_payment, ways
    """

    status, code = 402, "quota_exceeded"
    bucket_id: UUID | None = None  # of the window that has too little; None = there is no plan


class AnonymousLimit(QuotaExceeded):
    """Nothing more can be asked here without an account (S4 `AnonymousLimitReachedError`)."""

    code = "anonymous_limit"


class TooManyRunning(DomainError):
    """As many answers are running as may at once; nothing was held and nothing is charged.

    extra: reason (stable code), limit, retry_after (seconds), requires_payment, ways
    """

    status, code = 429, "too_many_running"
