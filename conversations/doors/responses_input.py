"""What a program may ask for at /v1/responses. Strict, as everywhere: what cannot be honoured is refused by name."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from conversations.doors import fields
from conversations.doors.fields import BadField
from conversations.engine.turns import Question
from lib import strict_json
from lib.errors import NotFound

MOST_ITEMS = 2000
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1)}
NO_EFFECT = {"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
PLAIN: dict[str, tuple[Any, ...]] = {
    "background": (False,),
    "max_tool_calls": (),
    "prompt": (),
    "top_logprobs": (0,),
    "context_management": ([],),
}
KNOWN = {
    "model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text", "reasoning",
    "max_output_tokens", "previous_response_id", "conversation", "store", "metadata", "stream", "stream_options",
    "truncation", "include", *NUMBERS, *NO_EFFECT, *PLAIN,
}  # fmt: skip
TEXT_PARTS = ("input_text", "output_text", "text", "refusal")


@dataclass(frozen=True, slots=True)
class Wanted:
    question: Question
    is_stream: bool


def wanted(body: bytes) -> Wanted:
    """Parse and check a request's body. Raises Invalid, with the field's name as `param`."""
    asked = strict_json.read(body)
    fields.known(asked, KNOWN)
    fields.plain(asked, PLAIN)
    model = fields.model(asked)
    params: dict[str, Any] = fields.numbers(asked, NUMBERS)
    form, text_params = _text(asked.get("text"))
    effort = _effort(asked.get("reasoning"))
    params |= text_params | ({"reasoning_effort": effort} if effort else {})
    tools = _tools(asked.get("tools"))
    if tools and asked.get("parallel_tool_calls") is not None:
        params["parallel_tool_calls"] = fields.boolean("parallel_tool_calls", asked["parallel_tool_calls"])
    choice = asked.get("tool_choice")
    named = None
    if isinstance(choice, dict) and choice.get("type") == "function":
        fields.known(choice, ("type", "name"), "tool_choice")
        named = choice.get("name")
    tool_choice = fields.tool_choice(choice, tools, named)
    max_tokens = asked.get("max_output_tokens")
    if max_tokens is not None:
        fields.integer("max_output_tokens", max_tokens, 1, 2**31)
    instructions = asked.get("instructions")
    if instructions is not None:
        fields.text("instructions", instructions)
    for number, name in enumerate(fields.listed("include", asked.get("include") or [], 10)):
        fields.one_of(f"include[{number}]", name, ("reasoning.encrypted_content",))  # there is none here to include
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_obfuscation"}:
        raise BadField("stream_options", 'stream_options may hold "include_obfuscation".')
    truncation = fields.one_of("truncation", asked.get("truncation") or "disabled", ("auto", "disabled"))
    after, conversation_id = _continues(asked)
    is_stored = fields.boolean("store", asked.get("store", True) is None or asked.get("store", True))
    metadata = fields.metadata(asked.get("metadata"))
    question = Question(
        model=model,
        messages=_input(asked.get("input")),
        system=instructions or "",
        max_tokens=max_tokens,
        params=params,
        tools=tools,
        tool_choice=tool_choice,
        after=after,
        conversation_id=conversation_id,
        is_stored=is_stored,
        is_fitted=truncation == "auto",
        metadata=metadata,
        asked={
            "instructions": instructions,
            "max_output_tokens": max_tokens,
            "metadata": metadata,
            "parallel_tool_calls": params.get("parallel_tool_calls", True),
            "previous_response_id": asked.get("previous_response_id"),
            "reasoning": {"effort": effort or None, "summary": None},
            "store": is_stored,
            "temperature": params.get("temperature", 1.0),
            "text": form,
            "tool_choice": choice or "auto",
            "tools": [{"type": "function", "parameters": None, "strict": False, **tool} for tool in tools],
            "top_p": params.get("top_p", 1.0),
            "truncation": truncation,
        },
    )
    return Wanted(question, fields.boolean("stream", asked.get("stream")))


def turn_id_of(response_id: Any) -> UUID:
    """The turn that made a response. Raises NotFound for what is no id of ours."""
    return _id("resp_", response_id, "There is no such response here (any more).", "previous_response_id")


def _id(prefix: str, given: Any, unknown: str, param: str) -> UUID:
    text = given[len(prefix) :] if isinstance(given, str) and given.startswith(prefix) else ""
    if len(text) != 32 or not all(letter in "0123456789abcdef" for letter in text):
        raise NotFound(unknown, param=param)
    return UUID(hex=text)


def _continues(asked: Mapping[str, Any]) -> tuple[UUID | None, UUID | None]:
    previous, conversation = asked.get("previous_response_id"), asked.get("conversation")
    if previous is not None and conversation is not None:
        raise BadField("conversation", "Send previous_response_id or conversation, not both.")
    if previous is not None:
        return turn_id_of(fields.text("previous_response_id", previous)), None
    if conversation is None:
        return None, None
    if isinstance(conversation, dict):
        conversation = conversation.get("id")
    given = fields.text("conversation", conversation)
    return None, _id("conv_", given, "There is no such conversation here.", "conversation")


def _text(given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """What `text` asks for: as it is told again, and as parameters of a call."""
    if given is None:
        return {"format": {"type": "text"}}, {}
    told = fields.mapping("text", given)
    fields.known(told, ("format", "verbosity"), "text")
    params: dict[str, Any] = {}
    form: dict[str, Any] = {"type": "text"}
    if told.get("format") is not None:
        form = dict(fields.mapping("text.format", told["format"]))
        kind = fields.one_of("text.format.type", form.get("type"), ("text", "json_object", "json_schema"))
        if kind == "json_schema":
            schema = fields.json_schema("text.format", {name: form[name] for name in form if name != "type"})
            params["response_format"] = {"type": kind, "json_schema": schema}
            form = {"type": kind, **schema}
        else:
            fields.known(form, ("type",), "text.format")
            params |= {"response_format": {"type": kind}} if kind == "json_object" else {}
    if told.get("verbosity") is not None:
        params["verbosity"] = fields.one_of("text.verbosity", told["verbosity"], ("low", "medium", "high"))
        return {"format": form, "verbosity": params["verbosity"]}, params
    return {"format": form}, params


def _effort(given: Any) -> str:
    if given is None:
        return ""
    told = fields.mapping("reasoning", given)
    fields.known(told, ("effort",), "reasoning")
    if told.get("effort") is None:
        return ""
    return fields.one_of("reasoning.effort", told["effort"], ("none", "minimal", "low", "medium", "high", "xhigh"))


def _tools(given: Any) -> tuple[dict[str, Any], ...]:
    tools = []
    for number, tool in enumerate(fields.listed("tools", given or [], fields.MOST_TOOLS)):
        where = f"tools[{number}]"
        told = fields.mapping(where, tool)
        if told.get("type") != "function":
            kind = str(told.get("type"))[:60]
            raise BadField(
                f"{where}.type", f"{where}: tools of type {kind} do not run here; only functions of your own."
            )
        tools.append(fields.function(where, {name: told[name] for name in told if name != "type"}))
    return fields.tools_named_once("tools", tools)


def _input(given: Any) -> tuple[dict[str, Any], ...]:
    """Items as messages: the calls of one answer, which stand apart here, belong together there."""
    if isinstance(given, str):
        return ({"role": "user", "content": fields.text("input", given)},)
    messages: list[dict[str, Any]] = []
    is_open = False  # the last message is an assistant's that may have (more) calls
    for number, item in enumerate(fields.listed("input", given, MOST_ITEMS, least=1)):
        where = f"input[{number}]"
        told = fields.mapping(where, item)
        kind = told.get("type", "message")
        if kind == "reasoning":
            continue  # a model's thoughts are its vendor's own; nothing here could read them again
        if kind == "message":
            messages.append(_message(where, told))
            is_open = messages[-1]["role"] == "assistant"
        elif kind == "function_call":
            if not is_open:
                messages.append({"role": "assistant", "content": None})
                is_open = True
            messages[-1].setdefault("tool_calls", []).append(_function_call(where, told))
        elif kind == "function_call_output":
            fields.known(told, ("type", "id", "call_id", "output", "status"), where)
            output = told.get("output")
            if isinstance(output, list):
                output = _parts(f"{where}.output", "tool", output)
            content = fields.text(f"{where}.output", output)
            call_id = fields.text(f"{where}.call_id", told.get("call_id"), most=200)
            messages.append({"role": "tool", "content": content, "tool_call_id": call_id})
            is_open = False
        else:
            raise BadField(f"{where}.type", f"{where}: items of type {str(kind)[:60]} are not supported here.")
    if not messages:
        raise BadField("input", "input says nothing.")
    return tuple(messages)


def _message(where: str, told: Mapping[str, Any]) -> dict[str, Any]:
    fields.known(told, ("type", "id", "role", "content", "status", "phase"), where)
    role = ROLES[fields.one_of(f"{where}.role", told.get("role"), ROLES)]
    content = told.get("content")
    if isinstance(content, list):
        content = _parts(f"{where}.content", role, content)
    return {"role": role, "content": content if isinstance(content, list) else fields.text(f"{where}.content", content)}


def _function_call(where: str, told: Mapping[str, Any]) -> dict[str, Any]:
    fields.known(told, ("type", "id", "call_id", "name", "arguments", "status", "parsed_arguments"), where)
    return {
        "id": fields.text(f"{where}.call_id", told.get("call_id"), most=200),
        "type": "function",
        "function": {
            "name": fields.tool_name(f"{where}.name", told.get("name")),
            "arguments": fields.text(f"{where}.arguments", told.get("arguments")),
        },
    }


def _parts(where: str, role: str, given: list[Any]) -> str | list[dict[str, Any]]:
    parts = []
    for number, part in enumerate(given):
        at = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in TEXT_PARTS:
            name = "refusal" if kind == "refusal" else "text"
            parts.append({"type": "text", "text": fields.text(f"{at}.{name}", part.get(name))})
        elif kind == "input_image" and role == "user":
            parts.append(fields.image(f"{at}.image_url", part.get("image_url"), part.get("detail")))
        else:
            raise BadField(at, f"{at}: only text, and a user's images, can be sent; audio and files are not supported.")
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return "".join(part["text"] for part in parts)
