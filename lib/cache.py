"""The cache that limits on guessing count in."""

from collections.abc import Callable
from typing import Any

from django.core.cache.backends.locmem import LocMemCache
from django.core.cache.backends.redis import RedisCache
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

PATIENCE_S = 1.0


class RedisElseMemory(RedisCache):
    """Redis, and while it is away this process's own memory: limits then hold for each process, and nobody is locked out."""

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        impatient = {
            "socket_timeout": PATIENCE_S,
            "socket_connect_timeout": PATIENCE_S,
            "retry": Retry(NoBackoff(), 0),
        }
        super().__init__(server, {**params, "OPTIONS": {**impatient, **params.get("OPTIONS", {})}})
        self._memory = LocMemCache("while Redis is away", params)


def _else_in_memory(name: str) -> Callable[..., Any]:
    in_redis = getattr(RedisCache, name)

    def method(self: RedisElseMemory, *args: Any, **kwargs: Any) -> Any:
        try:
            return in_redis(self, *args, **kwargs)
        except (RedisError, OSError):
            return getattr(self._memory, name)(*args, **kwargs)

    return method


for _name in (
    "add",
    "get",
    "set",
    "touch",
    "delete",
    "get_many",
    "has_key",
    "incr",
    "set_many",
    "delete_many",
    "clear",
):
    setattr(RedisElseMemory, _name, _else_in_memory(_name))
