"""The product's settings, on the benchmark's database."""

import os

os.environ.setdefault("DEVELOPMENT", "1")

from chatsite.settings import *  # noqa: F403
from chatsite.settings import DATABASES

for _alias in DATABASES.values():
    if "BENCH_DB" in os.environ:
        _alias["NAME"] = os.environ["BENCH_DB"]
LOGGING = {"version": 1, "disable_existing_loggers": False}
CONCURRENT_TURNS = {"member": 1000, "brand": 10_000}  # a few people open all the streams
