"""Who listens, and whether they still may: one statement for all of a process, when somebody comes and every few seconds."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from events.realtime.topics import Topic
from lib.db import ALLOWED, SERVICE, Principal, opening

LOOK = """
select lookup.standing(v.brand, v.owner) as standing, md5(u.password) as secret,
       v.session = '' or s.session_key is not null as session_holds,
       v.key is null or coalesce(k.is_active and (k.expires_at is null or k.expires_at > now())
           and (not k.is_brands or lookup.standing(v.brand, v.owner) in ('admin', 'owner')), false) as key_holds,
       coalesce(k.scopes, '{}')::text[] as scopes
from unnest(%(brands)s::uuid[], %(owners)s::uuid[], %(keys)s::uuid[], %(sessions)s::text[])
     with ordinality v (brand, owner, key, session, n)
left join accounts_apikey k on k.id = v.key
left join django_session s on s.session_key = v.session and s.expire_date > now()
left join accounts_user u on u.id = v.owner
order by v.n
"""


@dataclass(slots=True, eq=False)
class Listener:
    """Somebody who came in with a key, with a session, or as a visitor with neither.

    secret  a mark of the person's password when they came: who has changed it since has signed out everywhere
    """

    principal: Principal
    topics: list[Topic]
    session: str = ""
    secret: str | None = field(default=None, repr=False)


def unwelcome(listeners: Sequence[Listener]) -> list[Listener]:
    """Those who may not listen (any more): signed out, suspended, removed, no admin any more, key revoked or narrowed."""
    names = {
        "brands": [one.principal.brand_id for one in listeners],
        "owners": [one.principal.owner_id for one in listeners],
        "keys": [one.principal.key_id for one in listeners],
        "sessions": [one.session for one in listeners],
    }
    with opening(SERVICE, (LOOK, names)) as (rows,):
        return [one for one, row in zip(listeners, rows, strict=True) if not _is_welcome(one, row)]


def _is_welcome(one: Listener, row: Any) -> bool:
    one.secret = one.secret or row.secret
    return (
        row.key_holds
        and row.session_holds
        and one.secret == row.secret
        and all(row.standing in ALLOWED[topic.principal.role] for topic in one.topics)
        and (one.principal.key_id is None or all(topic.table.needs in row.scopes for topic in one.topics))
    )
