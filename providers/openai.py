"""OpenAI's chat completions: OpenAI itself, OpenRouter, vLLM, Ollama and whoever else speaks it."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import openai
from django.conf import settings

from lib import egress
from lib.secret import Secret
from providers import clients, framing
from providers.errors import CutOff, Garbled, refusal
from providers.shapes import NAME_CHARS, NOTHING, Call, Limits, Piece, Usage, Watch, clean

VENDOR_URL = "https://api.openai.com/v1"
OPENROUTER_URL = "https://openrouter.ai/api/v1"
LIGHT = framing.is_light(openai.AsyncOpenAI, openai.AsyncStream)


async def stream(call: Call, *, key: Secret | None, limits: Limits) -> AsyncGenerator[Piece, None]:
    base_url = call.base_url or settings.OPENAI_BASE_URL or VENDOR_URL
    client = clients.openai_client(base_url, key)
    raw: Mapping[str, Any] = NOTHING
    model, finish_reason, has_ended = "", "", False
    with Watch(limits) as watch:
        request = framing.Request(
            client=client,
            path="/chat/completions",
            body=body_of(call, base_url),
            stream_class=openai.AsyncStream[object],
            light=LIGHT,
            stock=lambda: client.chat.completions.create(**body_of(call, base_url), timeout=framing.timeout(watch)),
            key=key,
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
                        piece = (choices[0].get("delta") or NOTHING).get("content")
                        if piece:
                            if not watch.has_text:
                                watch.text_came()
                            yield clean(piece)
                except (AttributeError, IndexError, KeyError, TypeError):
                    raise Garbled from None
                model = event.get("model") or model
                if event.get("usage"):
                    raw = event["usage"]
    if not finish_reason and not has_ended:
        raise CutOff
    yield usage_of(raw, model, finish_reason)


def body_of(call: Call, base_url: str) -> dict[str, Any]:
    # OpenAI's own reasoning models refuse max_tokens; most others know nothing else.
    own = egress.origin(base_url) == egress.origin(VENDOR_URL)
    return {
        **call.params,
        "model": call.model,
        "messages": call.messages,
        "max_completion_tokens" if own else "max_tokens": call.max_tokens,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def usage_of(raw: object, model: object, finish_reason: object) -> Usage:
    numbers: Mapping[str, Any] = raw if isinstance(raw, dict) else {"usage": raw} if raw else NOTHING
    return Usage(
        prompt_tokens=framing.count(numbers.get("prompt_tokens")),
        completion_tokens=framing.count(numbers.get("completion_tokens")),
        model=clean(str(model))[:NAME_CHARS],
        finish_reason=clean(str(finish_reason))[:NAME_CHARS],
        raw=numbers,
    )
