"""Trying keys tells nothing: not by what is answered, not by how long it takes, and soon nobody listens. A-07

SOAK_GUESSES and SOAK_TIMED are the sizes of RELIABILITY's own run (10,000 and 5,000 each); a timing decides nothing here.
"""

import math
import os
import random
import secrets
import statistics
import time
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import guessing, keys, limits
from lib.db import SERVICE, scope
from lib.errors import NotAuthenticated
from tests import figures

GUESSES, TIMED = int(os.environ.get("SOAK_GUESSES", "150")), int(os.environ.get("SOAK_TIMED", "60"))
pytestmark = pytest.mark.timeout(3600)


@pytest.fixture(autouse=True)
def nobody_tried_before(monkeypatch):
    monkeypatch.setattr(limits, "PATIENCE_S", 30)  # how busy the machine is decides nothing
    limits.forget()
    guessing.forget()
    yield
    limits.forget()
    guessing.forget()


@pytest.fixture
def key(world):
    with scope(SERVICE):
        return keys.create(world.act, world.bob, name="bot", scopes=["chat"], per_minute=60)[1]


def wrong(prefix=""):
    return f"sk_{prefix or secrets.token_hex(6)}_{secrets.token_urlsafe(32)}"


def p_of_t_test(one, other):
    """Welch's, for samples large enough that t is normal: how likely two of the same kind differ as much by chance."""
    spread = math.sqrt(statistics.variance(one) / len(one) + statistics.variance(other) / len(other))
    return math.erfc(abs(statistics.fmean(one) - statistics.fmean(other)) / spread / math.sqrt(2))


def test_of_many_keys_that_are_tried_each_is_refused_and_few_are_looked_up(key, settings):
    """As many as the limit lets through have one indexed look-up each, all others none; whose key works goes on."""
    settings.FAILED_KEYS_PER_MINUTE = 60
    right, told, looked_up = key.split("_")[1], [], 0
    one, other = uuid4().bytes[:2]
    there = {"REMOTE_ADDR": f"10.{one}.{other}.9"}  # where nobody tried in this minute
    mine = Client(headers={"authorization": f"Bearer {key}", "host": "act.localhost"}, **there)
    assert mine.get("/v1/models").status_code == 200  # so that this process knows it
    began = time.monotonic()

    for number in range(GUESSES):
        client = Client(
            headers={"authorization": f"Bearer {wrong(right if number % 2 else '')}", "host": "act.localhost"}, **there
        )
        with CaptureQueriesContext(connections["default"]) as sent:
            told.append(client.get("/v1/models").status_code)
        looked_up += sum("lookup.api_key" in row["sql"] for row in sent)

    minutes = 1 + int(time.monotonic() - began) // 60
    assert mine.get("/v1/models").status_code == 200
    assert set(told) == {401, 429}
    assert looked_up <= (minutes + 1) * (settings.FAILED_KEYS_PER_MINUTE + 1)
    figures.tell(
        "keys tried", tried=len(told), refused_401=told.count(401), refused_429=told.count(429), looked_up=looked_up
    )


def test_a_right_prefix_takes_as_long_as_one_that_nobody_has(key, django_assert_num_queries):
    """Both are one look-up by the hash of the whole; the t-test is told, and RELIABILITY wants p > 0.01 of 5,000 each."""
    tries = [(kind, wrong(key.split("_")[1] if kind else "")) for kind in (False, True) for _ in range(TIMED)]
    random.Random(7).shuffle(tries)
    took: dict[bool, list[int]] = {False: [], True: []}
    for kind, text in [*tries[:20], *tries]:  # the first ones warm up
        began = time.perf_counter_ns()
        with pytest.raises(NotAuthenticated):
            keys.authenticate(f"Bearer {text}")
        took[kind].append(time.perf_counter_ns() - began)

    for _, text in tries[:4]:
        with django_assert_num_queries(1), pytest.raises(NotAuthenticated):
            keys.authenticate(f"Bearer {text}")
    unknown, right = (sorted(took[kind])[: -max(1, TIMED // 20)] for kind in (False, True))  # without the longest waits
    figures.tell(
        "look-up of a key", each=TIMED, unknown_prefix_us=round(statistics.fmean(unknown) / 1000, 1),
        right_prefix_us=round(statistics.fmean(right) / 1000, 1), p=round(p_of_t_test(unknown, right), 3),
    )  # fmt: skip
