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

# Decide. `line`: which meters count, on each account, by the plan in force, with the bucket of the window that is open; a
# null bucket_id is a window that nobody has opened yet, or whose override is over. A cap counts the account's open
# reservations themselves, whichever window or meter they hold; the account's lock makes the count exact, and `limit` no
# dearer than the cap. `room`: the bucket that pays. That is the plan's; only where it has no room for the asker's unit, the
# packs and then overage are looked at, and the first with room for all of it pays alone. `verdict` is all or nothing.
DECIDE = """
with want (kind, owner_id, most, meter, amount) as (
    select * from unnest(%(kinds)s::text[], %(owners)s::uuid[], %(caps)s::int[], %(meters)s::text[], %(amounts)s::bigint[])
), line as materialized (
    select w.meter, w.amount, a.kind, a.id as account_id, b.id as bucket_id,
           coalesce((a.features ->> 'concurrent_turns')::int, w.most) as most,
           w.kind = %(asker)s and w.meter = coalesce(a.features ->> 'unit', 'queries') as is_unit,
           case when (a.features ->> 'overage_allowed')::boolean and (a.features ->> 'is_billable')::boolean
                   and (a.overage_on or (a.features ->> 'overage_by_default')::boolean) and a.arrears_microusd = 0
                then nullif((a.features ->> 'overage_price_microusd')::bigint, 0) end as price
    from want w
    join quotas_account a on a.brand_id = %(brand)s and a.kind = w.kind and a.owner_id = w.owner_id
    join quotas_entitlement e on e.account_id = a.id and e.meter = w.meter and e.ends_at is null
    left join quotas_entitlement ended on ended.account_id = a.id and ended.meter = w.meter
        and ended.overrides_until <= coalesce(%(now)s, now())
    left join lateral (
        select id from quotas_bucket
        where ended.id is null and account_id = a.id and meter = w.meter and pocket = 'plan' and "window" = e."window"
            and opens_at <= coalesce(%(now)s, now()) and (closes_at is null or closes_at > coalesce(%(now)s, now()))
        order by opens_at desc limit 1
    ) b on true
), plan as materialized (
    select b.id, b.owner_id, line.account_id, line.meter, line.amount, line.is_unit, line.price, b."limit",
           b.used + b.held as taken, b.closes_at,
           line.amount = 0 or b."limit" is null or b.used + b.held + line.amount <= b."limit" as enough,
           line.most > 0 and line.most <= (
               select count(*) from (
                   select distinct reservation from quotas_hold
                   where brand_id = %(brand)s and owner_id = b.owner_id limit line.most
               ) running
           ) as is_full
    from line join quotas_bucket b on b.id = line.bucket_id
    where not exists (select from line where bucket_id is null)
), room as materialized (
    select plan.*, beyond.cap, beyond.closes_at as cap_closes_at,
           coalesce(pack.id, case when beyond.enough then beyond.id end, plan.id) as pays_id,
           case when beyond.enough then plan.price else 1 end as rate,
           case when pack.id is not null then 'pack' when beyond.enough then 'overage' else 'plan' end as pocket,
           plan.enough or pack.id is not null or beyond.enough is true as pays,
           plan.is_unit and not plan.enough and plan.price is not null and pack.id is null and beyond.id is null
               as is_overage_shut
    from plan
    left join lateral (
        select b.id from quotas_bucket b
        where plan.is_unit and not plan.enough and b.account_id = plan.account_id and b.meter = plan.meter
            and b.pocket = 'pack' and (b.closes_at is null or b.closes_at > coalesce(%(now)s, now()))
            and b.used + b.held + plan.amount <= b."limit"
        order by b.closes_at nulls last, b.opens_at, b.id limit 1
    ) pack on true
    left join lateral (
        select b.id, b."limit" as cap, b.closes_at, plan.amount <= (b."limit" - b.used - b.held) / plan.price as enough
        from quotas_bucket b
        where plan.is_unit and not plan.enough and plan.price is not null and pack.id is null
            and b.account_id = plan.account_id and b.meter = 'overage_microusd' and b.pocket = 'overage'
            and b."window" = 'month' and b.opens_at <= coalesce(%(now)s, now())
            and b.closes_at > coalesce(%(now)s, now())
        order by b.opens_at desc limit 1
    ) beyond on true
), verdict as materialized (
    select coalesce(bool_and(room.pays and not room.is_full), true) and count(room.id) = (select count(*) from line)
           and exists (select from line where kind = %(asker)s) as fits
    from room
)"""
# What both say of it. Of the accounts themselves only a refusal needs to know.
_TOLD = """line.kind, line.account_id, line.meter, line.amount, line.bucket_id, line.most, line.is_unit, room."limit",
room.taken, room.closes_at, room.pays as enough, room.is_full, room.pocket, room.rate, room.is_overage_shut, room.cap,
room.cap_closes_at, a.features::json, a.plan_code, a.overage_on, a.arrears_microusd, a.overage_cap_microusd as own_cap"""

