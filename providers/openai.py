"""OpenAI's chat completions: OpenAI itself, OpenRouter, vLLM, Ollama and whoever else speaks it."""

import asyncio
import base64
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Any
from uuid import uuid4

import httpx2
import openai
import orjson
from django.conf import settings

from lib import egress
from lib.secret import Secret
from providers import clients, framing
from providers.errors import CutOff, Garbled, ProviderError, refusal
from providers.shapes import (
    NAME_CHARS,
    NOTHING,
    Call,
    Embedding,
    Limits,
    Piece,
    ToolPiece,
    Usage,
    Vectors,
    Watch,
    clean,
)
from providers.vendors import OPENAI_URL

VECTOR_BYTES = 4096 * 24  # of one in an answer: as many numbers as the door lets anybody ask for, written out
ANSWER_BYTES = 64 * 1024  # of all the rest
THOUGHTS = ("reasoning_content", "reasoning", "reasoning_details")  # DeepSeek and vLLM; OpenRouter and Ollama
LIGHT = framing.is_light(openai.AsyncOpenAI, openai.AsyncStream)


async def stream(
    call: Call, *, key: Secret | None, limits: Limits, alive: Callable[[], object] | None = None
) -> AsyncGenerator[Piece, None]:
    base_url = call.base_url or settings.OPENAI_BASE_URL or OPENAI_URL
    client = clients.openai_client(base_url, key)
    raw: Mapping[str, Any] = NOTHING
    model, finish_reason, has_ended = "", "", False
    made = ToolCalls()
    with Watch(limits, alive) as watch:
        request = framing.Request(
            client=client,
            path="/chat/completions",
            body=body_of(call, base_url),
            stream_class=openai.AsyncStream[object],
            light=LIGHT,
            stock=lambda: client.chat.completions.create(**body_of(call, base_url), timeout=framing.timeout(watch)),
            key=key,
            errors=openai.OpenAIError,
        )
        async with aclosing(framing.events(request, watch)) as events:
            async for event in events:
                if event.get("error"):
                    raise refusal(event, key=key)
                if event is framing.DONE:
                    has_ended = True
                    continue
                try:
                    choices = event.get("choices")
                    if choices:
                        finish_reason = choices[0].get("finish_reason") or finish_reason
                        delta = choices[0].get("delta") or NOTHING
                        piece = delta.get("content") or delta.get("refusal")
                        if piece:
                            if not watch.has_text:
                                watch.text_came()
                            yield clean(piece)
                        if told := delta.get("tool_calls"):
                            if not watch.has_text:
                                watch.text_came()
                            for call_told in told:
                                yield made.piece(call_told)
                        elif not watch.has_text and any(delta.get(name) for name in THOUGHTS):
                            watch.text_came()  # it thinks: that is no text, and no silence either
                except (AttributeError, IndexError, KeyError, TypeError):
                    raise Garbled from None
                model = event.get("model") or model
                if event.get("usage"):
                    raw = event["usage"]
    if not finish_reason and not has_ended:
        raise CutOff
    yield usage_of(raw, model, finish_reason)


async def embed(wanted: Embedding, *, key: Secret | None, limits: Limits) -> Vectors:
    """One request, one answer. Raises ProviderError: Garbled also for an answer longer than its vectors can be."""
    base_url = wanted.base_url or settings.OPENAI_BASE_URL or OPENAI_URL
    client = clients.openai_client(base_url, key)
    body: dict[str, Any] = {"model": wanted.model, "input": list(wanted.inputs), "encoding_format": "base64"}
    if wanted.dimensions:
        body["dimensions"] = wanted.dimensions
    content = b""
    failure: ProviderError | None = None
    with Watch(limits) as watch:
        try:
            async with asyncio.timeout(limits.first_token_s):
                stream = await client.post(
                    "/embeddings",
                    body=body,
                    cast_to=object,
                    options={"timeout": framing.timeout(watch)},
                    stream=True,  # so that we are the one who reads
                    stream_cls=openai.AsyncStream[object],
                )
                try:
                    content = await _read(stream.response, ANSWER_BYTES + VECTOR_BYTES * len(wanted.inputs))
                finally:
                    await stream.close()
        except (openai.OpenAIError, *framing.NETWORK_ERRORS, TimeoutError) as error:
            failure = framing.translate(error, watch, has_begun=False, key=key)
    if failure is not None:  # raised here, so that no traceback leads to the SDK's request and its headers
        raise failure
    return await asyncio.to_thread(_vectors, content, len(wanted.inputs))  # millions of numbers take a while


