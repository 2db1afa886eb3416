# ruff: noqa: S603, T201 - the command is the person's own, and the terminal is the page

import os
import signal
import subprocess
import sys

from chatsite.embedded import down, servers
from chatsite.embedded.processes import child_environ, dying_with_parent
from lib.errors import DomainError


def run(command: list[str]) -> int:
    """The command's exit code; it gets the signals that come while it runs."""
    with servers(os.environ, broker="valkey-tests", say=print) as env:
        child = subprocess.Popen([*dying_with_parent(), *command], env=child_environ(env))
        for number in (signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, lambda received, frame: child.send_signal(received))
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the terminal sends it to the command too
        return child.wait()


def main(arguments: list[str]) -> int:
    signal.signal(signal.SIGTERM, lambda received, frame: sys.exit(128 + received))
    match arguments:
        case ["up"]:
            with servers(os.environ, to_stay=True, say=print):
                return 0
        case ["down"]:
            down()
            return 0
        case ["run", *command] if command:
            return run(command)
    print("usage: python -m chatsite.embedded up | down | run <command>", file=sys.stderr)
    return 2


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except DomainError as error:
        sys.exit(str(error))
