"""A turn: what is asked, what was begun, how it ended; and while it runs, its signs of life.

It is prepared (`preparing`) and begun (`beginning`), may be given to another model (`handing_over`), and is ended once
(`finishing`). What runs in between stands in `runner`, and who ends what nobody runs any more in `reaper`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from accounts import idempotency
from conversations.engine.history import Messages
from conversations.engine.statements import ASK_TO_STOP, CHECKPOINT, UNWELCOME
from conversations.engine.tuning import NOTHING, Context
from lib.db import SERVICE, Principal, opening, serve
from lib.logs import request_id
from providers.calls import Call
from providers.models import ProviderKey
from providers.offers import Offer


@dataclass(frozen=True, slots=True)
class Branch:
    """Where a question leaves what was said: beside this message, which stays as it is (ADR 8).

    EDIT beside a question, with another text; AGAIN beside an answer; ON beside an answer that was cut off, beginning with it
    """

    EDIT, AGAIN, ON = "edit", "again", "on"

    way: str
    message_id: UUID


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, already validated.

    model        id or api_identifier; None = the conversation's, else the first one offered
    messages     what a program says, in the shape of providers.Call; None = a page's `text` in a conversation
    after        the turn whose answer a program continues; with `conversation_id` it continues that one's end
    system       a program's instructions for this answer; no later one has them
    branch       of a page: instead of going on at the end of its conversation
    continues    of a page: a chat that is told to the model, as much of it as half a window holds, though what is asked
                 begins a new one
    is_stored    keep a program's messages and the answer as a conversation of its person
    is_fitted    drop the oldest messages of a program's conversation that do not fit, instead of refusing
    metadata     of a program, for the conversation
    attachments  files that go with a page's question, in their order
    asked        what a program said beside, kept with a stored turn to be told again
    settings     of a chat that is new: temperature, top_p, max_tokens; an old one has its own
    own_prompt   of a chat that is new: its own instructions, instead of the prompt's
    about        of a chat that is new: what the person is looking at
    """

    text: str = ""
    conversation_id: UUID | None = None
    model: UUID | str | None = None
    prompt_id: UUID | None = None
    messages: Messages | None = None
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = ""
    after: UUID | None = None
    system: str = ""
    branch: Branch | None = None
    continues: UUID | None = None
    is_stored: bool = False
    is_fitted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    attachments: tuple[UUID, ...] = ()
    asked: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict, repr=False)
    own_prompt: str = field(default="", repr=False)
    about: Context = field(default=NOTHING, repr=False)

    def fingerprint(self) -> str:
        """What makes two requests with one Idempotency-Key the same."""
        if self.messages is None:
            branch = tuple(each for each in (self.branch, self.continues) if each)
            chat = (dict(self.settings), self.own_prompt, self.about)
            beside = (*branch, *chat) if any(chat) else branch
            return idempotency.fingerprint(
                self.text, self.conversation_id, self.model, self.prompt_id, *beside, *self.attachments
            )
        return idempotency.fingerprint(self)


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that is stored and held, and may now run. `call` is None when the same request had begun it before."""

    turn_id: UUID
    principal: Principal
    offer: Offer
    call: Call | None
    held_tokens: int
    prompt_tokens: int
    started_at: datetime
    conversation_id: UUID | None = None
    question_id: UUID | None = None
    answer_id: UUID | None = None
    parent_id: UUID | None = None  # of what is beside another message
    versions: int = 1  # of the answer, which is the newest of them
    so_far: str = ""  # what the answer begins with: that of the one that it goes on from
    prompt_id: UUID | None = None
    history: Sequence[str] = ()  # ids of the messages sent along
    memory_begins: str = ""  # the first message sent, when earlier ones were left out; "": none was
    said: Sequence[Mapping[str, Any]] = ()  # rows of what a program said, to be stored
    files: Sequence[Mapping[str, Any]] = ()  # that go with the question, as its message names them
    file_text: str = ""  # and what they say, as the model is given it
    title: str = ""
    is_new: bool = False
    opens: bool = False  # it costs one of the plan's conversations: none of this chat's answers has cost it yet
    params: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, without the model's own defaults
    instead_of: str = ""  # name of the model that was asked first and could not answer
    attempts: Sequence[Mapping[str, Any]] = ()  # of a turn that was begun before: its calls that failed
    pocket: str = ""  # what pays for it, as reserve() said
    own_key: ProviderKey | None = None  # the member's, sealed: the vendor is paid with it, and nobody else is asked
    own_models: frozenset[UUID] = frozenset()  # all that the member's own keys pay for
    request_id: str = field(default_factory=request_id.get)  # of the request that asked


@dataclass(frozen=True, slots=True)
class Finished:
    """How a turn ended, as it stands in the database. Tokens are what was charged; all 0 when nothing had arrived."""

    status: str
    text: str
    is_charged: bool
    prompt_tokens: int
    completion_tokens: int
    cost_microusd: int
    finish_reason: str
    error_code: str
    error_detail: str
    seconds: float
    tool_calls: Sequence[Mapping[str, str]] = ()  # {"id", "name", "arguments"}
    cached_tokens: int = 0  # of the prompt's
    reasoning_tokens: int = 0  # of the answer's
    stop_sequence: str = ""  # the one that ended it, where the vendor says so


def checkpoint(changes: Sequence[tuple[UUID, str | None, int]]) -> dict[UUID, bool]:
    """Heartbeat of every live turn of this process, and the text of those that grew: one statement.

    changes  (turn, text so far or None when it did not grow or is not kept, tokens produced by own count)
    Returns  the turns that still run, and whether somebody asked another process to stop it; one that is missing was
             ended by the reaper, and must not go on
    """
    ids, texts, tokens = zip(*changes, strict=True)
    statement = (CHECKPOINT, {"ids": list(ids), "texts": list(texts), "tokens": list(tokens)})
    return {row.id: row.is_to_stop for row in serve(statement, lazily=True)[0]}


def ask_to_stop(principal: Principal, turn_id: UUID) -> bool:
    """Whichever process writes this answer, it stops: at its next checkpoint at the latest. False = it had ended."""
    names = {"turn": turn_id, "brand": principal.brand_id, "owner": principal.owner_id}
    return bool(serve((ASK_TO_STOP, names))[0])


def unwelcome(turn_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these running turns whose asker left the brand, or whose key is not in force any more (I-08, I-11)."""
    with opening(SERVICE, (UNWELCOME, {"ids": list(turn_ids)})) as (rows,):
        return [row.id for row in rows]
