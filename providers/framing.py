"""From the SDK's response to JSON events without pydantic: the SDK sends and checks, we split and parse.

Should an SDK's post(stream_cls=...) or its stream's `response` go, its stock stream serves instead (see is_light).
"""

import asyncio
import email.utils
import inspect
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, cast

import aiohttp
import httpx2
import orjson

from lib.secret import Secret
from providers.clients import BODY
from providers.errors import CutOff, Down, Garbled, ProviderError, TimedOut, refusal
from providers.shapes import Watch

FRAME_BYTES = 4 * 1024 * 1024  # one event may be this long
DRAIN_S = 0.05  # after the end, for the last bytes that let the connection be used again
NETWORK_ERRORS = (httpx2.HTTPError, aiohttp.ClientError, OSError)
Event = dict[str, Any]
DONE: Event = {}  # the end as OpenAI's protocol says it


@dataclass(frozen=True, slots=True)
class Request:
    """One streaming request, both ways to make it.

    stock   the SDK's own stream; each of its models must offer to_dict()
    errors  what the SDK raises
    """

    client: Any
    path: str
    body: dict[str, Any]
    stream_class: type
    light: bool
    stock: Callable[[], Awaitable[AsyncIterator[Any]]]
    key: Secret | None
    errors: type[Exception]


def is_light(client_class: type, stream_class: type) -> bool:
    """Whether this SDK still has what the light path needs: asked once, when an adapter is imported."""
    needs = {"body", "cast_to", "options", "stream", "stream_cls"}
    post = getattr(client_class, "post", None)
    return (
        callable(post)
        and needs <= set(inspect.signature(post).parameters)
        and "response" in getattr(stream_class, "__annotations__", {})
    )


def timeout(watch: Watch) -> httpx2.Timeout:
    return httpx2.Timeout(None, connect=watch.limits.connect_s)


async def events(request: Request, watch: Watch) -> AsyncGenerator[Event, None]:
    """Every JSON event of the answer. Raises ProviderError; closes the connection however it is left."""
    failure: ProviderError | None = None
    stream: Any = None
    try:
        async with asyncio.timeout_at(watch.due()[0]):
            stream = await (_send(request, watch) if request.light else request.stock())
        if request.light:
            payloads = Payloads(stream.response, watch)
            while batch := await payloads.next():
                for data in batch:
                    yield parse(data)
        else:
            while (model := await _next_model(stream, watch)) is not None:
                yield model.to_dict(warnings=False)
    except (request.errors, *NETWORK_ERRORS, ValueError) as error:
        failure = translate(error, watch, has_begun=stream is not None, key=request.key)
    finally:
        if stream is not None:
            await stream.close()
    if failure is not None:  # raised here, so that no traceback leads to the SDK's request and its headers
        raise failure


def _send(request: Request, watch: Watch) -> Awaitable[Any]:
    response: Awaitable[Any] = request.client.post(
        request.path,
        body=request.body,
        cast_to=object,
        options={"timeout": timeout(watch)},
        stream=True,
        stream_cls=request.stream_class,
    )
    return response


async def _next_model(stream: AsyncIterator[Any], watch: Watch) -> Any:
    watch.waiting_since = watch.now()
    due, stage = watch.due()
    try:
        async with asyncio.timeout_at(due):
            return await anext(stream, None)
    except TimeoutError:
        watch.stage = stage
        raise


class Payloads:
    """The data of every server-sent event, up to [DONE] or the end of the body."""

    def __init__(self, response: httpx2.Response, watch: Watch) -> None:
        self._watch, self._frames = watch, Frames()
        self._has_events = self._has_ended = False
        self._body: aiohttp.ClientResponse = response.extensions[BODY]
        self._read = _reader(response, self._body)
        watch.calls(self._body.close)

    async def next(self) -> list[bytes]:
        """What came with the next reads, at least one event; none at the end.

        Raises Garbled for a body without any event: a web page, say.
        """
        watch, found = self._watch, list[bytes]()
        while not found and not self._has_ended:
            watch.waiting_since = watch.now()
            chunk = await self._read()
            watch.waiting_since = None
            found = self._frames.feed(chunk) if chunk else self._frames.rest()
            if found:
                self._has_events = True
                for number, data in enumerate(found):
                    if data.startswith(b"[DONE]"):
                        await _drain(self._body)
                        self._has_ended = True
                        return found[: number + 1]
            self._has_ended = not chunk
        if not self._has_events:
            raise Garbled
        return found


