"""How many calls may be made: of a key in a minute and a day, of a person in a minute. Decided before a call does anything.

One script in Redis looks at all counters of a call and takes it from all or from none, so that many at once are let through
exactly to the number. A minute is the clock's, a day is the brand's own. While Redis is away each process counts for itself.

The same script notes the call for its key's totals. Once a minute these are added to the rows in one batch (`fold`), each
batch once, however often it is tried: totals are a minute late, and lack only what Redis itself lost with its memory.
"""

import functools
import logging
import threading
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.utils.translation import gettext as _
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from lib.db import serve
from lib.errors import DomainError
from lib.figures import grouped
from lib.windows import WindowKind, window

log = logging.getLogger(__name__)

PATIENCE_S = 0.5  # a Redis that takes longer is away
AGAIN_S = 2.0  # after it was away
AWAY = (RedisError, OSError)
MOST_COUNTERS = 50_000  # in this process's memory
NOTED, FOLDING, BATCH = "chatsite:calls-of-keys", "chatsite:calls-of-keys:folding", "batch"

# KEYS: the counters, then the hash of notes. ARGV: for each counter its limit and the seconds it is kept; then the key's id
# (or ""), the calls to note and the time. Gives the number of the first counter that is full (0: taken), and what each says.
TAKE = """
local n, said, full = #KEYS - 1, {0}, 0
for i = 1, n do
  said[i + 1] = tonumber(redis.call('GET', KEYS[i]) or '0')
  if full == 0 and said[i + 1] >= tonumber(ARGV[2 * i - 1]) then full = i end
end
said[1] = full
if full == 0 then
  for i = 1, n do
    said[i + 1] = redis.call('INCR', KEYS[i])
    if said[i + 1] == 1 then redis.call('EXPIRE', KEYS[i], ARGV[2 * i]) end
  end
  local key = ARGV[2 * n + 1]
  if key ~= '' then
    redis.call('HINCRBY', KEYS[n + 1], key, ARGV[2 * n + 2])
    redis.call('HSET', KEYS[n + 1], key .. ':at', ARGV[2 * n + 3])
  end
end
return said
"""
# What was noted becomes a batch with a name, unless one is there that nobody finished.
BEGIN_FOLD = """
if redis.call('EXISTS', KEYS[2]) == 0 then
  if redis.call('EXISTS', KEYS[1]) == 0 then return {} end
  redis.call('RENAME', KEYS[1], KEYS[2])
  redis.call('HSET', KEYS[2], 'batch', ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
END_FOLD = "if redis.call('HGET', KEYS[1], 'batch') == ARGV[1] then redis.call('DEL', KEYS[1]) end"
FOLD = """
update accounts_apikey k
set total_requests = total_requests + v.calls, last_used_at = greatest(last_used_at, v.used_at), folded_as = %(batch)s
from unnest(%(ids)s::uuid[], %(calls)s::bigint[], %(used)s::timestamptz[]) v (id, calls, used_at)
where k.id = v.id and k.folded_as is distinct from %(batch)s
returning k.id
"""


class TooManyCalls(DomainError):
    """Refused before anything was done; `retry_after` and `resets_at` say when the next one is let through."""

    status, code = 429, "rate_limit_exceeded"


@dataclass(frozen=True, slots=True)
class Limit:
    """At most `most` calls under this counter until `resets_at` (seconds since 1970)."""

    counter: str
    most: int
    resets_at: int
    window_s: int


class Allowance(NamedTuple):
    """One limit after a call was counted, for the headers of its answer."""

    limit: Limit
    left: int


_local: dict[str, tuple[int, int]] = {}  # counter -> (calls, when it is over), while Redis is away
_owed: Counter[str] = Counter()  # calls that were let through meanwhile and are not noted yet
_lock = threading.Lock()
_again_at = 0.0


def of_key(
    *, counted_as: UUID, per_minute: int, per_day: int, zone: str, person: tuple[UUID, UUID], per_person: int | None
) -> list[Limit]:
    """The limits of a call with a key: its family's own two, and what its person's plan says of all calls together."""
    now = time.time()
    day = window(WindowKind.DAY, datetime.fromtimestamp(now, UTC), zone=zone)
    opens, closes = int(day.opens_at.timestamp()), int(cast(datetime, day.closes_at).timestamp())
    limits = [
        _of_minute(f"key:{counted_as}", per_minute, now),
        Limit(f"key:{counted_as}:d{opens}", per_day, closes, closes - opens),
    ]
    return limits if per_person is None else [*limits, of_person(*person, per_person)]


def of_person(brand_id: UUID, user_id: UUID, most: int) -> Limit:
    """What a member's plan says of their questions and of the calls of all their keys together."""
    return _of_minute(f"person:{brand_id}:{user_id}", most, time.time())


