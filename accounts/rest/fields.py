"""What REST takes and tells, field by field. Strict: nothing is turned into what it is not, and nothing unknown is dropped.

A serializer of these is the one place where a shape is said: it reads what comes, writes what goes, and the description of
the API (`/api/schema/`) is made from it.
"""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from rest_framework import serializers
from rest_framework.fields import empty

DIGITS = re.compile(r"[0-9]{1,19}")


class Text(serializers.CharField):
    """A text, never a number that was made one. NUL and halves of surrogate pairs are refused."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"trim_whitespace": False, **options})

    def run_validation(self, data: Any = empty) -> Any:
        if data is not empty and not isinstance(data, str):
            self.fail("invalid")
        return super().run_validation(data)


class ShownOnce(Text):
    """A secret, in the answer that made it and in no other: what is kept for a repeat leaves it out."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"required": False, **options})


class Flag(serializers.BooleanField):
    """true or false, and no other word for it."""

    default_error_messages = {"invalid": "This must be true or false."}

    def to_internal_value(self, data: Any) -> bool:
        if not isinstance(data, bool):
            self.fail("invalid")
        return data


class Whole(serializers.IntegerField):
    """A whole number; in an address, its digits."""

    default_error_messages = {"invalid": "This must be a whole number."}

    def to_internal_value(self, data: Any) -> int:
        if isinstance(data, str) and isinstance(self.parent, Query) and DIGITS.fullmatch(data):
            return int(data)
        if isinstance(data, bool) or not isinstance(data, int):
            self.fail("invalid")
        return data


class Number(serializers.FloatField):
    """A number of JSON."""

    def to_internal_value(self, data: Any) -> float:
        if isinstance(data, bool) or not isinstance(data, int | float):
            self.fail("invalid")
        return data


class Id(serializers.UUIDField):
    """An id as we tell it."""

    def to_internal_value(self, data: Any) -> UUID:
        if not isinstance(data, str):
            self.fail("invalid", value=data)
        found: UUID = super().to_internal_value(data)
        return found

    def to_representation(self, value: Any) -> Any:
        return value  # the renderer writes it


class Moment(serializers.DateTimeField):
    """A moment, with its offset from UTC."""

    def to_representation(self, value: Any) -> Any:
        return value


class Free(serializers.JSONField):
    """Any object of JSON, told again as it is; at most `most_bytes` of it."""

    def __init__(self, *, most_bytes: int | None = None, **options: Any) -> None:
        super().__init__(**options)
        self.most_bytes = most_bytes

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, dict):
            raise serializers.ValidationError("This must be an object.")
        if self.most_bytes is not None and len(orjson.dumps(data)) > self.most_bytes:
            raise serializers.ValidationError(f"This may have {self.most_bytes:,} bytes at most.")
        return data

    def to_representation(self, value: Any) -> Any:
        return value


class Strict(serializers.Serializer[Any]):
    """An object of which every field is known. A field that says nothing (null) may stand, and is as if it were not there."""

    def to_internal_value(self, data: Any) -> dict[str, Any]:
        if not isinstance(data, Mapping):
            raise serializers.ValidationError("This must be an object.")
        given = {name: value for name, value in data.items() if value is not None}
        for name in given:
            if name not in self.fields:
                there_are = ", ".join(self.fields) or "none"
                raise serializers.ValidationError({name[:80]: f"Unknown. There are: {there_are}."})
        found: dict[str, Any] = super().to_internal_value(given)
        return found


class Query(Strict):
    """What may follow the question mark. What was not given has its `default`, or is not there."""


class Paged(Query):
    """A page of a list, and where it begins."""

    limit = Whole(min_value=1, max_value=200, default=50, help_text="How many at most.")
    after = Text(
        max_length=1000,
        required=False,
        help_text="Where the page before ended. The `Link` header says the whole address.",
    )


class NewestFirst(Query):
    """A page of a list whose ids sort by time."""

    limit = Whole(min_value=1, max_value=200, default=50)
    after = Id(required=False, help_text="The id of the last one of the page before.")


class Problem(serializers.Serializer[Any]):
    """Why a request was refused. `code` is for programs, `detail` for people; beside them stands what helps, by `code`."""

    code = serializers.CharField()
    detail = serializers.CharField()
    request_id = serializers.CharField()
    param = serializers.CharField(required=False, help_text="The field that is meant.")
    retry_after = serializers.IntegerField(required=False, help_text="Seconds; also in the `Retry-After` header.")


def first_problem(detail: Any, path: str = "") -> tuple[str, str]:
    """The first field that a ValidationError names, and what is wrong with it."""
    if isinstance(detail, Mapping):
        name, inner = next(iter(detail.items()))
        own = "" if name == "non_field_errors" else str(name)
        return first_problem(inner, ".".join(filter(None, (path, own))))
    if isinstance(detail, list):
        return first_problem(detail[0], path)
    return path, str(detail)
