"""`/api/docs/`: the REST API for people, drawn from its own description, with examples to copy and a form to try each call.

A member may have a key for an hour, for the demo model only: it stands in every example of the page it comes with, and
nowhere else, because the text of a key is kept by nobody.
"""

import functools
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db.models import F, Q
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts import keys
from accounts.access import BrandRequest, brand_member, public
from accounts.confirming import confirmed
from accounts.models import ApiKey
from chatsite.api_docs import examples
from chatsite.api_docs.description import METHODS, description, followed, resolved
from chatsite.api_keys import deeds
from lib import clock, html
from lib.errors import Unavailable
from providers.models import AIProvider

words_of = functools.cache(html.render)  # there are as many as the description has
KEY_LASTS = timedelta(hours=1)
NAME = "Try-it of /api/docs/"
NO_KEY = "sk_…"
SAMPLE_ID = "019aa1c2-7d3e-7c60-b5f4-0a1b2c3d4e5f"


@dataclass(frozen=True, slots=True)
class Field:
    """A line of a table: a parameter, or a field of a body or an answer."""

    name: str
    kind: str
    words: SafeString
    is_required: bool = False
    where: str = ""
    depth: int = 0
    example: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """One operation, ready to be drawn."""

    id: str
    method: str
    path: str
    title: str
    words: SafeString
    parameters: list[Field]
    body: list[Field]
    answer: list[Field]
    programs: dict[str, str]
    asked: str
    told: str
    status: str
    refusals: list[tuple[str, str, str]] = field(default_factory=list)


@public("the description of what is open to programs is no secret")
@require_safe
def page(request: HttpRequest) -> HttpResponse:
    return _page(request, "")


@brand_member
@require_POST
@confirmed
def key(request: BrandRequest) -> HttpResponse:
    """Make the key, and show the page with it in every example. The one before is over then."""
    who = request.principal
    for_an_hour = Q(expires_at__lte=F("created_at") + 2 * KEY_LASTS)  # no other key that somebody calls so
    for old in ApiKey.objects.filter(
        for_an_hour, brand_id=who.brand_id, user_id=who.owner_id, name=NAME, is_active=True
    ):
        deeds.revoke(who, old)
    demo = AIProvider.objects.filter(protocol="demo", is_active=True).values_list("api_identifier", flat=True)
    if not demo:
        raise Unavailable(_("There is no demo model here that a key could be tried with. Make a key in your settings."))
    scopes = [name for name in keys.SCOPES if name != keys.OWN]  # what is tried revokes no other key
    _row, text = deeds.make(request, name=NAME, scopes=scopes, models=list(demo), expires_at=clock.now() + KEY_LASTS)
    return _page(request, text)


def _page(request: HttpRequest, text: str) -> HttpResponse:
    root = f"{request.scheme}://{request.get_host()}"
    sections: dict[str, list[Told]] = {}
    slug = request.brand.slug  # type: ignore[attr-defined]
    for section, one in _operations(description(), root, text or NO_KEY, slug):
        sections.setdefault(section, []).append(one)
    context = {
        "brand": request.brand,  # type: ignore[attr-defined]
        "sections": sections,
        "languages": examples.LANGUAGES,
        "key": text,
        "root": root,
    }
    return render(request, "api_docs/page.html", context)


def _operations(described: dict[str, Any], root: str, key: str, slug: str) -> Iterator[tuple[str, Told]]:
    for path, operations in described["paths"].items():
        for method in METHODS:
            if method in operations:
                yield operations[method]["tags"][0], _told(described, root, key, slug, path, method, operations[method])


def _told(
    described: dict[str, Any], root: str, key: str, slug: str, path: str, method: str, operation: dict[str, Any]
) -> Told:
    asked = _example(operation.get("requestBody", {}))
    status, answer = next((status, said) for status, said in operation["responses"].items() if status < "300")
    told = _example(answer)
    parameters = [_parameter(row, slug) for row in operation.get("parameters", [])]
    ids = {row.name: row.example for row in parameters if row.where == "path"}
    query = {row.name: row.example for row in parameters if row.where == "query" and row.is_required}
    address = examples.address(root, path, ids, query)
    return Told(
        id=operation["operationId"],
        method=method.upper(),
        path=path,
        title=operation.get("summary", ""),
        words=words_of(operation.get("description", "")),
        parameters=parameters,
        body=list(_fields(described, _schema(operation.get("requestBody", {})))),
        answer=list(_fields(described, _schema(answer))),
        programs=examples.programs(method.upper(), address, key, asked),
        asked="" if asked is None else json.dumps(asked, indent=2, ensure_ascii=False),
        told="" if told is None else json.dumps(told, indent=2, ensure_ascii=False),
        status=status,
        refusals=[
            (status, said["$ref"].rpartition("/")[2], followed(described, said)["description"])
            for status, said in operation["responses"].items()
            if "$ref" in said
        ],
    )


def _parameter(row: dict[str, Any], slug: str) -> Field:
    schema = row["schema"]
    example = SAMPLE_ID if schema.get("format") == "uuid" else str(schema.get("default", ""))
    if not example and row["in"] == "path":
        example = slug
    if not example and row.get("required"):
        example = "towers"
    return Field(
        row["name"],
        _kind(schema),
        words_of(row.get("description", "")),
        row.get("required", False),
        row["in"],
        0,
        example,
    )


def _fields(described: dict[str, Any], schema: dict[str, Any], depth: int = 0) -> Iterator[Field]:
    own = resolved(described, schema)
    for name, inner in own.get("properties", {}).items():
        words = inner.get("description", "") or next(
            (one["description"] for one in inner.get("allOf", []) if "description" in one), ""
        )
        yield Field(name, _kind(inner), words_of(words), name in own.get("required", []), "", depth)
        if depth < 2:
            yield from _fields(described, inner, depth + 1)


def _kind(schema: dict[str, Any]) -> str:
    """A type in words of JSON."""
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in schema["enum"])
    if schema.get("type") == "array":
        return _("list of %s") % _kind(schema["items"])
    if "oneOf" in schema:
        return " | ".join(_kind(one) for one in schema["oneOf"])
    kind = schema.get("type", "object")
    return " | ".join(kind) if isinstance(kind, list) else schema.get("format") or kind


def _schema(said: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = said.get("content", {}).get("application/json", {}).get("schema", {})
    return found


def _example(said: dict[str, Any]) -> Any:
    named = said.get("content", {}).get("application/json", {}).get("examples", {})
    return next((one["value"] for one in named.values()), None)
