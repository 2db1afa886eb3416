"""Somebody who listens: a realtime stream as far as the protocol goes."""

import asyncio
import json
from collections.abc import Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from tests.server import Person, Served

PATH = "/api/v1/realtime"


@dataclass
class Ear:
    """What came over one stream so far. `id` is the place to go on from."""

    id: str = ""
    changes: list[dict[str, Any]] = field(default_factory=list)
    named: list[tuple[str, Any]] = field(default_factory=list)  # ready, gone, reload
    is_over: bool = False
    retry_ms: list[int] = field(default_factory=list)

    def has(self, name: str) -> bool:
        return any(one == name for one, _ in self.named)

    def told(self, table: str) -> list[Any]:
        return [one["new"] for one in self.changes if one["table"] == table]

    async def until(self, claim: Callable[["Ear"], Any], seconds: float = 60) -> "Ear":
        async with asyncio.timeout(seconds):
            while not claim(self):
                assert not self.is_over or claim(self), (self.named, self.changes)
                await asyncio.sleep(0.02)
        return self

    def take(self, frame: str) -> None:
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if not line.startswith(":"))
        self.id = fields.get("id", self.id)
        if "retry" in fields:
            self.retry_ms.append(int(fields["retry"]))
        if "data" in fields:
            told = json.loads(fields["data"])
            self.named.append((fields["event"], told)) if "event" in fields else self.changes.append(told)


def heads(who: Person | str, *, after: str = "", host: str = "") -> dict[str, str]:
    """Of a member with a session, or of a program with this key."""
    by = (
        {"Authorization": f"Bearer {who}"}
        if isinstance(who, str)
        else {"Cookie": who.cookies, "Host": who.brand.domain}
    )
    return by | ({"Last-Event-ID": after} if after else {}) | ({"Host": host} if host else {})


@asynccontextmanager
async def listening(http: aiohttp.ClientSession, web: Served, who: Person | str, topics: str, *, after: str = ""):
    """An open stream, once it is ready."""
    ear = Ear(id=after)
    address = f"{web.url}{PATH}?topics={topics}"
    async with http.get(
        address, headers=heads(who, after=after), timeout=aiohttp.ClientTimeout(total=None)
    ) as response:
        assert response.status == 200, (response.status, await response.text())

        async def read() -> None:
            rest = ""
            async for chunk in response.content.iter_any():
                *frames, rest = (rest + chunk.decode()).split("\n\n")
                for frame in frames:
                    ear.take(frame)
            ear.is_over = True

        reading = asyncio.create_task(read())
        try:
            yield await ear.until(lambda one: one.has("ready"))
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


async def refused(http: aiohttp.ClientSession, web: Served, headers: dict[str, str], topics: str) -> int:
    """The status of who is not let in; 200 is closed again."""
    async with http.get(f"{web.url}{PATH}?topics={topics}", headers=headers) as response:
        return response.status