async def _read(response: httpx2.Response, most_bytes: int) -> bytes:
    found = bytearray()
    async for piece in response.aiter_bytes():
        found += piece
        if len(found) > most_bytes:
            raise Garbled
    return bytes(found)


def _vectors(content: bytes, number: int) -> Vectors:
    """What stands in an answer. Raises Garbled, whatever it is that stands there."""
    try:
        told = orjson.loads(content)
        rows = sorted(told["data"], key=lambda row: row["index"])
        vectors = tuple(_base64(row["embedding"]) for row in rows)
        usage = usage_of({**(told.get("usage") or {}), "completion_tokens": 0}, told.get("model") or "", "stop")
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError, struct.error):
        raise Garbled from None
    if len(vectors) != number:
        raise Garbled
    return Vectors(vectors, usage)


def _base64(vector: str | list[float]) -> str:
    """Some servers know no base64 and send numbers. Raises TypeError, ValueError and more for what is no vector."""
    if isinstance(vector, list):
        packed, written = struct.pack(f"<{len(vector)}f", *vector), ""
    else:
        packed, written = base64.b64decode(vector, validate=True), vector
    if not packed or len(packed) % 4:
        raise ValueError
    return written or base64.b64encode(packed).decode()


def body_of(call: Call, base_url: str) -> dict[str, Any]:
    # OpenAI's own reasoning models refuse max_tokens; most others know nothing else.
    own = egress.origin(base_url) == egress.origin(OPENAI_URL)
    body = {
        **call.params,
        "model": call.model,
        "messages": [
            {name: value for name, value in message.items() if name != "is_error"} for message in call.messages
        ],
        "max_completion_tokens" if own else "max_tokens": call.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    if call.tools:
        body["tools"] = [{"type": "function", "function": tool} for tool in call.tools]
    if call.tool_choice.startswith("="):
        body["tool_choice"] = {"type": "function", "function": {"name": call.tool_choice[1:]}}
    elif call.tool_choice:
        body["tool_choice"] = call.tool_choice
    return body


class ToolCalls:
    """The tool calls of one answer, as servers really send them.

    OpenAI numbers them by `index` and names each once. Others leave the index out, give every call the same one, repeat
    names and ids, give no id at all, or send the arguments as an object.
    """

    def __init__(self) -> None:
        self.ids: list[str] = []  # by our index
        self.theirs: dict[object, int] = {}  # their index -> ours, of the call it means now

    def piece(self, told: Mapping[str, Any]) -> ToolPiece:
        function = told.get("function") or NOTHING
        given_id, name = (
            clean(str(told.get("id") or ""))[:NAME_CHARS],
            clean(str(function.get("name") or ""))[:NAME_CHARS],
        )
        arguments = function.get("arguments") or ""
        if not isinstance(arguments, str):
            arguments = orjson.dumps(arguments).decode()
        number = told.get("index")
        if given_id in self.ids:
            index = self.ids.index(given_id)
        elif number in self.theirs and not (given_id and name):
            index = self.theirs[number]
        elif number is None and self.ids and not name:
            index = len(self.ids) - 1
        else:
            index = len(self.ids)
            self.ids.append(given_id or f"call_{uuid4().hex[:24]}")
            self.theirs[number] = index
            return ToolPiece(index, self.ids[index], name, clean(arguments))
        return ToolPiece(index, arguments=clean(arguments))


def usage_of(raw: object, model: object, finish_reason: object) -> Usage:
    numbers: Mapping[str, Any] = raw if isinstance(raw, dict) else {"usage": raw} if raw else NOTHING
    return Usage(
        prompt_tokens=framing.count(numbers.get("prompt_tokens")),
        completion_tokens=framing.count(numbers.get("completion_tokens")),
        model=clean(str(model))[:NAME_CHARS],
        finish_reason=clean(str(finish_reason))[:NAME_CHARS],
        raw=numbers,
    )
