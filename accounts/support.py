"""Leave for staff to read what a brand's members said: one person, one brand, a reason, and an end."""

from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import QuerySet

from accounts.models import SupportGrant
from lib import clock

LONGEST = timedelta(days=7)


def grants_in_force(staff_id: UUID, now: datetime | None = None) -> QuerySet[SupportGrant]:
    return SupportGrant.objects.filter(staff_id=staff_id, revoked_at=None, expires_at__gt=now or clock.now())
