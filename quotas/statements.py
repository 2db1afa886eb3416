"""The two statements of the hot path, and how they are run: one round trip, one short transaction, prepared.

PostgreSQL takes longer to plan RESERVE than to run it, so it is prepared once per connection. Behind a pooler that
keeps no prepared statements, OPTIONS {"prepare_threshold": None} switches that off.
"""

from collections.abc import Mapping
from typing import Any

import psycopg
from django.db import connections
from psycopg.rows import namedtuple_row

from lib.db import ENTER_SERVICE, SERVICE, current_alias, scope

# One statement decides and takes. `room` locks the buckets in the fixed order and sees them as they are after the wait,
# `verdict` is all or nothing, `taken` and `held` change only what was just locked. While a window is still to be opened
# nothing is locked at all. A hold's id is made of its reservation and bucket: Entry.hold_id then says "once" for good.
RESERVE = """
with want (kind, owner_id, meter, amount) as (
    select * from unnest(%(kinds)s::text[], %(owners)s::uuid[], %(meters)s::text[], %(amounts)s::bigint[])
), line as materialized (
    select w.meter, w.amount, a.kind, a.id as account_id, b.id as bucket_id
    from want w
    join quotas_account a on a.brand_id = %(brand)s and a.kind = w.kind and a.owner_id = w.owner_id
    join quotas_entitlement e on e.account_id = a.id and e.meter = w.meter and e.ends_at is null
    left join lateral (
        select id from quotas_bucket
        where account_id = a.id and meter = w.meter and pocket = 'plan' and "window" = e."window"
            and opens_at <= coalesce(%(now)s, now()) and (closes_at is null or closes_at > coalesce(%(now)s, now()))
        order by opens_at desc limit 1
    ) b on true
), room as materialized (
    select b.id, b.owner_id, line.meter, line.amount, b."limit", b.used + b.held as taken, b.closes_at,
           b."limit" is null or b.used + b.held + line.amount <= b."limit" as enough
    from line join quotas_bucket b on b.id = line.bucket_id
    where not exists (select from line where bucket_id is null)
    order by b.lock_rank, b.id
    for update of b
), verdict as (
    select coalesce(bool_and(enough), true) and count(*) = (select count(*) from line)
           and exists (select from line where kind = %(asker)s)
           and not exists (select from quotas_hold where reservation = %(reservation)s)
           and not exists (select from quotas_entry where reservation = %(reservation)s) as go
    from room
), taken as (
    update quotas_bucket b set held = b.held + room.amount
    from room, verdict where b.id = room.id and verdict.go
    returning b.id
), held as (
    insert into quotas_hold (id, brand_id, owner_id, reservation, bucket_id, meter, amount, created_at, expires_at)
    select md5(%(reservation)s::text || room.id)::uuid, %(brand)s, room.owner_id, %(reservation)s, room.id, room.meter,
           room.amount, coalesce(%(now)s, now()), coalesce(%(now)s, now()) + %(hold_for)s
    from room join taken on taken.id = room.id
)
select verdict.go, line.kind, line.account_id, line.meter, line.amount, line.bucket_id,
       room."limit", room.taken, room.closes_at, room.enough
from verdict left join line on true left join room on room.id = line.bucket_id
"""

SETTLE = """
with open as (
    select h.id, h.bucket_id, h.brand_id, h.owner_id, h.meter, h.amount,
           least(coalesce(c.amount, 0), h.amount) as charged, coalesce(c.cost, 0) as cost
    from quotas_hold h
    left join unnest(%(meters)s::text[], %(amounts)s::bigint[], %(costs)s::bigint[]) c (meter, amount, cost)
        on c.meter = h.meter
    where h.reservation = %(reservation)s
    for update of h
), locked as materialized (
    select b.id from quotas_bucket b join open on open.bucket_id = b.id order by b.lock_rank, b.id for update of b
), gone as (
    delete from quotas_hold using open, locked where quotas_hold.id = open.id and locked.id = open.bucket_id
    returning open.id as hold_id, open.bucket_id, open.brand_id, open.owner_id, open.amount, open.charged, open.cost
), written as (
    insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation, hold_id,
                              cost_microusd, reason, created_at)
    select gen_random_uuid(), brand_id, owner_id, bucket_id, 'use', 0, charged, %(reservation)s, hold_id,
           cost, %(reason)s, coalesce(%(now)s, now()) from gone
    on conflict (hold_id) do nothing
    returning hold_id, used_delta
), changed as (
    update quotas_bucket b set held = b.held - gone.amount, used = b.used + coalesce(written.used_delta, 0)
    from gone left join written on written.hold_id = gone.hold_id where b.id = gone.bucket_id
)
select hold_id from gone
"""


def run(sql: str, names: Mapping[str, Any]) -> list[Any]:
    """Run one statement as the service: in the caller's service scope, or alone and committed when this returns."""
    service = connections["service"]
    if current_alias() == "service" and service.in_atomic_block:
        return _fetch(service, sql, names)
    if service.in_atomic_block or connections[current_alias()].in_atomic_block:
        with scope(SERVICE):  # a test's transaction; in any other scope this refuses
            return _fetch(service, sql, names)
    service.ensure_connection()
    # In autocommit, what one pipeline sends is one transaction, so the role lasts exactly as long as the statement.
    with service.wrap_database_errors, service.connection.pipeline():
        _prepared(service).execute(ENTER_SERVICE)
        return _fetch(service, sql, names)


def _fetch(service: Any, sql: str, names: Mapping[str, Any]) -> list[Any]:
    cursor = _prepared(service)
    cursor.execute(sql, names)
    rows: list[Any] = cursor.fetchall()
    return rows


def _prepared(service: Any) -> Any:
    """A cursor that prepares what it runs; Django's own bind on the client's side and never do."""
    service.connection.prepare_threshold = service.settings_dict["OPTIONS"].get("prepare_threshold", 0)
    return service._prepare_cursor(psycopg.Cursor(service.connection, row_factory=namedtuple_row))
