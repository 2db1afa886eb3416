"""The matrix: how each person hears of each kind of thing, on each brand. Behind the bell, by mail at once, or in a digest.

What is urgent comes by both ways at once, whatever stands here, and so does what is about signing in.
"""

from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext_lazy

from events.models import NoticePreference, Notification
from lib import clock
from lib.db import Principal
from lib.errors import Invalid

Type, Digest = Notification.Type, NoticePreference.Digest
AT_ONCE, NEVER = "at_once", "never"
BY_MAIL = {
    AT_ONCE: _("Mail at once"),
    Digest.DAILY.value: _("Collected, every day at 8:00"),
    Digest.WEEKLY.value: _("Collected, on Mondays at 8:00"),
    NEVER: _("No mail"),
}


@dataclass(frozen=True, slots=True)
class Kind:
    """What a person may choose for.

    mail        as it is until they choose
    many        the title of a notice that tells of several, with %(count)s in it; "" = each is told by itself
    for_admins  of what concerns those who run the brand alone
    """

    name: str | Promise
    mail: str = AT_ONCE
    many: Any = ""
    for_admins: bool = False


KINDS: dict[str, Kind] = {
    Type.USAGE_LIMIT: Kind(_("A limit comes near or is reached")),
    Type.BILLING_UPDATE: Kind(_("Plan and payments")),
    Type.KEY_UPDATE: Kind(
        _("A key of yours is revoked, or refused by its vendor"),
        many=ngettext_lazy(
            "%(count)s key of yours stopped working", "%(count)s keys of yours stopped working", "count"
        ),
    ),
    Type.SYSTEM: Kind(_("Work that ran in the background is done")),
    Type.NEW_LEAD: Kind(
        _("A visitor left an address"),
        many=ngettext_lazy("%(count)s new lead", "%(count)s new leads", "count"),
        for_admins=True,
    ),
    Type.NEW_MESSAGE: Kind(
        _("A visitor writes to you"),
        many=ngettext_lazy("%(count)s new message", "%(count)s new messages", "count"),
        for_admins=True,
    ),
    Type.NEW_CONVERSATION: Kind(
        _("A visitor begins a conversation"),
        mail=NEVER,
        many=ngettext_lazy("%(count)s new conversation", "%(count)s new conversations", "count"),
        for_admins=True,
    ),
}


@dataclass(frozen=True, slots=True)
class Ways:
    """How a notice comes. `mail` is one of BY_MAIL."""

    in_app: bool
    mail: str


def ways(kind: str, row: NoticePreference | None) -> Ways:
    """What a person chose, or what holds for everybody."""
    if row is None:
        return Ways(in_app=True, mail=KINDS[kind].mail if kind in KINDS else AT_ONCE)
    return Ways(row.in_app, (row.digest or AT_ONCE) if row.by_mail else NEVER)


def wanted(notice: Notification) -> Ways:
    """The ways of this very notice. In service scope."""
    if notice.priority == Notification.Priority.URGENT or notice.type not in KINDS:
        return Ways(in_app=True, mail=AT_ONCE)
    rows = NoticePreference.objects.filter(brand_id=notice.brand_id, owner_id=notice.owner_id, type=notice.type)
    return ways(notice.type, rows.first())


def matrix(principal: Principal, *, runs_the_brand: bool) -> list[dict[str, Any]]:
    """Every kind that this person may choose for, as it is now. Inside the person's scope."""
    rows = NoticePreference.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    chosen = {row.type: row for row in rows}
    return [
        {"kind": str(kind), "name": of.name, "ways": ways(kind, chosen.get(kind))}
        for kind, of in KINDS.items()
        if runs_the_brand or not of.for_admins
    ]


def choose(principal: Principal, kind: str, *, in_app: bool, mail: str) -> None:
    """By which ways one kind comes to this person on this brand. A digest begins with what happens from now on.

    In a scope that may write this person's rows. Raises Invalid for what nobody can choose.
    """
    if kind not in KINDS or mail not in BY_MAIL:
        raise Invalid
    digest = mail if mail in Digest.values else ""
    row, _is_new = NoticePreference.objects.get_or_create(
        brand_id=principal.brand_id, owner_id=principal.owner_id, type=kind
    )
    if digest and not (row.digest and row.by_mail):
        row.digested_until = clock.now()
    row.in_app, row.by_mail = in_app, mail != NEVER
    if row.by_mail:  # else it is kept, for who changes their mind
        row.digest = digest
    row.save(update_fields=["in_app", "by_mail", "digest", "digested_until"])
