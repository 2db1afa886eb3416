"""A vendor for tests and benchmarks: both real protocols over real HTTP, behaviour chosen by the model's name.

    with Upstream() as up:
        Call("openai", "m;tokens=20;delay_ms=5", messages, 100, base_url=up.openai_url)

server.py lists the options. hang=connect cannot be an option of a server that has answered: see blackhole().
"""

import contextlib
import json
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

PROJECT = Path(__file__).parents[2]


class Upstream:
    """The server as a process of its own, so that it neither shares our loop nor our CPU accounting."""

    def __init__(self, port: int = 0) -> None:
        self.port = port

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.upstream", "--port", str(self.port)],
            cwd=PROJECT,
            stdin=subprocess.PIPE,  # the server ends when this end closes, however we die
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the test upstream did not start")
        self.port = json.loads(line)["port"]
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=10)

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    anthropic_url = base_url

    @property
    def openai_url(self) -> str:
        return f"{self.base_url}/v1"

    @property
    def host_port(self) -> str:
        """What EGRESS_ALLOW must hold."""
        return f"127.0.0.1:{self.port}"

    def calls(self) -> list[dict[str, Any]]:
        """The latest calls: path, model, key, headers, body, disconnected, finished, sent_tokens."""
        return self._control("GET", "calls")

    def reset(self) -> None:
        self._control("POST", "reset")

    def revoke(self, key: str) -> None:
        """From now on this key gets 401."""
        self._control("POST", f"revoke?key={key}")

    def _control(self, method: str, name: str) -> Any:
        request = urllib.request.Request(f"{self.base_url}/control/{name}", method=method)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.load(response)


@contextlib.contextmanager
def blackhole() -> Iterator[str]:
    """A base URL to which no connection is ever made: Linux drops the SYN while a listener's queue is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        address = listener.getsockname()
        for _ in range(4):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(address)
        yield f"http://127.0.0.1:{address[1]}"
