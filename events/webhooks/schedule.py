"""When a delivery that failed is tried again (W-12)."""

import random
from datetime import datetime, timedelta

# Between an attempt and the next: ten attempts within 75 hours.
PAUSES = (timedelta(seconds=5), timedelta(minutes=5), *(timedelta(hours=h) for h in (0.5, 2, 5, 10, 14, 20, 24)))
MOST_RETRIES = len(PAUSES)
LONGEST_WISH = timedelta(hours=24)  # of a receiver who says Retry-After
GIVEN_UP_AFTER = timedelta(days=5)  # an endpoint that takes nothing for so long is switched off


def next_at(attempts: int, *, most_retries: int, now: datetime, wished: timedelta | None = None) -> datetime | None:
    """When to try again after so many attempts; None = no more.

    wished  what the receiver asked for: it is never asked sooner
    """
    if attempts > min(most_retries, MOST_RETRIES):
        return None
    pause = PAUSES[attempts - 1]
    if wished:
        pause = max(pause, min(wished, LONGEST_WISH))
    return now + pause * (1 + random.random() / 10)  # noqa: S311 - so that not all come back at once
