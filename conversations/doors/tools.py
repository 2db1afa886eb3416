"""Tools that a program defines for a conversation once, in the words of any of the three protocols spoken here."""

from collections.abc import Mapping
from typing import Any

from conversations.doors import fields
from conversations.doors.messages_input import tool as of_messages


def tools(given: Any) -> tuple[Mapping[str, Any], ...]:
    """As providers.Call takes them. Raises BadField.

    Chat completions say {"type": "function", "function": {...}}, responses {"type": "function", "name", "parameters"},
    messages {"name", "input_schema"}.
    """
    listed = fields.listed("tools", given, fields.MOST_TOOLS)
    return fields.tools_named_once("tools", [_tool(f"tools[{number}]", each) for number, each in enumerate(listed)])


def _tool(where: str, given: Any) -> dict[str, Any]:
    told = fields.mapping(where, given)
    if "input_schema" in told or told.get("type") not in (None, "function"):
        return of_messages(where, told)
    if "function" in told:
        fields.known(told, ("type", "function"), where)
        return fields.function(f"{where}.function", told["function"])
    return fields.function(where, {name: told[name] for name in told if name != "type"})
