"""The statements of the hot path; lib.db.serve() runs them in one round trip and one short transaction, prepared.

PostgreSQL takes longer to plan RESERVE than to run it, so it is prepared once per connection.
"""

# Whoever changes a bucket holds its account's lock; accounts are locked in one order, the one that most requests share last.
# A statement of its own, because the next one then sees what the others left behind: an UPDATE that had to wait would
# first try its CHECK on the version of its old snapshot, and fail where a limit was raised or a hold was given back.
LOCK = """
select from unnest(%(asking)s::text[], %(askers)s::uuid[]) with ordinality w (kind, owner_id, rank)
join quotas_account a on a.brand_id = %(brand)s and a.kind = w.kind and a.owner_id = w.owner_id
order by w.rank for no key update of a
"""

# Decide and take. `line`: which buckets count for this turn, of the asker's account and the brand's, by the plan in force,
# in the window that is open; a null bucket_id is a window that nobody has opened yet. A cap counts the account's open
# reservations themselves, whichever window or meter they hold; the account's lock makes the count exact, and `limit` no
# dearer than the cap. `verdict` is all or nothing.
RESERVE = """
with want (kind, owner_id, most, meter, amount) as (
    select * from unnest(%(kinds)s::text[], %(owners)s::uuid[], %(caps)s::int[], %(meters)s::text[], %(amounts)s::bigint[])
), line as materialized (
    select w.meter, w.amount, a.kind, a.id as account_id, b.id as bucket_id,
           coalesce((a.features ->> 'concurrent_turns')::int, w.most) as most
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
           b."limit" is null or b.used + b.held + line.amount <= b."limit" as enough,
           line.most > 0 and line.most <= (
               select count(*) from (
                   select distinct reservation from quotas_hold
                   where brand_id = %(brand)s and owner_id = b.owner_id limit line.most
               ) running
           ) as is_full
    from line join quotas_bucket b on b.id = line.bucket_id
    where not exists (select from line where bucket_id is null)
), before as materialized (
    select exists (select from quotas_hold where reservation = %(reservation)s)
           or exists (select from quotas_entry where reservation = %(reservation)s) as is_made
), verdict as (
    select before.is_made, not before.is_made and coalesce(bool_and(room.enough and not room.is_full), true)
           and count(room.id) = (select count(*) from line) and exists (select from line where kind = %(asker)s) as go
    from before left join room on true group by before.is_made
), taken as (
    update quotas_bucket b set held = b.held + room.amount
    from room, verdict where b.id = room.id and verdict.go
    returning b.id
), held as (
    insert into quotas_hold (id, brand_id, owner_id, reservation, purpose, bucket_id, meter, amount,
                             created_at, expires_at)
    select gen_random_uuid(), %(brand)s, room.owner_id, %(reservation)s, %(purpose)s, room.id, room.meter, room.amount,
           coalesce(%(now)s, now()), coalesce(%(now)s, now()) + %(hold_for)s
    from room join taken on taken.id = room.id
)
select verdict.go, verdict.is_made, line.kind, line.account_id, line.meter, line.amount, line.bucket_id, line.most,
       room."limit", room.taken, room.closes_at, room.enough, room.is_full
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
    select open.id from open join quotas_bucket b on b.id = open.bucket_id join quotas_account a on a.id = b.account_id
    order by b.lock_rank, a.id for no key update of a
), gone as (
    delete from quotas_hold using open, locked where quotas_hold.id = open.id and locked.id = open.id
    returning open.id as hold_id, open.bucket_id, open.brand_id, open.owner_id, open.amount, open.charged, open.cost
), written as (
    insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation, hold_id,
                              cost_microusd, reason, created_at)
    select gen_random_uuid(), brand_id, owner_id, bucket_id, 'use', 0, charged, %(reservation)s, hold_id,
           cost, %(reason)s, coalesce(%(now)s, now()) from gone
), changed as (
    update quotas_bucket b set held = b.held - gone.amount, used = b.used + gone.charged
    from gone where b.id = gone.bucket_id
)
select hold_id from gone
"""