def _reader(response: httpx2.Response, body: aiohttp.ClientResponse) -> Callable[[], Awaitable[bytes]]:
    if body.headers.get("Content-Encoding", "identity") == "identity":
        return body.content.readany
    chunks = response.aiter_bytes()  # we asked for no encoding; the SDK's HTTP client undoes it
    return lambda: anext(chunks, b"")


async def _drain(body: aiohttp.ClientResponse) -> None:
    try:
        async with asyncio.timeout(DRAIN_S):
            while await body.content.readany():
                pass
    except (TimeoutError, aiohttp.ClientError):
        pass


class Frames:
    """Splits server-sent events, whatever way the bytes were cut. Only `data` is of interest to us."""

    def __init__(self) -> None:
        self._left = b""

    def feed(self, chunk: bytes) -> list[bytes]:
        text = self._left + chunk if self._left else chunk
        held = b""
        if b"\r" in text:
            if text.endswith(b"\r"):  # the \n may come with the next read
                text, held = text[:-1], b"\r"
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        *frames, left = text.split(b"\n\n")
        self._left = left + held
        if len(self._left) > FRAME_BYTES:
            raise Garbled
        return [data for frame in frames if (data := self._data(frame)) is not None]

    def rest(self) -> list[bytes]:
        """What stands after the last blank line, when the body has ended."""
        left, self._left = self._left, b""
        data = self._data(left.rstrip(b"\r\n"))
        return [] if data is None else [data]

    @staticmethod
    def _data(frame: bytes) -> bytes | None:
        if frame.startswith(b"data: ") and b"\n" not in frame:
            return frame[6:]
        lines = [line[5:].removeprefix(b" ") for line in frame.split(b"\n") if line.startswith(b"data:")]
        return b"\n".join(lines) or None


def parse(data: bytes) -> Event:
    """One event's JSON. Raises Garbled. NaN and 1e400 pass, as with the SDKs: a usage may hold any nonsense."""
    if data.startswith(b"[DONE]"):
        return DONE
    try:
        event = orjson.loads(data)
    except orjson.JSONDecodeError:
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            raise Garbled(vendor_detail=data[:200].decode("utf-8", "replace")) from None
    if not isinstance(event, dict):
        raise Garbled(vendor_detail=data[:200].decode("utf-8", "replace"))
    return event


def count(number: object) -> int | None:
    return number if type(number) is int and number >= 0 else None


def translate(error: Exception, watch: Watch, *, has_begun: bool, key: Secret | None) -> ProviderError:
    """A vendor's or the network's error in our words."""
    if watch.stage:
        return TimedOut(watch.stage)
    if isinstance(error, TimeoutError):
        return TimedOut(watch.due()[1])
    if isinstance(error.__cause__, httpx2.ConnectTimeout):
        return TimedOut("connect")
    body, status = getattr(error, "body", None), getattr(error, "status_code", None)  # of both SDKs' own errors
    if status is not None and status >= 300:
        retry_after = _seconds(cast(Any, error).response.headers.get("retry-after"))
        return refusal(body or str(error), status=status, retry_after=retry_after, key=key)
    if body is not None:  # the stock stream's error in the middle
        return refusal(body, key=key)
    if isinstance(error, ValueError):
        return Garbled()
    return CutOff() if has_begun else Down()


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After as seconds: it comes as a number or as a date."""
    if not retry_after:
        return None
    try:
        seconds = float(retry_after)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time()
        except ValueError:
            return None
    return min(86_400.0, max(0.0, seconds))  # in this order NaN is 0
