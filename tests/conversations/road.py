"""The way from a process to its database, which can be cut, or swallow what is sent."""

import asyncio
import os
from urllib.parse import urlsplit

NAMES = ("DATABASE_URL", "DATABASE_SERVICE_URL")


class Road:
    """A port in front of the database.

    `cut`: connections are reset, and new ones refused. `swallow`: they stay, new ones are taken, and nothing is ever
    answered, as behind a machine that lost its memory; those from before stay so when the road is open again. `fill`: as
    a server that has no room for more.
    """

    def __init__(self) -> None:
        parts = urlsplit(os.environ[NAMES[0]])
        self.there = (parts.hostname, parts.port)
        self.port = 0
        self.is_open = asyncio.Event()
        self.writers: set[asyncio.StreamWriter] = set()
        self.journeys: set[asyncio.Task[None]] = set()
        self.server: asyncio.Server | None = None

    async def __aenter__(self):
        await self.open()
        return self

    async def __aexit__(self, *_):
        await self.cut()
        if self.journeys:
            await asyncio.wait(self.journeys)

    def urls(self) -> dict[str, str]:
        """What leads a process over this road."""
        found = {}
        for name in NAMES:
            parts = urlsplit(os.environ[name])
            log_in = parts.netloc.rsplit("@", 1)[0]
            found[name] = parts._replace(netloc=f"{log_in}@127.0.0.1:{self.port}").geturl()
        return found

    async def open(self) -> None:
        self.is_open.set()
        if self.server is None:
            self.server = await asyncio.start_server(self._carry, "127.0.0.1", self.port)
            self.port = self.server.sockets[0].getsockname()[1]

    async def fill(self) -> None:
        """No new connection is taken; those that are there work on."""
        assert self.server
        self.server.close()
        self.server = None

    async def cut(self) -> None:
        if self.server:
            self.server.close()
            self.server = None
        for writer in list(self.writers):
            writer.transport.abort()

    async def swallow(self) -> None:
        self.is_open.clear()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.add(writer)
        journey = asyncio.current_task()
        assert journey
        self.journeys.add(journey)
        try:
            if not self.is_open.is_set():
                await reader.read()  # to its end, which is the other's
                return
            there_reader, there_writer = await asyncio.open_connection(*self.there)
            self.writers.add(there_writer)
            ways = self._copy(reader, there_writer), self._copy(there_reader, writer)
            await asyncio.gather(*ways, return_exceptions=True)
            self.writers.discard(there_writer)
        finally:
            self.writers.discard(writer)
            self.journeys.discard(journey)
            writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        is_forgotten = False
        try:
            while data := await reader.read(65536):
                is_forgotten = is_forgotten or not self.is_open.is_set()
                if not is_forgotten:
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
