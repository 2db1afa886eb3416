"""A bare aiohttp proxy of /v1/chat/completions: the yardstick for CPU per token."""

import sys

import aiohttp
import uvloop
from aiohttp import web


async def completions(request: web.Request) -> web.StreamResponse:
    body = await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    async with request.app["session"].post(request.app["upstream"] + "/chat/completions", data=body) as upstream:
        await response.prepare(request)
        async for chunk in upstream.content.iter_any():
            await response.write(chunk)
    await response.write_eof()
    return response


async def session(app: web.Application):
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=None)) as app["session"]:
        yield


async def healthz(request: web.Request) -> web.Response:
    return web.Response(text="ok")


def main() -> None:
    app = web.Application()
    app["upstream"] = sys.argv[2]
    app.cleanup_ctx.append(session)
    app.add_routes([web.get("/healthz", healthz), web.post("/v1/chat/completions", completions)])
    uvloop.install()
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)


if __name__ == "__main__":
    main()
