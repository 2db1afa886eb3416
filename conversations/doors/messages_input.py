"""What a program may ask for at /v1/messages. Strict as the vendor is: a field we cannot honour is refused by its name."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from conversations.doors import fields
from conversations.doors.fields import BadField
from conversations.engine.turns import Question
from lib import strict_json

MOST_MESSAGES = 2000
MOST_STOPS = 64
NUMBERS = {"temperature": (0, 1), "top_p": (0, 1)}
NO_EFFECT = {"metadata", "service_tier", "cache_control"}
# What may be sent, as long as it asks for nothing but the plain case.
PLAIN: dict[str, tuple[Any, ...]] = {
    "thinking": ({"type": "disabled"},),
    "container": (),
    "context_management": (),
    "diagnostics": (),
    "inference_geo": (),
    "mcp_servers": ([],),
    "speed": ("standard",),
}
OF_A_PROMPT = {"model", "messages", "system", "tools", "tool_choice", "output_config", *NUMBERS, *NO_EFFECT, *PLAIN}
KNOWN = OF_A_PROMPT | {"max_tokens", "stop_sequences", "stream", "top_k"}
# The same of the parts: the fields that say something, and those that may come along plain.
BLOCKS: dict[str, dict[str, tuple[Any, ...]]] = {
    "text": {"text": (), "citations": ([],)},
    "image": {"source": (), "transformations": ({},)},
    "tool_use": {"id": (), "name": (), "input": (), "caller": ({"type": "direct"},)},
    "tool_result": {"tool_use_id": (), "content": (), "is_error": ()},
}
ROLES = ("user", "assistant", "system")
BLOCKS_OF = {
    "user": ("text", "image", "tool_result"),
    "assistant": ("text", "tool_use"),
    "system": ("text",),
    "tool_result": ("text",),
}
TOOL: dict[str, tuple[Any, ...]] = {
    "name": (),
    "description": (),
    "input_schema": (),
    "strict": (),
    "eager_input_streaming": (True, False),
    "defer_loading": (False,),
    "allowed_callers": (["direct"],),
    "input_examples": ([],),
}
TOOL_CHOICES = {"auto": "auto", "any": "required", "none": "none", "tool": ""}
ID = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Message:
    question: Question
    is_stream: bool


def message(body: bytes) -> Message:
    """Parse and check a request's body. Raises Invalid, with the field's name as `param`."""
    asked = strict_json.read(body)
    fields.known(asked, KNOWN)
    params: dict[str, Any] = fields.numbers(asked, NUMBERS)
    if asked.get("top_k") is not None:
        params["top_k"] = fields.integer("top_k", asked["top_k"], 1, 2**31)
    if stops := _listed("stop_sequences", asked, MOST_STOPS):
        params["stop"] = [fields.text("stop_sequences", one) for one in stops]
    max_tokens = fields.integer("max_tokens", asked.get("max_tokens"), 1, 2**31)
    is_stream = fields.boolean("stream", asked.get("stream"))
    return Message(_question(asked, max_tokens=max_tokens, params=params), is_stream)


def counted(body: bytes) -> Question:
    """The same for count_tokens, whose body says nothing of the answer. Raises Invalid."""
    asked = strict_json.read(body)
    fields.known(asked, OF_A_PROMPT)
    return _question(asked, max_tokens=None, params={})


def _question(asked: dict[str, Any], *, max_tokens: int | None, params: dict[str, Any]) -> Question:
    fields.plain(asked, PLAIN)
    if asked.get("metadata") is not None:
        fields.known(fields.mapping("metadata", asked["metadata"]), {"user_id"}, "metadata")
    if (wanted_format := _format(asked.get("output_config"))) is not None:
        params["response_format"] = wanted_format
    told = _listed("tools", asked, fields.MOST_TOOLS)
    tools = fields.tools_named_once("tools", [tool(f"tools.{number}", each) for number, each in enumerate(told)])
    choice, is_parallel = _tool_choice(asked.get("tool_choice"), tools)
    if not is_parallel:
        params["parallel_tool_calls"] = False
    return Question(
        model=fields.model(asked),
        messages=(*_system(asked.get("system")), *_messages(asked.get("messages"))),
        max_tokens=max_tokens,
        params=params,
        tools=tools,
        tool_choice=choice,
    )


def _listed(name: str, asked: Mapping[str, Any], most: int) -> list[Any]:
    return [] if asked.get(name) is None else fields.listed(name, asked[name], most)


def _format(config: Any) -> dict[str, Any] | None:
    if config is None:
        return None
    fields.known(fields.mapping("output_config", config), {"format"}, "output_config")
    if (wanted := config.get("format")) is None:
        return None
    at = "output_config.format"
    fields.known(fields.mapping(at, wanted), {"type", "schema"}, at)
    fields.one_of(f"{at}.type", wanted.get("type"), ["json_schema"])
    schema = fields.mapping(f"{at}.schema", wanted.get("schema"))
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def _system(system: Any) -> Iterator[dict[str, Any]]:
    if system is not None and (text := _text("system", system, "system")):
        yield {"role": "system", "content": text}


def _messages(given: Any) -> Iterator[dict[str, Any]]:
    for number, told in enumerate(fields.listed("messages", given, MOST_MESSAGES, least=1)):
        where = f"messages.{number}"
        fields.known(fields.mapping(where, told), {"role", "content"}, where)
        role, content = fields.one_of(f"{where}.role", told.get("role"), ROLES), told.get("content")
        if role == "user":
            yield from _user(f"{where}.content", content)
        elif role == "assistant":
            yield _assistant(f"{where}.content", content)
        else:
            yield {"role": "system", "content": _text(f"{where}.content", content, "system")}


def _user(where: str, content: Any) -> Iterator[dict[str, Any]]:
    """The results of tools first, each as a message of its own, then what the user says."""
    if isinstance(content, str):
        yield {"role": "user", "content": fields.text(where, content)}
        return
    parts = []
    has_results = False
    for at, kind, block in _blocks(where, content, "user"):
        if kind == "tool_result":
            has_results = True
            result = {
                "role": "tool",
                "tool_call_id": _id(f"{at}.tool_use_id", block.get("tool_use_id")),
                "content": _text(
                    f"{at}.content", "" if block.get("content") is None else block["content"], "tool_result"
                ),
            }
            yield {**result, "is_error": True} if fields.boolean(f"{at}.is_error", block.get("is_error")) else result
        elif kind == "image":
            parts.append(_picture(f"{at}.source", block.get("source")))
        else:
            parts.append({"type": "text", "text": fields.text(f"{at}.text", block.get("text"))})
    if len(parts) == 1 and parts[0]["type"] == "text":
        yield {"role": "user", "content": parts[0]["text"]}
    elif parts or not has_results:
        yield {"role": "user", "content": parts or ""}


def _assistant(where: str, content: Any) -> dict[str, Any]:
    if isinstance(content, str):
        return {"role": "assistant", "content": fields.text(where, content)}
    texts, made = [], []
    for at, kind, block in _blocks(where, content, "assistant"):
        if kind == "text":
            texts.append(fields.text(f"{at}.text", block.get("text")))
            continue
        function = {
            "name": fields.tool_name(f"{at}.name", block.get("name")),
            "arguments": orjson.dumps(fields.mapping(f"{at}.input", block.get("input"))).decode(),
        }
        made.append({"id": _id(f"{at}.id", block.get("id")), "type": "function", "function": function})
    if not made:
        return {"role": "assistant", "content": "\n\n".join(texts)}
    return {"role": "assistant", "content": "\n\n".join(texts) or None, "tool_calls": made}


def _blocks(where: str, content: Any, of: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Where it stands, what it is and what it says, for each block of a content; only the kinds that may stand there."""
    if not isinstance(content, list):
        raise BadField(where, f"{where}: must be text or a list of blocks.")
    for number, block in enumerate(content):
        at = f"{where}.{number}"
        kind = block.get("type") if isinstance(block, dict) else None
        if not isinstance(kind, str) or kind not in BLOCKS_OF[of]:
            told = f"{kind[:80]} is" if isinstance(kind, str) else "this is"
            raise BadField(at, f"{at}: {told} not supported here. There may be: {', '.join(BLOCKS_OF[of])}.")
        _only(at, block, BLOCKS[kind])
        yield at, kind, block


