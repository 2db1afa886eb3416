"""The only way out to the network: which addresses our servers may talk to, asked at save and again at connect."""

import asyncio
import contextlib
import ipaddress
import re
import socket
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from django.conf import settings
from django.utils.translation import gettext_lazy
from yarl import URL

from lib.errors import DomainError

# Written out because ipaddress.is_global says yes to multicast, NAT64, 6to4 and a cloud's own 168.63.129.16.
NOT_PUBLIC = [
    ipaddress.ip_network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's metadata and DNS
        "169.254.0.0/16",  # link-local, with every cloud's metadata
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",  # documentation
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",  # benchmarks
        "198.51.100.0/24",  # documentation
        "203.0.113.0/24",  # documentation
        "224.0.0.0/4",  # multicast
        "240.0.0.0/4",  # reserved, broadcast
    )
]
# IPv6 the other way round: only the allocated unicast block, less what carries an IPv4 address or is not routed.
PUBLIC_V6 = ipaddress.ip_network("2000::/3")
NOT_PUBLIC_V6 = [
    ipaddress.ip_network(net)
    for net in (
        "2001::/23",  # Teredo, benchmarks, ORCHID
        "2001:db8::/32",  # documentation
        "2002::/16",  # 6to4
        "2620:4f:8000::/48",
        "3fff::/20",  # documentation
    )
]
DEFAULT_PORTS = {"https": 443, "http": 80}
PLAIN_HOST = re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?", re.IGNORECASE)
CONNECTIONS = 2000
DEADLINE_S = 15.0  # of a call to a stranger's server, from looking up its name to the last byte that is read
MOST_BYTES = 64 * 1024  # that are read of what it answers
WEBHOOK_AGENT = "chatsite-webhooks/1"  # the name that webhooks go out under, by which our own site knows one (W-20)


class Refused(DomainError):
    says = gettext_lazy("This address cannot be used. Give a public https address, or ask the operator to allow it.")
    status, code = 400, "address_refused"


class Unreachable(DomainError):
    """There is no answer, for whatever reason: who could tell them apart could look around inside our network (W-11)."""

    says = gettext_lazy("No usable answer came from this address.")
    status, code = 502, "unreachable"


class Answer(NamedTuple):
    status: int
    headers: Mapping[str, str]
    body: bytes  # its beginning


class Origin(NamedTuple):
    scheme: str
    host: str
    port: int

    @property
    def host_port(self) -> str:
        return f"{self.host}:{self.port}"


def origin(url: str) -> Origin:
    """Where a URL leads. Refuses what two parsers could read differently (M10), without asking DNS."""
    if not url.isascii() or not url.isprintable() or any(odd in url for odd in " \\<>\"'"):
        raise Refused()
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").rstrip("."), parts.port
    except ValueError:
        raise Refused() from None
    if parts.scheme not in DEFAULT_PORTS or "@" in parts.netloc or parts.netloc.endswith(":"):
        raise Refused()
    if ":" in host:
        try:
            host = str(ipaddress.IPv6Address(host))
        except ValueError:
            raise Refused() from None
    elif not PLAIN_HOST.fullmatch(host):
        raise Refused()
    return Origin(parts.scheme, host, DEFAULT_PORTS[parts.scheme] if port is None else port)


def is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv4Address):
        return not any(ip in net for net in NOT_PUBLIC)
    return ip in PUBLIC_V6 and not any(ip in net for net in NOT_PUBLIC_V6)


