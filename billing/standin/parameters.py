"""What the SDK sent, read back from its form encoding by the SDK's own types (`stripe.params`).

A name that the types do not have, a value of another type and a missing one are refused as Stripe refuses them, so that a
mistake of ours fails here as it would there.
"""

import functools
import re
import types
import typing
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, Union
from urllib.parse import parse_qsl

import typing_extensions
from stripe._request_options import RequestOptions
from stripe._stripe_context import StripeContext
from stripe._stripe_object import UntypedStripeObject

from billing.standin.refusals import Refusal, missing, not_here, unknown

KEY = re.compile(r"([^\[\]]+)((?:\[[^\[\]]+\])*)")
NAMES = {"Mapping": Mapping, "StripeContext": StripeContext}  # of the SDK's imports for type checkers only
ALWAYS_TAKEN = {"expand", "metadata"}


def tree(encoded: str) -> dict[str, Any]:
    """`a[b][0]=c` as {"a": {"b": {"0": "c"}}}."""
    root: dict[str, Any] = {}
    for key, value in parse_qsl(encoded, keep_blank_values=True, strict_parsing=bool(encoded)):
        found = KEY.fullmatch(key)
        if found is None:
            raise unknown(key)
        *path, last = [found[1], *re.findall(r"\[([^\[\]]+)\]", found[2])]
        here = root
        for name in path:
            here = here.setdefault(name, {})
            if not isinstance(here, dict):
                raise Refusal("Invalid object", param=key)
        here[last] = value
    return root


def read(encoded: str, params: Any, honours: frozenset[str]) -> dict[str, Any]:
    """The parameters as Python values.

    params   the SDK's TypedDict of this call
    honours  dotted paths that the call does something with; another one that Stripe would take is refused too
    """
    values = _object(tree(encoded), params, "")
    _refuse_ignored(values, honours, ())
    return values


@functools.cache
def fields(params: Any) -> dict[str, Any]:
    """Name and type of what the API takes; the SDK's own options (idempotency_key, headers) are no parameters."""
    hints = typing_extensions.get_type_hints(params, localns=NAMES)
    return {name: hint for name, hint in hints.items() if name not in RequestOptions.__annotations__}


def _object(values: dict[str, Any], params: Any, path: str) -> dict[str, Any]:
    known = fields(params)
    for name in values:
        if name not in known:
            raise unknown(_below(path, name))
    for name in params.__required_keys__:
        if name in known and name not in values:
            raise missing(_below(path, name))
    return {name: _value(value, known[name], _below(path, name)) for name, value in values.items()}


def _value(value: Any, hint: Any, path: str) -> Any:
    if typing.get_origin(hint) in (Union, types.UnionType):
        return _one_of(value, typing.get_args(hint), path)
    if typing_extensions.is_typeddict(hint):
        return _object(_container(value, path, "object"), hint, path)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (dict, UntypedStripeObject):
        items = _container(value, path, "object").items()
        return {name: item if item == "" else _value(item, arguments[-1], _below(path, name)) for name, item in items}
    if origin is list:
        entries = _container(value, path, "array")
        if list(entries) != [str(number) for number in range(len(entries))]:
            raise Refusal("Invalid array", param=path)
        return [_value(item, arguments[0], f"{path}[{number}]") for number, item in entries.items()]
    if isinstance(value, dict):
        raise Refusal(f"Invalid {'string' if hint is str else 'value'}: {value}", param=path)
    return _scalar(value, hint, path)


def _one_of(value: Any, hints: tuple[Any, ...], path: str) -> Any:
    if value == "" and any("" in typing.get_args(hint) for hint in hints if typing.get_origin(hint) is Literal):
        return ""
    choices = [hint for hint in hints if typing.get_origin(hint) is Literal and "" not in typing.get_args(hint)]
    # `Literal[...] | str` is how the SDK writes values that may grow; those that are known today are all we answer to.
    left = choices or [hint for hint in hints if typing.get_origin(hint) is not Literal]
    left += [hint for hint in hints if choices and hint is not str and typing.get_origin(hint) is not Literal]
    refusal = None
    for hint in left:
        try:
            return _value(value, hint, path)
        except Refusal as refused:
            refusal = refusal or refused
    assert refusal is not None
    raise refusal


def _scalar(value: str, hint: Any, path: str) -> Any:
    if typing.get_origin(hint) is Literal:
        if value not in typing.get_args(hint):
            allowed = ", ".join(str(one) for one in typing.get_args(hint))
            raise Refusal(f"Invalid {path}: must be one of {allowed}", param=path)
        return value
    if value == "":
        raise Refusal(
            f"You passed an empty string for '{path}'. We assume empty values are an attempt to unset a parameter; "
            f"however '{path}' cannot be unset.",
            code="parameter_invalid_empty",
            param=path,
        )
    if hint is str:
        return value
    if hint is bool:
        if value not in ("true", "false"):
            raise Refusal(f"Invalid boolean: {value}", param=path)
        return value == "true"
    if hint is int and not re.fullmatch(r"-?\d+", value):
        raise Refusal(f"Invalid integer: {value}", code="parameter_invalid_integer", param=path)
    try:
        return {int: int, float: float, Decimal: Decimal}[hint](value)
    except (ValueError, InvalidOperation):
        raise Refusal(f"Invalid decimal: {value}", param=path) from None


def _container(value: Any, path: str, word: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Refusal(f"Invalid {word}", param=path)
    return value


def _below(path: str, name: str) -> str:
    return f"{path}[{name}]" if path else name


def _refuse_ignored(value: Any, honours: frozenset[str], path: tuple[str, ...]) -> None:
    if path and (".".join(path) in honours or path[-1] in ALWAYS_TAKEN):
        return
    if isinstance(value, dict) and (value or not path):
        for name, item in value.items():
            _refuse_ignored(item, honours, (*path, name))
    elif isinstance(value, list):
        for item in value:
            _refuse_ignored(item, honours, path)
    else:
        raise not_here(".".join(path))