def _only(at: str, given: dict[str, Any], known: Mapping[str, tuple[Any, ...]]) -> None:
    """Refuse what a block or a tool may not say. Whether it is cached changes no answer."""
    fields.known(given, {"type", "cache_control", *known}, at)
    for name, plain in known.items():
        if plain and given.get(name) is not None and given[name] not in plain:
            raise BadField(f"{at}.{name}", f"{at}.{name} is not supported here; leave it out.")


def _text(where: str, content: Any, of: str) -> str:
    """A content of text alone."""
    if isinstance(content, str):
        return fields.text(where, content)
    said = [fields.text(f"{at}.text", block.get("text")) for at, _, block in _blocks(where, content, of)]
    return "\n\n".join(said)


def _picture(at: str, source: Any) -> dict[str, Any]:
    told = fields.mapping(at, source)
    if fields.one_of(f"{at}.type", told.get("type"), ("base64", "url")) == "url":
        fields.known(told, {"type", "url"}, at)
        url = told.get("url")
        if isinstance(url, str) and url.startswith("data:"):
            raise BadField(f"{at}.url", f"{at}.url must be an https address; data goes into a base64 source.")
        return fields.image(f"{at}.url", url, None)
    fields.known(told, {"type", "media_type", "data"}, at)
    kind, data = (fields.text(f"{at}.{name}", told.get(name)) for name in ("media_type", "data"))
    return fields.image(f"{at}.data", f"data:{kind};base64,{data}", None)


