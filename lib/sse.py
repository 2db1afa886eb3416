"""Server-sent events: the one kind of response that stays open."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

import orjson
from django.http import StreamingHttpResponse
from django.utils import translation

from lib import metrics

KEEPALIVE = b": keepalive\n\n"
COME_BACK = b"retry: 500\n\n"  # ask again in so many ms, and not after the browser's own three seconds


class EventStream(StreamingHttpResponse):
    """A response of ready-made frames. Our ASGI handler sends them as they are, without Django's wrappers around each.

    What they say is in the language of the request, which no middleware holds any more when they are made.
    """

    def __init__(self, frames: AsyncGenerator[bytes, None]) -> None:
        super().__init__(frames, content_type="text/event-stream")
        self.frames = frames
        self.language = translation.get_language()
        self.headers["Cache-Control"] = "no-store"
        self.headers["X-Accel-Buffering"] = "no"  # nginx would hold frames back

    async def send_to(self, send: Callable[[Mapping[str, Any]], Awaitable[None]]) -> None:
        """Send this response over ASGI; the generator is closed however that ends."""
        headers = [(name.encode("ascii"), value.encode("latin-1")) for name, value in self.items()]
        headers += [
            (b"Set-Cookie", cookie.output(header="").strip().encode("ascii")) for cookie in self.cookies.values()
        ]
        async with aclosing(self.frames) as frames:
            with translation.override(self.language), metrics.open_streams.track_inprogress():
                await send({"type": "http.response.start", "status": self.status_code, "headers": headers})
                async for frame in frames:
                    await send({"type": "http.response.body", "body": frame, "more_body": True})
        await send({"type": "http.response.body"})


def retry(milliseconds: int) -> bytes:
    """Ask again after so long, should this break off."""
    return b"retry: %d\n\n" % milliseconds


def event(name: str, data: str, id: int) -> bytes:  # noqa: A002 - the field's own name
    """One frame; `data` travels as a JSON string, so that line ends need no care."""
    return frame(name, str(data), id)


def frame(name: str = "", body: Any = None, id: object = "") -> bytes:  # noqa: A002 - the field's own name
    """One frame whose data is JSON; without a body nobody is shown it, but a reader keeps its id to go on from."""
    named = b"event: %s\n" % name.encode() if name else b""
    told = b"data: %s\n" % orjson.dumps(body) if body is not None else b": keepalive\n"
    return (b"id: %s\n" % str(id).encode() if id != "" else b"") + named + told + b"\n"
