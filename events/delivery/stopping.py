"""No more of this: one click in a mail, without a log-in (RFC 8058). The address is signed and says which kind, for whom.

Only for what its reader may choose (events.choices); what is urgent, or about signing in, comes in any case.
"""

from collections.abc import Callable
from dataclasses import dataclass
from uuid import UUID

from django.core import signing
from django.urls import reverse

from accounts import brands
from accounts.models import Brand, User
from events import choices
from events.models import EmailLog, NoticePreference
from lib.db import SERVICE, Principal, scope

SALT = "chatsite.mail.stop"
DIGEST = "digest"  # every kind that is collected


@dataclass(frozen=True, slots=True)
class Stop:
    brand_id: UUID
    user_id: UUID
    kind: str  # of choices.KINDS, or DIGEST

    @property
    def name(self) -> str:
        return "" if self.kind == DIGEST else str(choices.KINDS[self.kind].name)


def link(mail: EmailLog) -> str:
    """The address that stops mails like this one; "" where there is nothing to choose."""
    kind = mail.template_data.get("stops")
    if not kind or mail.user_id is None or mail.brand is None:
        return ""
    token = signing.dumps([mail.brand.pk.hex, mail.user_id.hex, kind], salt=SALT)
    return brands.address(mail.brand, reverse("stop-mails", args=[token]))


def read(token: str, brand: Brand) -> Stop | None:
    """What an address stops. None when it is not ours, or another brand's."""
    try:
        brand_id, user_id, kind = signing.loads(token, salt=SALT)
    except signing.BadSignature:
        return None
    if UUID(brand_id) != brand.pk or (kind != DIGEST and kind not in choices.KINDS):
        return None
    return Stop(UUID(brand_id), UUID(user_id), kind)


def stop(asked: Stop) -> None:
    """Send no more of it by mail; the bell goes on as it does. A repeat changes nothing."""
    _change(asked, lambda row: choices.NEVER)


def take_back(asked: Stop) -> None:
    """Undo stop(): at once, or collected as it was."""
    _change(asked, lambda row: (row and row.digest) or choices.AT_ONCE)


def _change(asked: Stop, mail: Callable[[NoticePreference | None], str]) -> None:
    person = Principal("app_user", asked.brand_id, asked.user_id)
    with scope(SERVICE):
        if not User.objects.filter(pk=asked.user_id, is_active=True).exists():
            return
        rows = NoticePreference.objects.filter(brand_id=asked.brand_id, owner_id=asked.user_id)
        chosen = {row.type: row for row in rows}
        kinds = [kind for kind in chosen if chosen[kind].digest] if asked.kind == DIGEST else [asked.kind]
        for kind in kinds:
            row = chosen.get(kind)
            choices.choose(person, kind, in_app=choices.ways(kind, row).in_app, mail=mail(row))
