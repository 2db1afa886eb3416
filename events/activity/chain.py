"""The proof of the audit log: every line, where it was asked from, every link and every head, against each other.

The database links each line to the one before when it is committed: digest = SHA-256(line, number, digest before). So a
line that was changed, removed, put in or put elsewhere is found and named, and so is an end that was cut off. Whoever holds
the database's owner could write a whole new chain: for that, heads are noted outside of it (`log_heads`, `check_activity
--json`), and `refuted()` holds the chain against such notes. docs/activity.md.
"""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID

from accounts.models import Brand
from events.models import Activity, ActivityHead, ActivityLink
from lib import clock
from lib.db import NOBODY, send
from lib.ids import first_at

log = logging.getLogger(__name__)

# One statement, so that it sees one moment, however much is written meanwhile.
PROOF = """
with link as (
    select l.*, lag(l.digest, 1, ''::bytea) over place as before, lag(l.number, 1, 0::bigint) over place + 1 as wanted
    from events_activitylink l window place as (partition by l.chain order by l.number)
), last as (
    select distinct on (l.chain) l.chain, l.number, l.digest from events_activitylink l
    order by l.chain, l.number desc
)
select chain, number, id, 'gap' as what from link where number <> wanted
union all
select l.chain, l.number, l.id, case when a.id is null then 'removed' else 'changed' end
from link l left join events_activity a on a.id = l.id
where a.id is null or coalesce(a.brand_id, %(house)s) <> l.chain
      or lookup.line_digest(a, l.number, l.before) <> l.digest
union all
select coalesce(a.brand_id, %(house)s), null, a.id, 'unlinked'
from events_activity a where not exists (select from events_activitylink l where l.id = a.id)
union all
select coalesce(a.brand_id, %(house)s), null, a.id, case when o.id is null then 'origin removed' else 'origin changed' end
from events_activity a left join events_activityorigin o on o.id = a.id
where a.origin is distinct from lookup.origin_digest(o.salt, o.owner_id, o.ip_address, o.user_agent)
      and not (o.id is null and exists (
          select from events_activity e where e.action = 'person.erased' and e.resource_id = a.actor_id))
union all
select o.brand_id, null, o.id, 'origin of nothing'
from events_activityorigin o where not exists (select from events_activity a where a.id = o.id)
union all
select coalesce(h.id, l.chain), coalesce(l.number, 0), null,
       case when h.id is null then 'no head' else 'cut off' end
from events_activityhead h full join last l on l.chain = h.id
where (h.length, h.digest) is distinct from (l.number, l.digest)
"""
WORDS = {
    "gap": "a link before this one is gone",
    "removed": "the line of this link is gone",
    "changed": "the line is not what was written, or stands where it was not",
    "unlinked": "a line that no link holds: it was put in by hand",
    "origin changed": "where it was asked from is not what was written",
    "origin removed": "where it was asked from is gone, though its person was not erased",
    "origin of nothing": "where a line was asked from that is not there",
    "no head": "the head of this chain is gone",
    "cut off": "the chain ends elsewhere than its head says: its end was cut off, or its head changed",
    "refuted": "the chain is not the one that was noted: it was written anew, or its end was cut off",
}


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is not as it was written. `number` counts the lines of a brand from 1; `line` is an Activity's id."""

    brand: str  # its slug; "house" for our own
    what: str  # a key of WORDS
    number: int | None = None
    line: UUID | None = None

    def __str__(self) -> str:
        where = f"{self.brand}{f', number {self.number}' if self.number is not None else ''}"
        return f"{where}{f', line {self.line}' if self.line else ''}: {WORDS[self.what]}"


def faults() -> list[Fault]:
    """Prove every chain. In the service scope; reads every line."""
    (found,) = send((PROOF, {"house": NOBODY}))
    names = _names(row.chain for row in found)
    wrong = [Fault(names[row.chain], row.what, row.number, row.id) for row in found]
    return sorted(wrong, key=lambda fault: (fault.brand, fault.number or 0, str(fault.line)))


def counts() -> dict[str, int]:
    return {"chains": ActivityHead.objects.count(), "lines": Activity.objects.count()}


def heads() -> list[dict[str, Any]]:
    """How long each chain is and how it ends: worth keeping where nobody who could write the database can."""
    rows = list(ActivityHead.objects.order_by("id"))
    names = _names(row.pk for row in rows)
    return [
        {"chain": str(row.pk), "brand": names[row.pk], "length": row.length, "digest": bytes(row.digest).hex()}
        for row in rows
    ]


def refuted(noted: Iterable[dict[str, Any]]) -> list[Fault]:
    """Which of the heads noted earlier are no links of the chains that stand here now. In the service scope."""
    wrong = []
    for head in noted:
        chain, number = UUID(head["chain"]), int(head["length"])
        found = ActivityLink.objects.filter(chain=chain, number=number).values_list("digest", flat=True).first()
        if found is None or bytes(found).hex() != head["digest"]:
            wrong.append(Fault(_names([chain])[chain], "refuted", number))
    return wrong


def log_heads(*, since: timedelta = timedelta(hours=25)) -> int:
    """Write the heads of the chains that grew into the log, which is kept elsewhere. Returns how many."""
    grown = set(
        Activity.objects.filter(pk__gte=first_at(clock.now() - since)).values_list("brand_id", flat=True).distinct()
    )
    rows = ActivityHead.objects.filter(pk__in=[brand_id or NOBODY for brand_id in grown])
    for row in rows:
        told = {"brand": str(row.pk), "count": row.length, "value": bytes(row.digest).hex()}
        log.info("head of the audit log", extra=told)
    return len(rows)


def _names(chains: Iterable[UUID | None]) -> dict[UUID | None, str]:
    wanted = {chain for chain in chains if chain is not None}
    known = dict(Brand.objects.filter(pk__in=wanted).values_list("pk", "slug"))
    return {None: "house", **{chain: known.get(chain, str(chain)) for chain in wanted}, NOBODY: "house"}
