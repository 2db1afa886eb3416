"""GET /v1/models: what is on offer, in OpenAI's shape and Anthropic's at once: neither client minds the other's names."""

from datetime import UTC, datetime
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import brands
from accounts.access import key_holder
from conversations.doors import errors
from conversations.doors.exchange import SCOPE, as_json, door, made_at
from conversations.engine import paying
from lib.db import Principal, db, scope
from providers import own_keys
from providers.offers import NoSuchModel, offers


@door("GET", shape=errors.openai)
async def models(request: HttpRequest, identifier: str = "") -> HttpResponseBase:
    listed = await db(_models, request)
    if not identifier:
        ends = {"first_id": listed[0]["id"], "last_id": listed[-1]["id"]} if listed else {}
        return as_json({"object": "list", "data": listed, "has_more": False, **ends})
    for model in listed:
        if model["id"] == identifier:
            return as_json(model)
    raise NoSuchModel(f"The model {identifier[:80]} is not offered here. GET /v1/models lists those that are.")


def _models(request: HttpRequest) -> list[dict[str, Any]]:
    principal: Principal = key_holder(request, SCOPE)
    own = own_keys.payable(paying.keys_of(principal))
    withheld = brands.by_id(principal.brand_id).withheld_models
    with scope(principal):  # a key of somebody who left opens nothing
        return [
            {
                "id": row.api_identifier,
                "object": "model",
                "created": made_at(row.id),
                "owned_by": row.protocol,
                "kind": row.kind,
                "type": "model",
                "display_name": row.name,
                "created_at": f"{datetime.fromtimestamp(made_at(row.id), UTC):%Y-%m-%dT%H:%M:%SZ}",
            }
            for row in offers("chat", "embedding", own=own, without=withheld, only=principal.models)
        ]
