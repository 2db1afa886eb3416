"""The description of `/api/v1/` as OpenAPI, made from the code that answers; docs/openapi.yaml is its copy in the repo."""

import functools
from threading import Lock
from typing import Any

import yaml
from django.http import HttpRequest, HttpResponse
from django.utils import translation
from django.views.decorators.http import require_safe
from drf_spectacular.generators import SchemaGenerator

from accounts.access import public
from accounts.rest import as_json
from lib.errors import Invalid

METHODS = ("get", "post", "put", "patch", "delete")
_made: dict[str, Any] = {}
_making = Lock()  # one at a time: drf-spectacular keeps what it looks at on the view's class


def description() -> dict[str, Any]:
    """As OpenAPI 3.1; made once in a process."""
    with _making, translation.override("en"):
        if not _made:
            _made.update(SchemaGenerator().get_schema(public=True))
    return _made


def as_yaml(described: dict[str, Any]) -> str:
    text: str = yaml.dump(described, Dumper=_Plain, sort_keys=False, allow_unicode=True, width=120)
    return text


@functools.cache
def _yaml() -> str:
    """Written once in a process: a third of a second that anybody could ask for again and again."""
    return as_yaml(description())


class _Plain(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


_Plain.add_representer(
    str,
    lambda dumper, text: dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None),
)


def breaking(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What programs that were written for `before` would miss `now`, in words."""
    found = []
    for path, operations in before["paths"].items():
        for method in METHODS:
            if method not in operations:
                continue
            name = f"{method.upper()} {path}"
            if method not in now["paths"].get(path, {}):
                found.append(f"{name} is gone")
                continue
            old, new = (_Operation(root, root["paths"][path][method]) for root in (before, now))
            found += [f"{name}: {what}" for what in _missed(old, new)]
    return found


def _missed(old: "_Operation", new: "_Operation") -> list[str]:
    taken = old.parameters(), new.parameters()
    found = [f"the parameter {name} is not taken any more" for name in taken[0] if name not in taken[1]]
    found += [
        f"the parameter {name} has become required" for name in taken[1] if taken[1][name] > taken[0].get(name, False)
    ]
    asked = old.body(), new.body()
    found += [f"the field {name} is not taken any more" for name in asked[0] if name not in asked[1]]
    found += [
        f"the field {name} has become required" for name in asked[1] if asked[1][name] > asked[0].get(name, False)
    ]
    for status, fields in old.answers().items():
        if status not in new.answers():
            found.append(f"it does not answer {status} any more")
        else:
            found += [f"{status} tells no {name} any more" for name in fields if name not in new.answers()[status]]
    return found


class _Operation:
    """One operation of a description, with its references followed: names of fields, and whether they are required."""

    def __init__(self, root: dict[str, Any], operation: dict[str, Any]) -> None:
        self.root, self.operation = root, operation

    def parameters(self) -> dict[str, bool]:
        return {
            f"{row['in']} {row['name']}": row.get("required", False) for row in self.operation.get("parameters", [])
        }

    def body(self) -> dict[str, bool]:
        return self._fields(self.operation.get("requestBody", {}).get("content", {}))

    def answers(self) -> dict[str, dict[str, bool]]:
        told = self.operation["responses"].items()
        return {status: self._fields(said.get("content", {})) for status, said in told if status < "300"}

    def _fields(self, content: dict[str, Any]) -> dict[str, bool]:
        return fields(self.root, content.get("application/json", {}).get("schema", {}))


def followed(root: dict[str, Any], said: dict[str, Any]) -> dict[str, Any]:
    """A response, or the shared one that it names."""
    name = said.get("$ref", "").rpartition("/")[2]
    found: dict[str, Any] = root["components"]["responses"][name] if name else said
    return found


def resolved(root: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema, with its own reference followed; of a list, that of what stands in it."""
    while True:
        if "$ref" in schema:
            schema = root["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        elif "allOf" in schema:
            schema = schema["allOf"][0]
        elif of_object := next((one for one in schema.get("oneOf", []) if one.get("type") != "null"), None):
            schema = of_object
        elif schema.get("type") == "array":
            schema = schema["items"]
        else:
            return schema


def fields(root: dict[str, Any], schema: dict[str, Any], before: str = "") -> dict[str, bool]:
    """Every field, `settings.top_p` for what stands in another, and whether it is required."""
    found = {}
    own = resolved(root, schema)
    for name, inner in own.get("properties", {}).items():
        found[f"{before}{name}"] = name in own.get("required", [])
        found |= fields(root, inner, f"{before}{name}.")
    return found


@public("the description of what is open to programs is no secret")
@require_safe
def schema(request: HttpRequest) -> HttpResponse:
    """As JSON, or with `?format=yaml` as YAML."""
    form = request.GET.get("format", "json")
    if form == "yaml":
        return HttpResponse(_yaml(), content_type="application/yaml; charset=utf-8")
    if form != "json":
        raise Invalid("format is json or yaml.", param="format")
    return as_json(description())
