"""Search in one member's chats, on the rows of benchmarks.history."""

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any

from benchmarks.table import Row
from conversations.chats import search
from lib.db import scope
from tests import factories

WORDS = 30_000  # of the language: the first are in nearly every text, the last in hardly any (Zipf)
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in ("a", "e", "i", "o", "u", "ei")]


def vocabulary(rng: random.Random) -> list[str]:
    made = {"".join(rng.choices(SYLLABLES, k=rng.randint(2, 5))): None for _ in range(WORDS)}
    return ["house", "garden", *made]


def texts(count: int) -> Iterator[str]:
    """Messages of 10 to 60 words."""
    rng = random.Random(5)
    words = vocabulary(rng)
    weights = [1 / (rank + 10) for rank in range(len(words))]
    for _ in range(count):
        yield " ".join(rng.choices(words, weights, k=rng.randint(10, 60)))


def measure(world: factories.World, rows: int, times: int) -> list[Row]:
    alice = factories.member(world.act, world.alice)
    with scope(alice):
        rare = next(
            w for w in reversed(vocabulary(random.Random(5))) if search.find(alice, search.parse(f"{w} ")).found
        )
    kinds = {
        "a common word": "house ",
        "a rare one": f"{rare} ",
        "the beginning of one": rare[:3],
        "two words": "house garden ",
        "words side by side": '"house garden"',
        "none, and what is near it": "houze gardn",
    }
    took: dict[str, list[float]] = {name: [] for name in kinds}
    for number in range(times // 4 + 3):
        for name, typed in kinds.items():
            wanted = search.parse(typed)
            with scope(alice):
                began = time.perf_counter()
                found = search.find(alice, wanted)
                if not found.found:
                    search.instead(alice, wanted)
                if number >= 3:
                    took[name].append(time.perf_counter() - began)
    ms = {name: statistics.quantiles(times, n=20)[-1] * 1000 for name, times in took.items()}
    worst: Any = max(list(ms.values())[:-1])
    note = ", ".join(f"{name} {value:.0f}" for name, value in ms.items())
    return [
        Row(f"search in one member's chats, among {rows:,} messages, p95 of the slowest kind", f"{worst:.0f} ms", "≤ 30 ms",
            "10 ms", worst <= 30, note)
    ]  # fmt: skip
