"""What is sent to which model, within which bounds: decided before anything is held."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple
from uuid import UUID

from django.utils.translation import gettext as _

from accounts import brands
from conversations.engine import attachments, history, paying, tuning
from conversations.engine.abilities import require
from conversations.engine.handing_over import next_begun
from conversations.engine.history import Messages
from conversations.engine.tuning import Context
from conversations.engine.turns import Begun, Branch, Question
from conversations.errors import StillAnswering, TooLong, TooMuchSaid
from lib import clock
from lib.db import Principal
from lib.errors import Conflict, NotFound
from lib.figures import grouped
from lib.ids import uuid7
from providers import breaker, calls, fallback, own_keys
from providers.calls import Call
from providers.offers import offer

MOST_HISTORY = 400  # messages read back at most; what does not fit into the model's window is dropped anyway
MOST_SUMMARISED = 100  # of a chat that was too much to go on with, for the summary that a new one begins with
MOST_EXCHANGE = 4000  # of a program's, where nothing is dropped unless it says so
MOST_HISTORY_BYTES = 16 * 1024**2  # of either: pictures are large, and a fork copies them
TOOLS_TOKENS = 600  # held for what a vendor says around tools; Anthropic's words for them are up to 500
# Said after an answer that was cut off. No protocol of ours takes the beginning of an answer for its own any more: OpenAI's
# never did, and Anthropic's newer models refuse it.
GO_ON = (
    "Your answer was cut off. Go on from exactly where it ends, in its language and layout. Repeat "
    "nothing of it, and say "
    "nothing about going on."
)
PROMPT_MARGIN = 1.25  # the hold leans upwards: an estimate may be 6 % low for code or Chinese


def prepare(
    principal: Principal,
    question: Question,
    turn_id: UUID,
    loaded: Any,
    keys: Mapping[str, Any] | None,
    attached: Sequence[Any] = (),
) -> Begun:
    """The turn that `question` asks for, in the open scope. Raises what refuses it.

    loaded    the row of LOAD; None when nothing is gone on with
    keys      the asker's own
    attached  the rows of LOAD_FILES
    """
    settings: Mapping[str, Any] = question.settings
    tools: Sequence[Mapping[str, Any]] = question.tools
    title, system, rows = "", question.system or question.own_prompt, []
    model, prompt_id, conversation_id = question.model, question.prompt_id, question.conversation_id
    is_page = question.messages is None
    if loaded:
        if (conversation_id or question.after or question.branch or question.continues) and loaded.id is None:
            raise _no_such(question)
        if question.after and loaded.after_status == "pending":
            raise StillAnswering(_("The answer that this continues is still being written. Wait for it."))
        if loaded.history is None:
            raise TooMuchSaid(
                _(
                    "This conversation holds more than %(most)s MB of texts and pictures, too much to go "
                    "on with. Start a new one, and leave out pictures that are not needed any more."
                )
                % {"most": MOST_HISTORY_BYTES // 1024**2}
            )
        title, conversation_id, rows = loaded.title, loaded.id, loaded.history
        if _of_answer(question):
            model = model or loaded.beside_provider  # the one whose answer it is
        model, prompt_id = model or loaded.provider_id, prompt_id or loaded.system_prompt_id
        if prompt_id and loaded.prompt_text is None:
            raise NotFound(_("This prompt is not offered here (any more). Choose another one."))
        about = question.about
        if loaded.id:
            settings, about = (
                loaded.settings or {},
                Context(loaded.context_type, loaded.context_id, loaded.context_label),
            )
            tools = tools or settings.get("tools") or ()  # as a program defined them for this chat
        if not question.after:
            system = tuning.told(system or loaded.system_prompt or loaded.prompt_text or "", about)
        _require_branch(question, loaded)
        if question.continues:
            conversation_id, title = None, _("%(title)s, continued") % {"title": title}
    is_fork = bool(question.after and loaded.is_fork)  # what was said after that answer stays as it is
    is_stored = is_page or question.is_stored
    is_new = is_stored and (conversation_id is None or is_fork)
    said, new, asked, so_far = _told(question, rows, loaded)
    own_models = own_keys.payable(keys)
    withheld = brands.by_id(principal.brand_id).withheld_models
    chosen = offer(model, own=own_models, without=withheld, only=principal.models)
    told = {name: settings[name] for name in ("temperature", "top_p") if name in settings}
    if is_page:
        tuning.require(chosen, told if loaded and loaded.id else settings)
    own_key = own_keys.paying(principal, chosen, keys)
    max_tokens = min(question.max_tokens or settings.get("max_tokens") or chosen.max_tokens, chosen.max_tokens)
    file_text, files, last = "", list[dict[str, Any]](), new
    if question.attachments:
        room = chosen.context_window - max_tokens - calls.estimate_tokens((*new, {"content": system}))
        file_text, files = attachments.handed_over(attached, len(question.attachments), room)
    elif question.branch and question.branch.way == Branch.EDIT:
        file_text, files = loaded.file_text, loaded.files
    if files:
        last = ({"role": "user", "content": history.with_files(question.text, file_text)},)
    if files or any(row["file_text"] for row in rows):
        system = f"{system}\n\n{history.FILES_ARE_DATA}".strip()
    first: Messages = ({"role": "system", "content": system},) if system else ()
    is_cut = False
    if is_page or question.is_fitted:
        window = chosen.context_window // (2 if question.continues else 1)  # what was too long must not be so again
        budget = window - max_tokens - calls.estimate_tokens((), tools)
        whole = said
        said = history.fitting(first, whole, last, budget, chosen.image_tokens)
        is_cut = len(said) < len(whole) or len(rows) == MOST_HISTORY
    before = tuple(message for _, message in said)
    require(chosen, question.params, question.tool_choice, new, before)
    messages = (*first, *before, *last)
    prompt_tokens = calls.estimate_tokens(messages, tools, image_tokens=chosen.image_tokens)
    if schema := question.params.get("response_format"):
        prompt_tokens += calls.estimate_tokens((), (schema,))
    if prompt_tokens + max_tokens > chosen.context_window:
        raise TooLong(
            _(
                "This is too long for %(model)s: about %(tokens)s tokens, and it reads %(most)s with its answer. Shorten it, "
                "or choose a model that reads more; your text is kept."
            )
            % {"model": chosen.name, "tokens": grouped(prompt_tokens), "most": grouped(chosen.context_window)}
        )
    asked_for: dict[str, Any] = {**told, **question.params}
    ready = Begun(
        turn_id=turn_id,
        principal=principal,
        offer=chosen,
        call=Call(
            protocol=chosen.protocol,
            model=chosen.model,
            messages=messages,
            max_tokens=max_tokens,
            base_url=paying.address(chosen, own_key),
            params={**chosen.params, **asked_for},
            tools=tuple(tools),
            tool_choice=question.tool_choice,
        ),
        held_tokens=int(prompt_tokens * PROMPT_MARGIN) + max_tokens + (TOOLS_TOKENS if tools else 0),
        prompt_tokens=prompt_tokens,
        started_at=clock.now(),
        params=asked_for,
        own_key=own_key,
        own_models=own_models,
    )
    _refuse_if_it_rests(ready)
    if not is_stored:
        return ready
    copied = [history.copied(row) for row in rows] if is_fork else []
    question_id = uuid7() if is_page and not _of_answer(question) else None
    sent = [*(row_id for row_id, _ in said), *asked]
    stored = [] if is_page else [*copied, *(history.as_row(message, turn_id) for message in new)]
    went = [*sent, *([question_id] if question_id else ()), *(row["id"] for row in stored)]
    return replace(
        ready,
        conversation_id=uuid7() if is_new or conversation_id is None else conversation_id,
        question_id=question_id,
        files=files,
        file_text=file_text,
        said=stored,
        answer_id=uuid7(),
        parent_id=loaded.parent_id if question.branch else None,
        versions=loaded.versions + 1 if _of_answer(question) else 1,
        so_far=so_far,
        prompt_id=UUID(str(prompt_id)) if prompt_id else None,
        history=sent,
        memory_begins=str(went[0]) if is_cut and went and not question.continues else "",
        title=title or history.title_of(new) or _("New chat"),
        is_new=is_new,
        opens=is_new or not loaded.is_counted,
    )


def _of_answer(question: Question) -> bool:
    """Whether the question stands already, and another answer to it is wanted."""
    return question.branch is not None and question.branch.way != Branch.EDIT


def _require_branch(question: Question, loaded: Any) -> None:
    if question.branch is None:
        return
    if loaded.beside is None or loaded.role != ("assistant" if _of_answer(question) else "user"):
        raise NotFound(_("This message is not here (any more)."))
    if loaded.status == "pending":
        raise StillAnswering(_("This answer is still being written. Wait for it, or stop it first."), retry_after=2)
    if question.branch.way == Branch.ON and (loaded.is_deleted or not loaded.content):
        raise Conflict(_("There is nothing here to go on from. Ask for another answer instead."))
    if _of_answer(question) and (not loaded.history or loaded.history[-1]["is_deleted"]):
        raise Conflict(_("The question of this answer was deleted. Ask it anew."))


class _Told(NamedTuple):
    said: list[tuple[str, dict[str, Any]]]  # before, with the ids of the rows; the oldest may be dropped
    new: Messages  # never dropped
    asked: Sequence[str] = ()  # rows of what is new, where it stands already
    so_far: str = ""  # what the answer begins with


def _told(question: Question, rows: Sequence[Mapping[str, Any]], loaded: Any) -> _Told:
    is_whole = question.messages is not None and not any(row["is_deleted"] for row in rows)
    said = list(history.replayed(rows, is_trusted=is_whole))
    if question.messages is not None:
        return _Told(said, question.messages)
    if question.branch is None or question.branch.way == Branch.EDIT:
        return _Told(said, ({"role": "user", "content": question.text},))
    last = max((number for number, (_, message) in enumerate(said) if message["role"] == "user"), default=0)
    asked, new = [row_id for row_id, _ in said[last:]], tuple(message for _, message in said[last:])
    if question.branch.way == Branch.AGAIN:
        return _Told(said[:last], new, asked)
    so_far = history.cut_back(loaded.content)
    go_on = ({"role": "assistant", "content": so_far}, {"role": "user", "content": GO_ON})
    return _Told(said[:last], (*new, *go_on), [*asked, str(loaded.beside)], so_far)


def _no_such(question: Question) -> NotFound:
    if question.branch:
        return NotFound(_("This message is not here (any more)."))
    if question.messages is None:
        return NotFound(_("This chat is not here (any more)."))
    if question.after:
        return NotFound("There is no such response here (any more).", param="previous_response_id")
    return NotFound("There is no such conversation here (any more).", param="conversation")


def _refuse_if_it_rests(ready: Begun) -> None:
    """A model that rests is refused before anything is held, unless the brand's chain has one that can take over.

    With a member's own key nobody takes over.
    """
    assert ready.call is not None
    rest = paying.rest_of(ready.call, ready.own_key) if ready.own_key else fallback.rest_of(ready.offer)
    if rest is None:
        return
    if not ready.own_key and next_begun(
        ready, {ready.offer.id}, fallback.chain(ready.principal, ready.principal.brand_id)
    ):
        return
    refused = breaker.refusal(rest)
    refused.name(ready.offer.name)
    raise refused