# Decide and take.
RESERVE = f"""
{DECIDE}, before as materialized (
    select exists (select from quotas_hold where reservation = %(reservation)s)
           or exists (select from quotas_entry where reservation = %(reservation)s) as is_made
), act as materialized (
    select before.is_made, not before.is_made and verdict.fits as go from before, verdict
), taken as (
    update quotas_bucket b set held = b.held + room.amount * room.rate
    from room, act where b.id = room.pays_id and act.go
    returning b.id
), held as (
    insert into quotas_hold (id, brand_id, owner_id, reservation, purpose, bucket_id, meter, amount, rate, own_key,
                             created_at, expires_at)
    select gen_random_uuid(), %(brand)s, room.owner_id, %(reservation)s, %(purpose)s, room.pays_id, room.meter,
           room.amount * room.rate, room.rate, %(own_key)s,
           coalesce(%(now)s, now()), coalesce(%(now)s, now()) + %(hold_for)s
    from room join taken on taken.id = room.pays_id
)
select act.go, act.is_made, {_TOLD}
from act left join line on true left join room on room.id = line.bucket_id
left join quotas_account a on not act.go and a.id = line.account_id
"""  # noqa: S608
# Decide and take nothing.
CHECK = f"""
{DECIDE}
select verdict.fits as go, b."window", b.used, b.held, {_TOLD}
from verdict left join line on true left join room on room.id = line.bucket_id
left join quotas_account a on a.id = line.account_id left join quotas_bucket b on b.id = line.bucket_id
order by line.meter
"""  # noqa: S608

# What a hold of `rate` charges is whole units. The excess of a limit that sank goes as the turns in flight end.
SETTLE = """
with open as (
    select h.id, h.bucket_id, h.brand_id, h.owner_id, h.meter, h.amount, h.rate, h.own_key,
           least(coalesce(c.amount, 0), h.amount / h.rate) * h.rate as charged, coalesce(c.cost, 0) as cost
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
    returning open.id as hold_id, open.bucket_id, open.brand_id, open.owner_id, open.amount, open.charged, open.cost,
              open.rate, open.own_key
), written as (
    insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation, hold_id,
                              rate, own_key, cost_microusd, reason, created_at)
    select gen_random_uuid(), brand_id, owner_id, bucket_id, 'use', 0, charged, %(reservation)s, hold_id,
           rate, own_key, cost, %(reason)s, coalesce(%(now)s, now()) from gone
), changed as (
    update quotas_bucket b
    set held = b.held - gone.amount, used = b.used + gone.charged,
        excess = greatest(0, least(b.excess, b.used + gone.charged + b.held - gone.amount - b."limit"))
    from gone where b.id = gone.bucket_id
)
select hold_id from gone
"""

# What stands behind the plan: the packs in the order in which they pay, and overage as it stands this month.
PACKS = """
select p.name, b.meter, b."limit", b.used, b.held, b.closes_at
from quotas_account a join quotas_bucket b on b.account_id = a.id and b.pocket = 'pack'
join quotas_pack p on p.bucket_id = b.id
where a.brand_id = %(brand)s and a.kind = %(asker)s and a.owner_id = %(asker_id)s and b."limit" > b.used + b.held
      and (b.closes_at is null or b.closes_at > coalesce(%(now)s, now()))
order by b.closes_at nulls last, b.opens_at, b.id
"""
BEYOND = """
select a.plan_name, a.features::json, a.overage_on, a.overage_cap_microusd as own_cap, a.arrears_microusd,
       b.used, b.held, b.closes_at
from quotas_account a left join lateral (
    select used, held, closes_at from quotas_bucket
    where account_id = a.id and meter = 'overage_microusd' and pocket = 'overage' and "window" = 'month'
        and opens_at <= coalesce(%(now)s, now()) and closes_at > coalesce(%(now)s, now())
    order by opens_at desc limit 1
) b on true
where a.brand_id = %(brand)s and a.kind = %(asker)s and a.owner_id = %(asker_id)s
"""
