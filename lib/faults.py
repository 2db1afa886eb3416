"""Named points at which a test lets the process die, as if the machine had failed there."""

import os
import signal

FATAL = os.environ.get("FAULT", "")


def fault(point: str) -> None:
    """Nothing, unless the environment's FAULT names this point: then it is the last thing this process does."""
    if point == FATAL:
        os.kill(os.getpid(), signal.SIGKILL)
