"""A process that has all imports behind it and makes senders, so that a test can kill many without waiting for each to start.

One line in: a new sender, as `manage.py send_webhooks` runs it; its pid out. Ends with its input, as the last sender did.
"""

import os
import signal
import sys

import django
from django.core.management import call_command

django.setup()
import events.webhooks.sending  # noqa: E402, F401 - what takes long is behind us before the first is born

pid = 0
for _ in sys.stdin:
    if pid:
        os.waitpid(pid, 0)
    pid = os.fork()
    if not pid:
        call_command("send_webhooks")
        os._exit(0)
    print(pid, flush=True)
os.kill(pid, signal.SIGTERM)  # also when the test has failed
_, status = os.waitpid(pid, 0)
sys.exit(os.waitstatus_to_exitcode(status))
