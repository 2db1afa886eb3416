"""What goes to a vendor and what comes back, the same for every protocol."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Self

import orjson

from lib.secret import Secret

NAME_CHARS = 100  # of a model's name or a finish reason that a vendor sends back
NOTHING: Mapping[str, Any] = MappingProxyType({})
FROM_CACHE = "cache_read_input_tokens"  # Anthropic's name
THINKING_S = 300.0  # a model that was told to think may be silent for this long before its first token


def input_of(arguments: str) -> dict[str, Any]:
    """A call's arguments as the object that is wanted; what a model left unfinished goes along as it stands."""
    try:
        given = orjson.loads(arguments or "{}")
    except orjson.JSONDecodeError:
        given = None
    return given if isinstance(given, dict) else {"arguments": arguments}


def clean(text: str) -> str:
    """Text as PostgreSQL and UTF-8 can take it: no NUL, no half of a surrogate pair."""
    if text.isascii():
        return text.replace("\0", "") if "\0" in text else text
    return text.replace("\0", "").encode("utf-8", "replace").decode()


class OwnKey(Secret):
    """A member's own key on its way to its vendor. No client is kept for it; who must remember it remembers its mark."""

    __slots__ = ("mark",)

    def __init__(self, value: str, mark: bytes) -> None:
        super().__init__(value)
        self.mark = mark


@dataclass(frozen=True, slots=True)
class Call:
    """One question to one model.

    messages    in OpenAI's chat shape: {"role": "system" | "user" | "assistant" | "tool", "content": str | None}, an
                assistant's "tool_calls", a tool's "tool_call_id" and "is_error"; system first; a content with
                pictures is a list of OpenAI's text and image_url parts
    max_tokens  always sent, so that a hold is a true bound
    base_url    "" means the vendor's own, or the environment's
    params      temperature, top_p, stop, seed, response_format ...: already validated
    tools       {"name", "description", "parameters": JSON schema, "strict"}: what the model may call
    tool_choice "" leaves it to the vendor; "auto", "none", "required", or "=" and the name of the one tool it must call
    """

    protocol: str  # "openai", "anthropic" or "demo"
    model: str
    messages: tuple[dict[str, Any], ...]
    max_tokens: int
    base_url: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = ""

    @property
    def thinks(self) -> bool:
        """Whether the model is told to think first: OpenAI's say nothing while they do."""
        return self.params.get("reasoning_effort") not in (None, "none", "minimal")


@dataclass(frozen=True, slots=True)
class Embedding:
    """Texts to be turned into vectors by one model.

    inputs      texts, or lists of the model's own token numbers
    dimensions  0 leaves it to the model
    """

    protocol: str  # "openai" or "demo"
    model: str
    inputs: tuple[str | list[int], ...]
    base_url: str = ""
    dimensions: int = 0


@dataclass(frozen=True, slots=True)
class Vectors:
    """One vector for each input, in their order, as base64 of little-endian 32-bit floats; what it took stands beside."""

    base64: tuple[str, ...]
    usage: "Usage"


@dataclass(frozen=True, slots=True)
class ToolPiece:
    """A part of a tool call that the model makes: the first of an `index` brings id and name, all bring arguments.

    arguments   a piece of the JSON text, as it came: whole only when all pieces of the index are joined
    """

    index: int
    id: str = ""
    name: str = ""
    arguments: str = ""


@dataclass(frozen=True, slots=True)
class Usage:
    """What the vendor says it counted. A number it made up is None here and stands in `raw` as it came.

    `raw` is for the judge, not for the database: it may hold NaN and infinity, which no jsonb column takes.
    """

    prompt_tokens: int | None
    completion_tokens: int | None
    model: str = ""
    finish_reason: str = ""  # in OpenAI's words: stop, length, content_filter, tool_calls
    raw: Mapping[str, Any] = field(default_factory=dict)
    stop_sequence: str = ""  # the one of `stop` that ended the answer, where the vendor says so

    @property
    def cached_tokens(self) -> int:
        """Of the prompt, what the vendor says it read from its cache."""
        return _detail(self.raw, "prompt_tokens_details", "cached_tokens") or _whole(self.raw.get(FROM_CACHE))

    @property
    def reasoning_tokens(self) -> int:
        """Of the answer, what the vendor says the model thought and did not say."""
        return _detail(self.raw, "completion_tokens_details", "reasoning_tokens")


def _detail(raw: Mapping[str, Any], group: str, name: str) -> int:
    told = raw.get(group)
    return _whole(told.get(name)) if isinstance(told, Mapping) else 0


def _whole(number: object) -> int:
    return number if type(number) is int and 0 <= number < 2**31 else 0


Piece = str | ToolPiece | Usage  # what an adapter yields: text and tool calls as they come, then exactly one Usage


@dataclass(frozen=True, slots=True)
class Limits:
    connect_s: float = 5
    first_token_s: float = 30
    idle_s: float = 30
    total_s: float = 600
    thinking_s: float = THINKING_S  # instead of first_token_s where a model is told to think (see Call.thinks)


class Watch:
    """Ends a stream that keeps us waiting too long, and knows at which stage.

    One timer for the whole stream, moved only when it fires: a piece costs two attributes, not a timer.
    Only time spent waiting for the vendor counts as idle; a slow reader of ours is not the vendor's fault.
    """

    def __init__(self, limits: Limits, alive: Callable[[], object] | None = None) -> None:
        self.limits = limits
        self.alive = alive  # called once, at the first sign of life
        self.loop = asyncio.get_running_loop()
        self.now = self.loop.time
        self.started = self.now()
        self.waiting_since: float | None = self.started
        self.has_text = False
        self.stage = ""  # set when time is up
        self._end: Callable[[], object] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def calls(self, end: Callable[[], object]) -> None:
        """From now on, end() is called when time is up."""
        self._end = end
        self._check()

    def text_came(self) -> None:
        """The first token is here, though it may be of a thought: from now on the limit is the idle time."""
        self.has_text = True
        if self.alive is not None:
            self.alive()
        if self._timer is not None:
            self._timer.cancel()
            self._check()

    def due(self) -> tuple[float, str]:
        total = (self.started + self.limits.total_s, "total")
        if not self.has_text:
            return min((self.started + self.limits.first_token_s, "first token"), total)
        waiting_since = self.now() if self.waiting_since is None else self.waiting_since
        return min((waiting_since + self.limits.idle_s, "idle"), total)

    def _check(self) -> None:
        due, stage = self.due()
        if self.now() < due:
            self._timer = self.loop.call_at(due, self._check)
        elif self._end is not None:
            self.stage = stage
            self._end()
