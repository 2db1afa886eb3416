"""O-02: what counts in the cache goes on counting while Redis is away."""

import os
from uuid import uuid4

import pytest
from django.core.cache import caches
from django.test import Client

from chatsite import settings as product

NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(params=["there", "away"])
def cache(request, settings):
    location = os.environ["REDIS_URL"] if request.param == "there" else NOWHERE
    fresh = {"LOCATION": location, "KEY_PREFIX": f"test-{uuid4()}", "TIMEOUT": 60}
    settings.CACHES = {"default": {**product.CACHES["default"], **fresh}}
    return caches["default"]


def test_the_cache_works_with_redis_and_without(cache):
    assert cache.add("a", 1)
    assert not cache.add("a", 2)
    assert cache.incr("a") == cache.get("a") == 2
    cache.set_many({"b": [1], "c": None})
    assert cache.get_many(["a", "b", "x"]) == {"a": 2, "b": [1]}
    assert cache.has_key("b")
    assert "x" not in cache
    cache.delete_many(["a", "b"])
    assert cache.get("a", "gone") == "gone"


def test_guessing_a_password_is_limited_with_redis_and_without(cache, settings, world):
    settings.ACCOUNT_RATE_LIMITS = {"login_failed": "3/m/key"}
    client = Client(headers={"host": "act.localhost"})

    told = []
    for _ in range(5):
        answer = client.post("/account/login/", {"login": "bob@example.com", "password": "not this one"})
        assert answer.status_code in (200, 429)
        told.append(b"Too many" in answer.content or answer.status_code == 429)

    assert told == [False, False, False, True, True]