def of_network(name: UUID, most: int) -> Limit:
    return _of_minute(f"network:{name}", most, time.time())


def _of_minute(counter: str, most: int, now: float) -> Limit:
    minute = int(now) // 60
    return Limit(f"{counter}:m{minute}", most, (minute + 1) * 60, 60)


def count(limits: Sequence[Limit], *, key_id: UUID | None = None) -> tuple[list[Allowance], Limit | None]:
    """Take one call from all of these, or from none. Gives what is left of each, and the one that is full, if one is.

    key_id  whose totals it is noted for
    """
    now = int(time.time())
    key = str(key_id) if key_id else ""
    owed = _owed.pop(key, 0) if key else 0
    said = None
    if time.monotonic() >= _again_at:
        counters = [f"chatsite:calls:{limit.counter}" for limit in limits]
        given: list[Any] = [part for limit in limits for part in (limit.most, max(1, limit.resets_at - now + 60))]
        try:
            said = _take()(keys=[*counters, NOTED], args=[*given, key, 1 + owed, now])
        except AWAY as error:
            _lost_touch(error)
    if said is None:
        said = _count_here(limits, now)
        owed += said[0] == 0
    elif said[0] == 0:
        owed = 0
    if key and owed:
        _owed[key] += owed
    left = [
        Allowance(limit, max(0, limit.most - calls)) for limit, calls in zip(limits, cast(Any, said)[1:], strict=True)
    ]
    return left, limits[said[0] - 1] if said[0] else None


def refuse(full: Limit, whose: str) -> TooManyCalls:
    """The refusal for a limit that is full. `whose` says in a word whose it is: key, person or network."""
    wait = max(1, full.resets_at - int(time.time()))
    words = {
        "key": "This API key may make %(most)s calls %(window)s, and has. Nothing was done. Try again in %(wait)s s.",
        "person": _(
            "Your plan lets you ask %(most)s times a minute, with all your keys together, and you have. Nothing was "
            "charged and your text is kept. Try again in %(wait)s seconds."
        ),
        "network": "Too many calls with keys that are not valid came from your network. Try again in %(wait)s s.",
    }
    told = {
        "most": grouped(full.most),
        "window": "a minute" if full.window_s == 60 else "a day",
        "wait": wait,
    }
    resets_at = datetime.fromtimestamp(full.resets_at, UTC).isoformat()
    return TooManyCalls(words[whose] % told, retry_after=wait, resets_at=resets_at, limit=full.most)


def calls_today(keys: Iterable[tuple[UUID, str]]) -> dict[UUID, int] | None:
    """How many calls were counted in the brand's day under each (family, zone); None: Redis is away and nobody knows."""
    asked = list(keys)
    names = []
    for family, zone in asked:
        today = window(WindowKind.DAY, datetime.fromtimestamp(time.time(), UTC), zone=zone)
        opens = int(today.opens_at.timestamp())
        names.append(f"chatsite:calls:key:{family}:d{opens}")
    try:
        found = cast(list[bytes | None], _redis().mget(names)) if names else []
    except AWAY:
        return None
    return {family: int(calls or 0) for (family, _zone), calls in zip(asked, found, strict=True)}


