"""Somebody's server that webhooks are sent to, good or hostile: what it does stands in the path."""

import asyncio
import gzip
import threading
import zlib
from collections import Counter
from dataclasses import dataclass, field

HELLO = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nthanks"


@dataclass
class Got:
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def id(self):
        return self.headers["webhook-id"]


@dataclass
class Receiver:
    """Listens on 127.0.0.1 in a thread of its own."""

    got: list[Got] = field(default_factory=list)
    written: Counter = field(default_factory=Counter)  # bytes, by path
    honeypot: int = 0
    port: int = 0

    def __enter__(self):
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)

    def url(self, path):
        return f"http://127.0.0.1:{self.port}/{path}"

    def of(self, path):
        return [one for one in self.got if one.path == f"/{path}"]

    async def _serve(self):
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._answer, "127.0.0.1", self.port)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _answer(self, reader, writer):
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            first, *lines = head.strip().split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            body = await reader.readexactly(int(headers.get("content-length", 0)))
            path = first.split()[1]
            self.got.append(Got(path, headers, body))
            await self._behave(path.strip("/"), writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    async def _behave(self, path, writer):
        match path.partition("/")[0]:
            case "ok":
                writer.write(HELLO)
            case "echo":  # a careless server that says back what it was given
                said = repr(self.got[-1].headers).encode() + b"<script>alert(1)</script>" + b"x" * 9000
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
            case "some-fail":  # three of ten, another three at each try
                one = self.got[-1]
                tries = sum(other.id == one.id for other in self.of(path))
                fails = zlib.crc32(f"{one.id}{tries}".encode()) % 10 < 3
                one.headers["failed"] = "yes" if fails else ""
                writer.write(b"HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n" if fails else HELLO)
            case "hang":
                await asyncio.sleep(3600)
            case "close":
                return
            case "drip":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
                while True:
                    writer.write(b"a")
                    await writer.drain()
                    await asyncio.sleep(0.2)
            case "headers":
                writer.write(b"HTTP/1.1 200 OK\r\n")
                await self._flood(path, writer, b"X-More: " + b"a" * 1000 + b"\r\n")
            case "big":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
                await self._flood(path, writer, b"b" * 65536)
            case "bomb":
                bomb = gzip.compress(b"\0" * 50_000_000)
                writer.write(
                    b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb) + bomb
                )
            case "redirect":
                writer.write(
                    f"HTTP/1.1 307 There\r\nLocation: {self.url('trap')}\r\nContent-Length: 0\r\n\r\n".encode()
                )
            case "trap":
                self.honeypot += 1
            case status:
                more = b"Retry-After: 7200\r\n" if status == "429" else b""
                writer.write(b"HTTP/1.1 %s Whatever\r\n%bContent-Length: 0\r\n\r\n" % (status.encode(), more))
        await writer.drain()

    async def _flood(self, path, writer, piece):
        while self.written[path] < 10**9:
            writer.write(piece)
            await writer.drain()
            self.written[path] += len(piece)
