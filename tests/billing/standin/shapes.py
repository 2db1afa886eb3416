"""Whether an object is one that the SDK's own class describes: no field it does not have, no value of another type."""

import types
import typing
from decimal import Decimal
from typing import Any, Literal, Union

import stripe
import typing_extensions
from stripe._list_object import ListObject
from stripe._object_classes import get_object_class
from stripe._stripe_object import StripeObject, UntypedStripeObject


def faults(body):
    return list(_object(body, get_object_class("V1", body["object"]), body["object"]))


def _hints(kind):
    spaces = {}
    for base in reversed(kind.__mro__):
        spaces |= {name: value for name, value in vars(base).items() if isinstance(value, type)}
    spaces |= {name: getattr(stripe, name) for name in dir(stripe) if name[0].isupper()}
    found = {}
    for name, hint in kind.__annotations__.items():
        try:
            found[name] = typing_extensions.get_type_hints(
                type("One", (), {"__annotations__": {name: hint}, "__module__": kind.__module__}), localns=spaces
            )[name]
        except NameError:
            found[name] = Any
    return found


def _object(body, kind, path):
    hints = _hints(kind)
    for name, value in body.items():
        if name not in hints:
            yield f"{path}.{name} is no field of the SDK's"
        else:
            yield from _value(value, hints[name], f"{path}.{name}")


def _value(value, hint, path):
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any or (value is None and type(None) in arguments):
        return
    if origin in (Union, types.UnionType):
        literals = [one for one in arguments if typing.get_origin(one) is Literal]
        left = literals if literals and isinstance(value, str) and str in arguments else arguments
        tried = [list(_value(value, one, path)) for one in left if one is not type(None)]
        if all(tried):
            yield from min(tried, key=len)
    elif origin is Literal:
        if value not in arguments:
            yield f"{path} is {value!r}, which the SDK does not know"
    elif origin in (list, ListObject):
        for item in value["data"] if origin is ListObject else value:
            yield from _value(item, arguments[0], f"{path}[]")
    elif origin is UntypedStripeObject or hint is UntypedStripeObject:
        if not isinstance(value, dict):
            yield f"{path} is no object"
    elif isinstance(hint, type) and issubclass(hint, StripeObject):
        if isinstance(value, dict):
            yield from _object(value, hint, path)
        else:
            yield f"{path} is {value!r}, and no object"
    elif hint in (str, int, bool, float, Decimal):
        kinds = {Decimal: (str, int), float: (float, int)}.get(hint, hint)
        if not isinstance(value, kinds) or (isinstance(value, bool) and hint is not bool):
            yield f"{path} is {value!r}, and no {hint.__name__}"
