"""A worker of its own that only reaps: `once`, or as beat does, until somebody was ended.

A reaper that could not look for a while gives everybody that time on top, so the second takes as long as one may be silent.
"""

import sys
import time

import django

django.setup()

from django.conf import settings  # noqa: E402

from conversations.engine import reaper  # noqa: E402

if sys.argv[1:] == ["once"]:
    reaper.reap()
else:
    settings.TURN_LOST_AFTER_S = 3.0
    for _ in range(30):
        if reaper.reap():
            break
        time.sleep(1)