def vet_url(url: str, *, allow: Collection[str] | None = None) -> None:
    """Refuse a URL that our servers must not call. Asks DNS and blocks: for forms and commands, not for the loop.

    allow   exact "host:port" strings, otherwise the operator's EGRESS_ALLOW
    Raises  Refused, in the same words whatever the reason (W-11)
    """
    target = origin(url)
    if is_allowed(target, allow):
        return
    try:
        answers = socket.getaddrinfo(target.host, target.port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise Refused() from None
    if not answers or not all(is_public(str(sockaddr[0])) for *_, sockaddr in answers):
        raise Refused()


def is_allowed(target: Origin, allow: Collection[str] | None = None) -> bool:
    """True for what the operator named, wherever it leads. Raises Refused for a port or scheme nobody may use."""
    if target.host_port in (settings.EGRESS_ALLOW if allow is None else allow):
        return True
    if target.scheme == "http" and not settings.DEBUG:
        raise Refused()
    if target.port != DEFAULT_PORTS[target.scheme]:
        raise Refused()
    return False


def model_servers() -> set[str]:
    """Where models may be asked, wherever it leads: also at the environment's base URLs, which nobody else may name."""
    own = (settings.OPENAI_BASE_URL, settings.ANTHROPIC_BASE_URL)
    return {*settings.EGRESS_ALLOW, *(origin(url).host_port for url in own if url)}


class _Blocked(OSError):
    """An OSError, so that aiohttp reports it like any other failed connection (W-11)."""


class _VettedResolver(AbstractResolver):
    """Resolves one host and hands on only addresses that were vetted: there is no second look-up (W-03, W-04)."""

    def __init__(self, target: Origin, *, allowed: bool) -> None:
        self.target = target
        self.allowed = allowed

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        if (host.rstrip(".").lower(), port) != (self.target.host, self.target.port):
            raise _Blocked("another host")
        loop = asyncio.get_running_loop()
        answers = await loop.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG)
        if not self.allowed and not all(is_public(str(sockaddr[0])) for *_, sockaddr in answers):
            raise _Blocked("not a public address")
        return [
            ResolveResult(
                hostname=host,
                host=str(sockaddr[0]),
                port=port,
                family=family,
                proto=proto,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for family, _, proto, _, sockaddr in answers
        ]

    async def close(self) -> None:
        pass


def connector(url: str, *, allow: Collection[str] | None = None) -> aiohttp.TCPConnector:
    """An aiohttp connector for this URL's host and port only; the address it connects to is the one it vetted.

    Raises Refused for a URL that no DNS answer could make good.
    """
    target = origin(url)
    allowed = is_allowed(target, allow)

    def vetted_socket(addr_info: tuple[Any, ...]) -> socket.socket:
        family, kind, proto, _, sockaddr = addr_info
        if not allowed and not is_public(str(sockaddr[0])):  # literal addresses never meet the resolver
            raise _Blocked("not a public address")
        return socket.socket(family, kind, proto)

    return aiohttp.TCPConnector(
        resolver=_VettedResolver(target, allowed=allowed),
        socket_factory=vetted_socket,
        limit=CONNECTIONS,
        keepalive_timeout=60,
    )


async def post(
    url: str, *, body: bytes, headers: Mapping[str, str], deadline_s: float = DEADLINE_S, most_bytes: int = MOST_BYTES
) -> Answer:
    """POST to a stranger's server, which is believed nothing: no redirect is followed, no cookie kept, nothing unpacked.

    An answer is there with its headers; its body is read as far as it comes until the deadline.
    Raises  Unreachable, when the deadline has come and never before: a refused connection, a blocked address, bad TLS and
            silence look the same and last the same (W-08, W-11)
    """
    loop = asyncio.get_running_loop()
    ends_at = loop.time() + deadline_s
    try:
        async with aiohttp.ClientSession(
            connector=connector(url),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            trust_env=False,
            timeout=aiohttp.ClientTimeout(total=None),
        ) as session:
            async with asyncio.timeout_at(ends_at):
                answer = await session.post(
                    URL(url, encoded=True),
                    data=body,
                    headers={"Accept-Encoding": "identity", **headers},
                    allow_redirects=False,
                )
            read = bytearray()
            with contextlib.suppress(aiohttp.ClientError, OSError):  # a TimeoutError is one
                async with asyncio.timeout_at(ends_at):
                    while len(read) < most_bytes and (piece := await answer.content.read(most_bytes - len(read))):
                        read += piece
            answer.close()
            return Answer(answer.status, answer.headers, bytes(read))
    except (aiohttp.ClientError, OSError, ValueError, Refused):  # ValueError: a URL or a header that aiohttp refuses
        await asyncio.sleep(ends_at - loop.time())
        raise Unreachable() from None