def tool(at: str, given: Any) -> dict[str, Any]:
    """What a model may call, as providers.Call takes it. Raises BadField."""
    kind = fields.mapping(at, given).get("type")
    if kind not in (None, "custom"):
        told = f"{str(kind)[:80]} runs on Anthropic's servers or by its rules, and is not supported here"
        raise BadField(f"{at}.type", f"{at}.type: {told}; only custom tools are.")
    _only(at, given, TOOL)
    made: dict[str, Any] = {
        "name": fields.tool_name(f"{at}.name", given.get("name")),
        "parameters": fields.mapping(f"{at}.input_schema", given.get("input_schema")),
    }
    if made["parameters"].get("type", "object") != "object":
        raise BadField(f"{at}.input_schema", f'{at}.input_schema must be a schema of type "object".')
    if given.get("description") is not None:
        made["description"] = fields.text(f"{at}.description", given["description"])
    if given.get("strict") is not None:
        made["strict"] = fields.boolean(f"{at}.strict", given["strict"])
    return made


def _tool_choice(choice: Any, tools: Sequence[Mapping[str, Any]]) -> tuple[str, bool]:
    """Which tool must be called, in the words of providers.Call; and whether several may be called at once."""
    if choice is None:
        return "", True
    kind = fields.one_of("tool_choice.type", fields.mapping("tool_choice", choice).get("type"), TOOL_CHOICES)
    fields.known(choice, {"type", "disable_parallel_tool_use", *(["name"] if kind == "tool" else [])}, "tool_choice")
    if not tools and kind != "none":
        raise BadField("tool_choice", "tool_choice may only be given with tools.")
    is_single = fields.boolean("tool_choice.disable_parallel_tool_use", choice.get("disable_parallel_tool_use"))
    if kind == "tool":
        return fields.tool_choice(choice, tools, choice.get("name")), not is_single
    return fields.tool_choice(TOOL_CHOICES[kind], tools, None), not is_single


def _id(at: str, value: Any) -> str:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise BadField(at, f"{at} must be the id of a tool call: up to 200 visible ASCII characters.")
    return value