def fold() -> int:
    """Add the calls that were noted to the totals of their keys, as the service. Returns how many keys had some.

    A batch that was added and not thrown away, because its worker died, is met again and changes nothing.
    """
    batch: dict[bytes, bytes] = _pairs(_redis().eval(BEGIN_FOLD, 2, NOTED, FOLDING, str(uuid4())))
    if not batch:
        return 0
    name = batch.pop(BATCH.encode()).decode()
    calls = {key.decode(): int(n) for key, n in batch.items() if not key.endswith(b":at")}
    used = [datetime.fromtimestamp(int(batch.get(f"{key}:at".encode(), 0)), UTC) for key in calls]
    names = {"batch": UUID(name), "ids": list(map(UUID, calls)), "calls": list(calls.values()), "used": used}
    folded = serve((FOLD, names))[0]
    _redis().eval(END_FOLD, 1, FOLDING, name)
    return len(folded)


def headers(allowances: Sequence[Allowance], path: str) -> Mapping[str, str]:
    """What an answer says of the limits: of the one that has least left, under the names that its door's clients read."""
    if not allowances:
        return {}
    limit, left = min(allowances, key=lambda one: (one.left, one.limit.resets_at))
    wait = max(0, limit.resets_at - int(time.time()))
    if path.startswith("/v1/messages"):
        resets_at = f"{datetime.fromtimestamp(limit.resets_at, UTC):%Y-%m-%dT%H:%M:%SZ}"
        named = {"limit": limit.most, "remaining": left, "reset": resets_at}
        return {f"anthropic-ratelimit-requests-{name}": str(value) for name, value in named.items()}
    if path.startswith("/v1/"):
        named = {"limit": limit.most, "remaining": left, "reset": f"{wait}s"}
        return {f"x-ratelimit-{name}-requests": str(value) for name, value in named.items()}
    policy = ", ".join(f"{one.limit.most};w={one.limit.window_s}" for one in allowances)
    named = {"Limit": limit.most, "Remaining": left, "Reset": wait, "Policy": policy}
    return {f"RateLimit-{name}": str(value) for name, value in named.items()}


def forget() -> None:
    """Count anew what this process counted by itself, and ask Redis again; for tests."""
    global _again_at
    _local.clear()
    _owed.clear()
    _redis.cache_clear()
    _take.cache_clear()
    _again_at = 0.0


def _count_here(limits: Sequence[Limit], now: int) -> list[int]:
    with _lock:
        if len(_local) > MOST_COUNTERS:
            for counter in [name for name, (_calls, over_at) in _local.items() if over_at <= now]:
                del _local[counter]
        said = [_local.get(limit.counter, (0, 0))[0] for limit in limits]
        full = next((number for number, limit in enumerate(limits, 1) if said[number - 1] >= limit.most), 0)
        if not full:
            said = [calls + 1 for calls in said]
            _local.update({limit.counter: (calls, limit.resets_at) for limit, calls in zip(limits, said, strict=True)})
        return [full, *said]


def _lost_touch(error: Exception) -> None:
    global _again_at
    if _again_at == 0.0 or time.monotonic() - _again_at > AGAIN_S:
        log.warning("Redis is away (%s): each process counts calls by itself.", error)
    _again_at = time.monotonic() + AGAIN_S


@functools.cache
def _redis() -> "Redis":
    return Redis.from_url(
        settings.REDIS_URL,
        protocol=2,
        socket_timeout=PATIENCE_S,
        socket_connect_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )


@functools.cache
def _take() -> Any:
    return _redis().register_script(TAKE)


def _pairs(flat: Any) -> dict[bytes, bytes]:
    return dict(zip(flat[::2], flat[1::2], strict=True))
