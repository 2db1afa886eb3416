"""POST /v1/embeddings: texts in, vectors out. One hold, one call of the vendor, one bill; nothing else is kept.

A request of many texts counts as one question, and its tokens as they are. It is short, so a program that hangs up
changes nothing: the call ends, and is settled by what it took.
"""

import asyncio
import base64
import struct
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from accounts import brands
from accounts.access import key_holder
from conversations.doors import errors, exchange, fields
from conversations.doors.exchange import SCOPE, door
from conversations.doors.fields import BadField
from conversations.engine import beginning, finishing, paying, runner, turns
from conversations.engine.turns import Begun, Finished
from conversations.models import Turn
from lib import strict_json
from lib.db import Principal, db
from providers import breaker, calls, own_keys
from providers.calls import Embedding, Vectors
from providers.errors import ProviderError
from providers.models import ProviderKey
from providers.offers import Offer, offer

MOST_INPUTS = 2048
MOST_DIMENSIONS = 4096
MOST_TOKEN = 2**31
NO_EFFECT = {"user"}
KNOWN = {"model", "input", "dimensions", "encoding_format", *NO_EFFECT}

_running: set[asyncio.Task[tuple["Wanted", Begun, Vectors, Finished]]] = set()


@dataclass(frozen=True, slots=True)
class Wanted:
    offer: Offer
    inputs: tuple[str | list[int], ...]
    dimensions: int
    as_base64: bool


@door("POST", shape=errors.openai)
async def embeddings(request: HttpRequest) -> HttpResponseBase:
    runner.accept()
    embedding = asyncio.create_task(_embed(request))
    _running.add(embedding)  # a strong reference, also when the program has gone
    embedding.add_done_callback(_running.discard)
    wanted, begun, vectors, finished = await asyncio.shield(embedding)
    body = await asyncio.to_thread(_body, wanted, begun, vectors, finished)  # millions of numbers take a while to write
    return HttpResponse(body, content_type="application/json")


async def _embed(request: HttpRequest) -> tuple[Wanted, Begun, Vectors, Finished]:
    wanted, begun = await db(_begin, request)
    chosen = wanted.offer
    base_url = paying.address(chosen, begun.own_key)
    asked = Embedding(chosen.protocol, chosen.model, wanted.inputs, base_url, wanted.dimensions)
    calling = asyncio.ensure_future(_call(asked, begun.own_key))
    while not (await asyncio.wait([calling], timeout=settings.TURN_LOST_AFTER_S / 5))[0]:
        with suppress(Exception):  # one heartbeat may be missed
            await db(turns.checkpoint, [(begun.turn_id, None, 0)], by_the_clock=True)
    error = calling.exception()
    try:
        finished = await db(
            finishing.finish,
            begun.turn_id,
            by_the_clock=True,
            status=str(Turn.Status.FAILED if error else Turn.Status.DONE),
            text="",
            usage=None if error else calling.result().usage,
            error=error if isinstance(error, ProviderError) else runner.Bug() if error else None,
            offer=chosen,
            own_prompt_tokens=begun.prompt_tokens,
            own_completion_tokens=0,
            held_tokens=begun.held_tokens,
            started_at=begun.started_at,
            has_arrived=error is None,
        )
    except Exception as failure:  # not settled: the reaper gives the hold back
        raise errors.after_hold(failure, is_charged=False) from failure
    if error:
        raise errors.after_hold(error, is_charged=False) if isinstance(error, Exception) else error
    if finished is None:
        raise exchange.Lost("This took too long and was given up. Nothing was charged; try again.")
    return wanted, begun, calling.result(), finished


async def _call(asked: Embedding, own_key: ProviderKey | None) -> Vectors:
    key = paying.key_for(asked, own_key)
    try:
        with breaker.Attempt(asked.protocol, asked.base_url, asked.model, key) as attempt:
            vectors = await calls.embed(asked, key=key)
            attempt.answered()
    except ProviderError as failure:
        raise (await paying.failed(own_key, failure) if own_key else failure) from None
    paying.took(own_key)
    return vectors


def _begin(request: HttpRequest) -> tuple[Wanted, Begun]:
    principal = key_holder(request, SCOPE)
    keys = paying.keys_of(principal)
    wanted = _wanted(exchange.body_of(request), principal, own_keys.payable(keys))
    tokens = sum(
        len(item) if isinstance(item, list) else calls.estimate_tokens([{"content": item}]) for item in wanted.inputs
    )
    brand = brands.by_id(principal.brand_id)
    return wanted, beginning.begin_embedding(principal, brand, wanted.offer, prompt_tokens=tokens, keys=keys)


def _wanted(body: bytes, principal: Principal, own: Collection[UUID]) -> Wanted:
    asked = strict_json.read(body)
    fields.known(asked, KNOWN)
    withheld = brands.by_id(principal.brand_id).withheld_models
    chosen = offer(fields.model(asked), "embedding", own=own, without=withheld, only=principal.models)
    inputs = _inputs(asked.get("input"))
    if chosen.protocol == "demo" and any(isinstance(item, list) for item in inputs):
        raise BadField("input", f"{chosen.name} has no token numbers; send text.")
    dimensions = asked.get("dimensions")
    if dimensions is not None:
        fields.integer("dimensions", dimensions, 2, MOST_DIMENSIONS)
    form = fields.one_of("encoding_format", asked.get("encoding_format") or "float", ("float", "base64"))
    return Wanted(chosen, inputs, dimensions or 0, form == "base64")


def _inputs(given: Any) -> tuple[str | list[int], ...]:
    """A text, texts, the token numbers of one, or of several."""
    if isinstance(given, str) or (isinstance(given, list) and given and type(given[0]) is int):
        given = [given]
    inputs = []
    for number, item in enumerate(fields.listed("input", given, MOST_INPUTS, least=1)):
        where = f"input[{number}]"
        if isinstance(item, list):
            if not item or not all(type(token) is int and 0 <= token < MOST_TOKEN for token in item):
                raise BadField(where, f"{where} must be text or a list of token numbers.")
        elif not fields.text(where, item):
            raise BadField(where, f"{where} is empty.")
        inputs.append(item)
    return tuple(inputs)


def _body(wanted: Wanted, begun: Begun, vectors: Vectors, finished: Finished) -> bytes:
    rows = [
        b'{"object":"embedding","index":%d,"embedding":%s}'
        % (index, b'"%s"' % vector.encode() if wanted.as_base64 else orjson.dumps(_floats(vector)))
        for index, vector in enumerate(vectors.base64)
    ]
    told = {"prompt_tokens": finished.prompt_tokens, "total_tokens": finished.prompt_tokens}
    return b'{"object":"list","data":[%s],"model":%s,"usage":%s}' % (
        b",".join(rows),
        orjson.dumps(begun.offer.api_identifier),
        orjson.dumps(told),
    )


def _floats(vector: str) -> tuple[float, ...]:
    raw = base64.b64decode(vector)
    return struct.unpack(f"<{len(raw) // 4}f", raw[: len(raw) // 4 * 4])
