"""The one way to ask a model: stream(). Which key goes where: platform_key()."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from importlib import import_module
from typing import Any

import orjson
from django.conf import settings

from lib import egress
from lib.secret import Secret
from providers.shapes import Call, Embedding, Limits, Piece, ToolPiece, Usage, Vectors
from providers.vendors import ANTHROPIC_URL, OPENAI_URL, OPENROUTER_URL

__all__ = [
    "Call", "Embedding", "Limits", "ToolPiece", "Usage", "Vectors", "embed", "estimate_tokens", "has_images",
    "platform_key", "ready", "stream", "warm_up",
]  # fmt: skip

PROTOCOLS = {"openai", "anthropic", "demo"}  # each has an adapter of its name here
_ready: set[str] = set()


def _adapter(protocol: str) -> Any:
    if protocol not in PROTOCOLS:
        raise LookupError(protocol)
    return import_module(f"providers.{protocol}")


async def ready(protocol: str) -> None:
    """Have the adapter's SDK here before its first call. Importing one takes most of a second: not on the event loop."""
    if protocol not in _ready:
        await asyncio.to_thread(_adapter, protocol)
        _ready.add(protocol)


async def warm_up() -> None:
    """Have the SDKs here of those vendors that gave us a key, before anybody asks."""
    keys = {
        "openai": settings.OPENAI_API_KEY or settings.OPENROUTER_API_KEY,
        "anthropic": settings.ANTHROPIC_API_KEY,
    }
    for protocol, key in keys.items():
        if key:
            await ready(protocol)


def stream(
    call: Call, *, key: Secret | None, limits: Limits | None = None, alive: Callable[[], object] | None = None
) -> AsyncGenerator[Piece, None]:
    """Text and tool pieces, then exactly one Usage. Closing it closes the vendor's connection at once; nothing is retried.

    alive   called once, at the first sign that the model is at work: its first piece, or a thought, which is none
    Raises  ProviderError, also in the middle. The default limits are settings.PROVIDER_LIMITS.
    """
    pieces: AsyncGenerator[Piece, None] = _adapter(call.protocol).stream(
        call, key=key, limits=limits or Limits(**settings.PROVIDER_LIMITS), alive=alive
    )
    return pieces


async def embed(wanted: Embedding, *, key: Secret | None, limits: Limits | None = None) -> Vectors:
    """Vectors of texts, in one request that is never repeated. Raises ProviderError."""
    await ready(wanted.protocol)
    limits = limits or Limits(**settings.PROVIDER_LIMITS)
    vectors: Vectors = await _adapter(wanted.protocol).embed(wanted, key=key, limits=limits)
    return vectors


def estimate_tokens(
    messages: Iterable[Mapping[str, Any]], tools: Iterable[Mapping[str, Any]] = (), *, image_tokens: int = 0
) -> int:
    """An upper-leaning guess for a hold, never for a charge: 1 % low for English, twice too high for Russian.

    JSON has shorter tokens than prose: tools, their calls and their results count a token for three bytes.
    """
    return sum(_tokens(message, image_tokens) for message in messages) + sum(
        len(orjson.dumps(dict(tool))) // 3 + 8 for tool in tools
    )


def _tokens(message: Mapping[str, Any], image_tokens: int) -> int:
    content, tokens = message["content"], 4
    if isinstance(content, str):
        tokens += len(content.encode("utf-8", "replace")) // (3 if message.get("role") == "tool" else 4)
    else:
        for part in content or ():
            tokens += len(part["text"].encode("utf-8", "replace")) // 4 + 1 if part["type"] == "text" else image_tokens
    for name in ("name", "tool_call_id"):
        if said := message.get(name):
            tokens += len(said.encode("utf-8", "replace")) // 3 + 1
    for call in message.get("tool_calls") or ():
        said = call.get("id", "") + call["function"]["name"] + call["function"]["arguments"]
        tokens += len(said.encode("utf-8", "replace")) // 3 + 12
    return tokens


def has_images(messages: Iterable[Mapping[str, Any]]) -> bool:
    return any(
        part["type"] == "image_url"
        for message in messages
        if not isinstance(message["content"], str)
        for part in message["content"] or ()
    )


def lacks_key(protocol: str, base_url: str) -> bool:
    """Whether a vendor that lets nobody in without a key would be asked without one. An own server may need none."""
    homes = {"openai": settings.OPENAI_BASE_URL, "anthropic": settings.ANTHROPIC_BASE_URL}
    vendors = {"openai": OPENAI_URL, "anthropic": ANTHROPIC_URL}
    if protocol not in vendors or platform_key(protocol, base_url):
        return False
    needing = {egress.origin(url) for url in (*vendors.values(), OPENROUTER_URL)}
    return egress.origin(base_url or homes[protocol] or vendors[protocol]) in needing


def platform_key(protocol: str, base_url: str) -> Secret | None:
    """Our own key, for its vendor's own host or the host of the environment's *_BASE_URL; None for others (Q-27)."""
    homes = {
        "openai": [
            (settings.OPENAI_BASE_URL or OPENAI_URL, settings.OPENAI_API_KEY),
            (OPENAI_URL, settings.OPENAI_API_KEY),
            (OPENROUTER_URL, settings.OPENROUTER_API_KEY),
        ],
        "anthropic": [
            (settings.ANTHROPIC_BASE_URL or ANTHROPIC_URL, settings.ANTHROPIC_API_KEY),
            (ANTHROPIC_URL, settings.ANTHROPIC_API_KEY),
        ],
    }.get(protocol, [])
    for home, key in homes:
        if not base_url or egress.origin(base_url) == egress.origin(home):
            return Secret(key) if key else None
    return None
