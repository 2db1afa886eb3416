"""The official SDKs on one aiohttp transport: per event loop one for each base URL, and an SDK client for each key."""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import aiohttp
import httpx2
from yarl import URL

from lib import egress
from lib.secret import Secret
from providers.errors import Down
from providers.shapes import OwnKey

if TYPE_CHECKING:  # each takes most of a second to import: only who speaks its protocol does
    import anthropic
    import openai

    SDK = openai.AsyncOpenAI | anthropic.AsyncAnthropic

HTTP_CLIENTS, SDK_CLIENTS = 128, 512  # per event loop; the longest unused leave
ERROR_BYTES = 64 * 1024  # of an error's body; nobody reads more
BODY = "chatsite.body"  # our aiohttp response among the httpx2 response's extensions
# What may leave with a request. The SDKs add whatever OPENAI_ORG_ID, *_CUSTOM_HEADERS ... say, to every base URL.
SENT_HEADERS = {"accept", "accept-encoding", "anthropic-version", "authorization", "content-type", "user-agent"}
NO_KEY = "no-key"  # None would make an SDK look into the environment; this one stays here


class Body(httpx2.AsyncByteStream):
    def __init__(self, response: aiohttp.ClientResponse, closed: Callable[[], None]) -> None:
        self.response = response
        self._closed: Callable[[], None] | None = closed

    async def __aiter__(self) -> AsyncIterator[bytes]:
        left = ERROR_BYTES if self.response.status >= 400 else None
        try:
            while left is None or left > 0:
                data = await self.response.content.readany()
                if not data:
                    return
                if left is not None:
                    left -= len(data)
                yield data
        except (aiohttp.ClientError, OSError) as error:
            raise httpx2.ReadError(type(error).__name__) from None

    async def aclose(self) -> None:
        """Give the connection back if the answer was read to its end, close it at once if not."""
        self.response.release()
        if self._closed is not None:
            self._closed()
            self._closed = None


class Transport(httpx2.AsyncBaseTransport):
    """What the SDKs send goes out by aiohttp, which costs a third of httpx's CPU per read."""

    def __init__(self, base_url: str) -> None:
        self.session = aiohttp.ClientSession(
            connector=egress.connector(base_url, allow=egress.model_servers()),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
        )
        self.running = 0

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        limits = request.extensions.get("timeout", {})
        self.running += 1
        try:
            response = await self.session.request(
                request.method,
                URL(str(request.url), encoded=True),
                headers=[
                    (name, value)
                    for name, value in request.headers.items()
                    if name in SENT_HEADERS and value != f"Bearer {NO_KEY}"
                ],
                data=await request.aread(),
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(total=None, connect=limits.get("connect")),
            )
        except BaseException as error:
            self._ended()
            if isinstance(error, aiohttp.ConnectionTimeoutError):
                raise httpx2.ConnectTimeout("no connection in time") from None
            if isinstance(error, aiohttp.ClientError | OSError):
                raise httpx2.ConnectError(type(error).__name__) from None
            raise
        return httpx2.Response(
            response.status,
            headers=response.raw_headers,
            stream=Body(response, self._ended),
            extensions={"http_version": b"HTTP/1.1", BODY: response},
        )

    def _ended(self) -> None:
        self.running -= 1

    async def aclose(self) -> None:
        await self.session.close()


class Clients:
    """What one event loop has open."""

    def __init__(self) -> None:
        self.transports: OrderedDict[str, Transport] = OrderedDict()
        self.sdks: OrderedDict[tuple[type[SDK], str, Secret | None], SDK] = OrderedDict()
        self.closing: set[asyncio.Task[None]] = set()

    def transport(self, base_url: str) -> Transport:
        if base_url not in self.transports:
            try:
                self.transports[base_url] = Transport(base_url)
            except egress.Refused:
                raise Down() from None  # in the words of any address that does not answer (W-11)
            self._let_go_of_one()
        self.transports.move_to_end(base_url)
        return self.transports[base_url]

    def _let_go_of_one(self) -> None:
        """Past the bound, close the longest unused base URL that streams nothing."""
        if len(self.transports) <= HTTP_CLIENTS:
            return
        for base_url, transport in list(self.transports.items())[:-1]:
            if not transport.running:
                del self.transports[base_url]
                for known in [known for known in self.sdks if known[1] == base_url]:
                    del self.sdks[known]
                task = asyncio.create_task(transport.aclose())
                self.closing.add(task)
                task.add_done_callback(self.closing.discard)
                return

    def sdk(self, kind: "type[SDK]", base_url: str, key: Secret | None) -> Any:
        if isinstance(key, OwnKey):
            return self._made(kind, base_url, key)  # for this one call: nothing here remembers a member's key
        known = (kind, base_url, key)
        if known not in self.sdks:
            self.sdks[known] = self._made(kind, base_url, key)
            if len(self.sdks) > SDK_CLIENTS:
                self.sdks.popitem(last=False)
        else:
            self.transport(base_url)  # it is in use
        self.sdks.move_to_end(known)
        return self.sdks[known]

    def _made(self, kind: "type[SDK]", base_url: str, key: Secret | None) -> Any:
        """Without a connection of its own: those are the transport's, and a key goes out with its request only."""
        return kind(
            api_key=key.reveal() if key else NO_KEY,
            base_url=base_url,
            default_headers={"Accept-Encoding": "identity"},
            max_retries=0,
            http_client=httpx2.AsyncClient(transport=self.transport(base_url), trust_env=False, follow_redirects=False),
        )


_by_loop: WeakKeyDictionary[asyncio.AbstractEventLoop, Clients] = WeakKeyDictionary()


def _clients() -> Clients:
    return _by_loop.setdefault(asyncio.get_running_loop(), Clients())


async def close() -> None:
    """Close what this event loop has open."""
    clients = _by_loop.pop(asyncio.get_running_loop(), Clients())
    for transport in clients.transports.values():
        await transport.aclose()
    if clients.closing:
        await asyncio.gather(*clients.closing)


def openai_client(base_url: str, key: Secret | None) -> "openai.AsyncOpenAI":
    from openai import AsyncOpenAI

    return _clients().sdk(AsyncOpenAI, base_url, key)


def anthropic_client(base_url: str, key: Secret | None) -> "anthropic.AsyncAnthropic":
    from anthropic import AsyncAnthropic

    return _clients().sdk(AsyncAnthropic, base_url, key)
