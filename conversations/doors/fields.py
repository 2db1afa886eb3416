"""What every body of a program goes through. Strict: a field we cannot honour is refused, never dropped quietly."""

import binascii
import re
from collections.abc import Collection, Mapping
from typing import Any

from lib.errors import Invalid
from providers.offers import NoSuchModel

MOST_TOOLS = 128
TOOL_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
IMAGE_KINDS = {"image/png", "image/jpeg", "image/webp", "image/gif"}
WEB_ADDRESS = re.compile(r"https://[!-~]{1,2000}")


class BadField(Invalid):
    """A field of the request cannot be used."""

    code = "invalid_value"

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail, param=param)


def known(asked: Mapping[str, Any], names: Collection[str], where: str = "") -> None:
    """Refuse a field that nobody here knows; one that says nothing (null) may stand."""
    for name in asked:
        if name not in names and asked[name] is not None:
            param = f"{where}{'.' if where else ''}{name}"[:80]
            raise BadField(param, f"Unrecognized request argument supplied: {param}")


def plain(asked: Mapping[str, Any], allowed: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse fields that ask for more than the plain case."""
    for name, values in allowed.items():
        if asked.get(name) is not None and asked[name] not in values:
            raise BadField(name, f"{name} is not supported here; leave it out.")


def model(asked: Mapping[str, Any]) -> str:
    name = asked.get("model")
    if not isinstance(name, str) or not name or len(name) > 120:
        raise BadField("model", "model must name one of GET /v1/models.")
    if name.startswith("agent:"):
        raise NoSuchModel("Agents cannot be asked here yet. GET /v1/models lists the models that can.", param="model")
    return name


def text(name: str, value: Any, *, most: int | None = None) -> str:
    if not isinstance(value, str):
        raise BadField(name, f"{name} must be text.")
    if most is not None and len(value) > most:
        raise BadField(name, f"{name} may have {most:,} characters at most.")
    return value


def numbers(asked: Mapping[str, Any], ranges: Mapping[str, tuple[float, float]]) -> dict[str, float]:
    """Those of the named numbers that were given."""
    found = {}
    for name, (low, high) in ranges.items():
        if (value := asked.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise BadField(name, f"{name} must be a number from {low} to {high}.")
            found[name] = value
    return found


def integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadField(name, f"{name} must be a whole number from {low} to {high}.")
    return value


def boolean(name: str, value: Any) -> bool:
    if value not in (True, False, None) or (isinstance(value, int) and not isinstance(value, bool)):
        raise BadField(name, f"{name} must be true or false.")
    return bool(value)


def one_of(name: str, value: Any, allowed: Collection[str]) -> str:
    if not isinstance(value, str) or value not in allowed:
        raise BadField(name, f"{name} must be one of {', '.join(allowed)}.")
    return value


def listed(name: str, value: Any, most: int, *, least: int = 0) -> list[Any]:
    if not isinstance(value, list) or not least <= len(value) <= most:
        raise BadField(name, f"{name} must be a list of {least} to {most} entries.")
    return value


def mapping(name: str, value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadField(name, f"{name} must be an object.")
    return value


def function(where: str, given: Any) -> dict[str, Any]:
    """What a model may call: {"name", "description", "parameters", "strict"}, as far as given."""
    return _named_schema(where, given, "parameters")


def json_schema(where: str, given: Any) -> dict[str, Any]:
    """The schema an answer must fit, in the shape of chat completions' response_format.json_schema."""
    return _named_schema(where, given, "schema")


def _named_schema(where: str, given: Any, form: str) -> dict[str, Any]:
    told = mapping(where, given)
    known(told, ("name", "description", form, "strict"), where)
    made: dict[str, Any] = {"name": tool_name(f"{where}.name", told.get("name"))}
    for name, read in (("description", text), (form, mapping), ("strict", boolean)):
        if told.get(name) is not None:
            made[name] = read(f"{where}.{name}", told[name])
    return made


def tool_name(name: str, value: Any) -> str:
    if not isinstance(value, str) or not TOOL_NAME.fullmatch(value):
        raise BadField(name, f"{name} must have 1 to 64 letters, digits, underscores and dashes.")
    return value


def tools_named_once(name: str, tools: list[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    if len({tool["name"] for tool in tools}) < len(tools):
        raise BadField(name, f"{name}: two tools have the same name.")
    return tuple(tools)


def tool_choice(chosen: Any, tools: Collection[Mapping[str, Any]], named: Any) -> str:
    """providers.Call.tool_choice.

    named  the tool that an object form names, as its protocol says it; None = the value is no such object
    """
    if chosen is None:
        return ""
    if isinstance(chosen, str):
        one_of("tool_choice", chosen, ("none", "auto", "required"))
        if not tools and chosen == "required":
            raise BadField("tool_choice", "tool_choice requires a tool, but no tools were sent.")
        return chosen if tools else ""
    if named is None:
        raise BadField("tool_choice", 'tool_choice must be "none", "auto", "required" or name one function.')
    name = tool_name("tool_choice", named)
    if name not in {tool["name"] for tool in tools}:
        raise BadField("tool_choice", f"tool_choice names {name}, which is not among the tools.")
    return f"={name}"


def image(where: str, url: Any, detail: Any) -> dict[str, Any]:
    """A picture for a model that takes some. We fetch nothing: an https address is the vendor's to open."""
    if not isinstance(url, str):
        raise BadField(where, f"{where} must be an https address or a data: URL.")
    if url.startswith("data:"):
        kind, comma, data = url[5:].partition(";base64,")
        if not comma or kind not in IMAGE_KINDS:
            raise BadField(where, f"{where} must hold base64 of {', '.join(sorted(IMAGE_KINDS))}.")
        try:
            binascii.a2b_base64(data, strict_mode=True)
        except ValueError:
            raise BadField(where, f"{where} holds no valid base64.") from None
    elif not WEB_ADDRESS.fullmatch(url):
        raise BadField(where, f"{where} must be an https address or a data: URL.")
    part = {"url": url}
    if detail is not None:
        part["detail"] = one_of(f"{where}.detail", detail, ("auto", "low", "high"))
    return {"type": "image_url", "image_url": part}


def metadata(value: Any) -> dict[str, str]:
    """Up to 16 pairs of short texts, as OpenAI takes them."""
    if value is None:
        return {}
    pairs = mapping("metadata", value)
    if len(pairs) > 16:
        raise BadField("metadata", "metadata may hold 16 pairs at most.")
    for name, content in pairs.items():
        text("metadata", name, most=64)
        text(f"metadata.{name}", content, most=512)
    return pairs
