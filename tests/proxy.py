"""A real nginx in front of several web processes, as deploy/nginx has them."""

import contextlib
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.server import free_port

PROGRAM = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
needs_nginx = pytest.mark.skipif(
    not PROGRAM and not os.environ.get("CI"), reason="nginx is not installed: apt-get install nginx-light"
)


class Proxy:
    """Asks a process at random, and the next one when it cannot be connected to; says who answered what.

    In turn, question and stream would always land on different processes.
    """

    def __init__(self, folder: Path, ports: Sequence[int]) -> None:
        self.port, self.log, self.errors = free_port(), folder / "requests", folder / "errors"
        self.url = f"http://127.0.0.1:{self.port}"
        servers = "\n".join(f"server 127.0.0.1:{port} max_fails=0;" for port in ports)
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, port=self.port, servers=servers))
        assert PROGRAM, "nginx is not installed: apt-get install nginx-light"
        self.process = subprocess.Popen([PROGRAM, "-p", str(folder), "-e", str(self.errors), "-c", "nginx.conf"])
        for _ in range(1200):
            assert self.process.poll() is None, self.errors.read_text()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"nginx did not start: {self.errors.read_text()}")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(60)

    def requests(self) -> list[tuple[int, set[str], str]]:
        """What was answered: status, who was asked, and what it was about."""
        lines = [line.split("|") for line in self.log.read_text().splitlines()]
        return [(int(status), set(asked.split(", ")), what) for status, asked, what in lines]


NGINX = """
daemon off;
user root;
worker_processes 1;
pid {folder}/pid;
events {{ worker_connections 4096; }}
http {{
    log_format told "$status|$upstream_addr|$request";
    access_log {folder}/requests told;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream chatsite {{
        random;
        {servers}
        keepalive 16;
        keepalive_timeout 500ms;
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://chatsite;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            proxy_set_header Host $http_host;
            proxy_buffering off;
            proxy_next_upstream error timeout http_503;
        }}
    }}
}}
"""
