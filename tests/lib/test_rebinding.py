"""DNS rebinding with a real name server on loopback (tests.lib.rebinding)."""

import json
import os
import platform
import subprocess
import sys

import pytest
from django.conf import settings

from tests.lib.rebinding import PUBLIC

NOWHERE = ["unreachable", [], 1]
THERE = [200, [PUBLIC], 1]


@pytest.mark.skipif(
    platform.libc_ver()[0] != "glibc" and not os.environ.get("CI"),
    reason="it points glibc's resolver at its name server",
)
def test_what_is_connected_to_is_the_address_that_was_vetted_or_nothing():
    """W-03, W-04: one look-up for each call, whose answer is vetted and used; a later one is never asked for."""
    command = [sys.executable, "-m", "tests.lib.rebinding"]
    done = subprocess.run(command, cwd=settings.BASE_DIR, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout)

    assert told["keeps"] == ["taken", THERE, THERE]
    assert told["turns"] == ["taken", NOWHERE, NOWHERE]
    assert told["turns-late"] == ["taken", THERE, NOWHERE]
    assert told["both"] == ["refused", NOWHERE, NOWHERE]
    assert told["both-late"] == ["taken", NOWHERE, NOWHERE]
    assert told["chain"] == ["refused", NOWHERE, NOWHERE]
    assert told["chain-late"] == ["taken", NOWHERE, NOWHERE]
    for name in ("mapped", "beside-mapped", "beside-loopback"):  # a machine without IPv6 asks for none when it connects
        vetted, *calls = told[name]
        assert vetted == "refused"
        assert all(set(called) <= {PUBLIC} for _, called, _ in calls), told[name]
    assert all(called == [] for _, called, _ in told["mapped"][1:])
