"""A client in a process of its own: opens streams, reads them, and reports what it saw as one line of JSON.

    python -m benchmarks.load '{"url": ..., "headers": ..., "model": "m;stamp=1;...", "streams": 100}'

The words of the upstream are the times they were sent, so a token's lag is its arrival less itself.
"""

import asyncio
import json
import re
import sys
import time
from typing import Any

import aiohttp
import uvloop

STAMP = re.compile(rb"(\d{10}\.\d{6}) ")


async def one(session: aiohttp.ClientSession, order: dict[str, Any], number: int, seen: dict[str, list[float]]) -> None:
    headers = {**order["headers"][number % len(order["headers"])], "Content-Type": "application/json"}
    body = {
        "model": order["model"],
        "stream": order.get("stream", True),
        "messages": [{"role": "user", "content": "Hi"}],
        **order.get("more", {}),
    }
    began = time.perf_counter()
    async with session.post(order["url"], json=body, headers=headers) as response:
        if response.status != 200:
            seen["errors"].append(response.status)
            await response.read()
            return
        if not body["stream"]:
            await response.read()
            seen["answers"].append(time.perf_counter() - began)
            return
        is_first = True
        async for chunk in response.content.iter_any():
            now = time.time()
            stamps = STAMP.findall(chunk)
            if stamps and is_first:
                seen["first"].append(time.perf_counter() - began)
                is_first = False
            seen["lags"].extend(now - float(stamp) for stamp in stamps)
    seen["answers"].append(time.perf_counter() - began)


async def run(order: dict[str, Any]) -> dict[str, list[float]]:
    seen: dict[str, list[float]] = {"first": [], "lags": [], "answers": [], "errors": []}
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=120)) as session:
        if "clients" in order:  # each asks again and again until the time is over
            until = time.perf_counter() + order["seconds"]

            async def client(number: int) -> None:
                while time.perf_counter() < until:
                    await one(session, order, number, seen)

            await asyncio.gather(*(client(number) for number in range(order["clients"])))
        else:  # a given number of streams, begun evenly over `over_s`

            async def later(number: int) -> None:
                await asyncio.sleep(number * order.get("over_s", 0) / order["streams"])
                await one(session, order, number, seen)

            await asyncio.gather(*(later(number) for number in range(order["streams"])))
    return seen


if __name__ == "__main__":
    uvloop.install()
    json.dump(asyncio.run(run(json.loads(sys.argv[1]))), sys.stdout)
