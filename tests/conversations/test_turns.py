"""begin() and finish() case by case: what is stored, what is held, what is charged, and what a refusal leaves: nothing."""

import re
from datetime import timedelta

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from accounts.idempotency import KeyReused
from accounts.models import IdempotencyRecord
from conversations.chats import reading
from conversations.engine import beginning, finishing, reaper, turns
from conversations.engine.charging import charge
from conversations.engine.turns import Question
from conversations.errors import StillAnswering, TooLong
from conversations.models import Conversation, Message, Turn
from events.models import Event
from lib.db import LEAVE, SERVICE, Principal, scope
from lib.errors import Invalid, NotFound
from providers import offers
from providers.calls import Usage, estimate_tokens
from providers.errors import CutOff
from providers.offers import NoPrice, NoSuchModel
from quotas.errors import QuotaExceeded
from quotas.models import Bucket, Entry, Hold
from tests import factories
from tests.quotas.proofs import entitle, numbers, prove


@pytest.fixture
def world(world):
    offers.forget()
    yield world
    offers.forget()
    prove(world)


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


def left() -> tuple[int, ...]:
    """Rows of everything that a turn makes."""
    with scope(SERVICE):
        return tuple(model.objects.count() for model in (Conversation, Message, Turn, Hold, IdempotencyRecord))


def finish(begun, *, status="done", text="Here you are.", usage=None, own=5, **fields):
    return finishing.finish(
        begun.turn_id,
        status=status,
        text=text,
        usage=usage,
        offer=begun.offer,
        own_prompt_tokens=begun.prompt_tokens,
        own_completion_tokens=own,
        held_tokens=begun.held_tokens,
        started_at=begun.started_at,
        **fields,
    )


def row(model, **which):
    with scope(SERVICE):
        return model.objects.get(**which)


# charge()

OWN = {"own_prompt_tokens": 30, "own_completion_tokens": 20, "held_tokens": 100}


@pytest.mark.parametrize(
    ("prompt", "completion", "charged"),
    [(10, 5, 15), (0, 1, 1), (1, 0, 1), (100, 0, 100), (60, 40, 100)],
)
def test_the_vendors_usage_counts_as_long_as_it_lies_within_the_hold(prompt, completion, charged):
    """Q-05"""
    due = charge(Usage(prompt, completion), **OWN)
    assert (due.tokens, due.source, due.is_odd, due.excess_tokens) == (charged, "provider", False, 0)


@pytest.mark.parametrize(
    ("prompt", "completion", "excess"),
    [
        (None, None, 0),
        (None, 5, 0),
        (5, None, 0),
        (0, 0, 0),
        (100, 1, 51),
        (1000, 0, 950),
        (1000, 1, 0),
        (2**31, 2**31, 0),
        (2**63, 2**63, 0),
        (10**30, 10**30, 0),
    ],
)
def test_odd_usage_is_replaced_by_our_own_count_and_a_believable_excess_is_the_houses(prompt, completion, excess):
    """Q-23"""
    due = charge(Usage(prompt, completion), **OWN)
    assert (due.prompt_tokens, due.completion_tokens, due.source, due.is_odd) == (30, 20, "own", True)
    assert due.excess_tokens == excess


def test_without_usage_we_count_ourselves_and_never_charge_more_than_was_held():
    """Q-06: the question counts too."""
    assert charge(None, **OWN).tokens == 50
    tight = charge(None, own_prompt_tokens=30, own_completion_tokens=500, held_tokens=100)
    assert (tight.prompt_tokens, tight.completion_tokens) == (30, 70)
    huge = charge(None, own_prompt_tokens=300, own_completion_tokens=1, held_tokens=100)
    assert (huge.prompt_tokens, huge.completion_tokens) == (100, 0)


@pytest.mark.parametrize("usage", [None, Usage(10, 0), Usage(10, 5), Usage(None, None)])
def test_when_nothing_arrived_nothing_is_charged_whatever_the_vendor_says(usage):
    """Q-08"""
    due = charge(usage, own_prompt_tokens=30, own_completion_tokens=0, held_tokens=100)
    assert (due.tokens, due.source, due.excess_tokens, due.has_arrived) == (0, "", 0, False)


@pytest.mark.parametrize(
    ("usage", "charged", "excess"),
    [
        (None, 0, 0),
        (Usage(None, None), 0, 0),
        (Usage(0, 0), 0, 0),
        (Usage(10, 0), 10, 0),
        (Usage(10, 50), 60, 0),
        (Usage(30, 100), 30, 100),  # beyond the hold: our own count, the rest is the house's
    ],
)
def test_an_answer_that_came_to_its_end_costs_what_the_vendor_counted_also_without_text(usage, charged, excess):
    """Q-05: a model may only have thought, or met a stop sequence at once."""
    due = charge(usage, own_prompt_tokens=30, own_completion_tokens=0, held_tokens=100, is_done=True)
    assert (due.tokens, due.excess_tokens, due.has_arrived) == (charged, excess, charged > 0)


# begin()


def test_a_new_chat_is_stored_with_its_question_an_empty_answer_and_a_hold(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="How do I bake **bread**?"))

    assert begun.is_new
    conversation = row(Conversation, pk=begun.conversation_id)
    assert (conversation.title, conversation.message_count, conversation.source) == (
        "How do I bake bread?",
        2,
        "website",
    )
    question, answer = row(Message, pk=begun.question_id), row(Message, pk=begun.answer_id)
    assert (question.role, question.content, question.status) == ("user", "How do I bake **bread**?", "done")
    assert (answer.role, answer.content, answer.status, answer.turn_id) == ("assistant", "", "pending", begun.turn_id)
    turn = row(Turn, pk=begun.turn_id)
    assert (turn.status, turn.held_tokens) == ("pending", begun.held_tokens)
    assert begun.held_tokens >= begun.prompt_tokens + begun.call.max_tokens
    assert numbers(world.act, world.act.pk, "tokens")[2] == begun.held_tokens
    assert numbers(world.act, world.alice.pk, "queries")[2] == 1


def test_a_refusal_for_quota_leaves_nothing(world, alice):
    """Q-02"""
    entitle(world.act, world.alice, ("queries", "day", 0))
    before = left()
    with pytest.raises(QuotaExceeded):
        beginning.begin(alice, world.act, Question(text="Hello?"), key="k")
    assert left() == before


def test_a_plan_that_is_bought_after_a_refusal_lets_the_same_request_through(world, alice):
    entitle(world.act, world.alice, ("queries", "day", 0))
    with pytest.raises(QuotaExceeded):
        beginning.begin(alice, world.act, Question(text="Hello?"), key="k")
    entitle(world.act, world.alice, ("queries", "day", 1))
    assert beginning.begin(alice, world.act, Question(text="Hello?"), key="k").call


def test_a_model_without_a_price_or_out_of_service_or_unknown_is_refused_and_leaves_nothing(world, alice):
    """Q-04"""
    unpriced = factories.make_provider("unpriced", priced=False)
    retired = factories.make_provider("retired", is_active=False)
    offers.forget()
    before = left()
    for model, refusal in ((unpriced.pk, NoPrice), (retired.pk, NoSuchModel), ("nobody", NoSuchModel)):
        with pytest.raises(refusal):
            beginning.begin(alice, world.act, Question(text="Hello?", model=model), key="k")
    assert left() == before


def test_foreign_ids_are_not_found_and_leave_nothing(world, alice):
    """I-05: a chat of another brand, of another member, one in the bin; a prompt of another brand."""
    theirs = factories.make_conversation(world.globex, world.charlie)
    bobs = factories.make_conversation(world.act, world.bob)
    binned = factories.make_conversation(world.act, world.alice)
    with scope(SERVICE):
        Conversation.objects.filter(pk=binned.pk).update(deleted_at=timezone.now())
    prompt = factories.make_prompt(world.globex, "Theirs")
    before = left()
    for conversation in (theirs, bobs, binned):
        with pytest.raises(NotFound):
            beginning.begin(alice, world.act, Question(text="Hello?", conversation_id=conversation.pk))
    with pytest.raises(NotFound):
        beginning.begin(alice, world.act, Question(text="Hello?", prompt_id=prompt.pk))
    assert left() == before


def test_who_is_no_member_begins_nothing(world):
    before = left()
    with pytest.raises(NotFound):
        beginning.begin(factories.member(world.act, world.charlie), world.act, Question(text="Hello?"))
    assert left() == before


def test_one_chat_has_one_running_turn(world, alice):
    first = beginning.begin(alice, world.act, Question(text="One?"))
    before = left()
    with pytest.raises(StillAnswering):
        beginning.begin(alice, world.act, Question(text="Two?", conversation_id=first.conversation_id), key="k")
    assert left() == before
    finish(first)
    assert beginning.begin(alice, world.act, Question(text="Two?", conversation_id=first.conversation_id), key="k").call


def test_what_does_not_fit_is_dropped_by_whole_turns_and_the_system_prompt_and_the_question_stay(world, alice):
    small = factories.make_provider("small", max_tokens=100, context_window=400)
    offers.forget()
    said = []
    for number in range(10):
        said += [("user", f"question {number} " * 8), ("assistant", f"answer {number} " * 8)]
    chat = factories.make_conversation(world.act, world.alice, said=said)

    asked = Question(text="And now?", conversation_id=chat.pk, model=small.pk, prompt_id=world.prompt.pk)
    begun = beginning.begin(alice, world.act, asked)

    messages = begun.call.messages
    assert messages[0] == {"role": "system", "content": "You are a helpful assistant."}
    assert messages[-1] == {"role": "user", "content": "And now?"}
    kept = [(message["role"], message["content"]) for message in messages[1:-1]]
    assert kept
    assert kept == said[-len(kept) :]
    assert kept[0][0] == "user"
    assert estimate_tokens(messages) + 100 <= 400
    assert len(begun.history) == len(kept)
    assert row(Turn, pk=begun.turn_id).sent["history"] == list(begun.history)


def test_a_chat_says_where_memory_begins_also_after_a_reload_and_nowhere_when_all_was_sent(world, alice, client):
    """H8: the newest answer decides; a model with more room takes the mark away."""
    small = factories.make_provider("small", max_tokens=100, context_window=400)
    offers.forget()
    said = [(role, f"{role} {number} " * 8) for number in range(10) for role in ("user", "assistant")]
    chat = factories.make_conversation(world.act, world.alice, said=said)
    client.force_login(world.alice)

    def marked():
        page = client.get(f"/c/{chat.pk}/", headers={"host": "act.localhost"}).content.decode()
        return re.findall(
            r'id="memory-begins">(?:(?!</li>).)*</li>\s*<li class="msg[^"]*" id="message-([^"]*)"', page, re.DOTALL
        )

    def ask(model):
        begun = beginning.begin(alice, world.act, Question(text="And now?", conversation_id=chat.pk, model=model.pk))
        finish(begun)
        return begun

    assert marked() == []
    begun = ask(small)
    assert begun.memory_begins == begun.history[0]
    assert marked() == [begun.history[0]]
    assert marked() == [begun.history[0]], "and after a reload"
    begun = ask(world.demo)
    assert len(begun.history) == len(said) + 2
    assert marked() == []


def test_a_question_that_cannot_fit_is_refused_and_leaves_nothing(world, alice):
    small = factories.make_provider("small", max_tokens=100, context_window=400)
    offers.forget()
    before = left()
    with pytest.raises(TooLong):
        beginning.begin(alice, world.act, Question(text="word " * 300, model=small.pk), key="k")
    assert left() == before


def test_the_same_key_gives_the_same_turn_another_body_is_refused_and_another_member_is_independent(world, alice):
    """Q-12"""
    question = Question(text="Once?")
    first = beginning.begin(alice, world.act, question, key="k")
    again = beginning.begin(alice, world.act, question, key="k")
    before = left()

    assert (again.turn_id, again.call) == (first.turn_id, None)
    assert (again.conversation_id, again.question_id, again.answer_id) == (
        first.conversation_id,
        first.question_id,
        first.answer_id,
    )
    for other in (Question(text="Twice?"), Question(text="Once?", conversation_id=first.conversation_id)):
        with pytest.raises(KeyReused):
            beginning.begin(alice, world.act, other, key="k")
    assert left() == before
    bob = beginning.begin(factories.member(world.act, world.bob), world.act, question, key="k")
    assert bob.call
    assert bob.turn_id != first.turn_id


def test_a_key_is_forgotten_after_a_day(world, alice):
    first = beginning.begin(alice, world.act, Question(text="Once?"), key="k")
    with scope(SERVICE):
        IdempotencyRecord.objects.update(created_at=timezone.now() - timedelta(hours=25))
    second = beginning.begin(alice, world.act, Question(text="Other?"), key="k")
    assert second.call
    assert second.turn_id != first.turn_id


# finish()


def test_finish_stores_charges_and_tells_once(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))

    finished = finish(begun, usage=Usage(12, 8, finish_reason="stop"))
    again = finish(begun, status="failed", text="Something else", usage=Usage(50, 50), error=CutOff())

    assert again is None
    assert (finished.status, finished.prompt_tokens, finished.completion_tokens) == ("done", 12, 8)
    assert finished.cost_microusd == 12 * 1 + 8 * 4
    answer = row(Message, pk=begun.answer_id)
    assert (answer.content, answer.status, answer.tokens_used, answer.cost_microusd) == (
        "Here you are.",
        "done",
        20,
        44,
    )
    assert row(Conversation, pk=begun.conversation_id).total_tokens_used == 20
    assert numbers(world.act, world.act.pk, "tokens")[1:] == (20, 0)
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (1, 0)
    news = row(Event, subject_id=begun.answer_id)
    assert (news.type, news.data["tokens"]) == ("message.completed", 20)


def test_what_failed_before_the_first_word_is_void_and_keeps_the_question(world, alice):
    """Q-08"""
    begun = beginning.begin(alice, world.act, Question(text="Keep this."))
    finished = finish(begun, status="failed", text="", own=0, error=CutOff())

    assert not finished.is_charged
    assert row(Message, pk=begun.question_id).content == "Keep this."
    answer = row(Message, pk=begun.answer_id)
    assert (answer.status, answer.error_code, answer.is_charged) == ("failed", "provider_cut_off", False)
    assert numbers(world.act, world.act.pk, "tokens")[1:] == (0, 0)
    assert row(Event, subject_id=begun.answer_id).type == "message.failed"


def test_what_the_vendor_counts_beyond_the_hold_is_the_houses(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))
    told = begun.held_tokens + 100
    finish(begun, usage=Usage(told, 0), own=5)

    charged = begun.prompt_tokens + 5
    assert numbers(world.act, world.act.pk, "tokens")[1:] == (charged, 0)
    assert row(Bucket, pocket="house").used == told - charged


def test_a_counter_beyond_two_to_the_31_goes_on(world, alice):
    """Q-25"""
    entitle(world.act, world.alice, ("queries", "day", None), ("tokens", "lifetime", 2**40))
    beginning.begin(alice, world.act, Question(text="Open the window."))
    with scope(SERVICE), connections["service"].cursor() as cursor:
        bucket = Bucket.objects.get(owner_id=world.alice.pk, meter="tokens")
        cursor.execute("update quotas_bucket set used = 2147483640 where id = %s", [bucket.pk])
        Entry.objects.bulk_create(
            [Entry(brand=world.act, owner_id=world.alice.pk, bucket=bucket, kind="use", used_delta=2147483640)]
        )
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))
    finish(begun, usage=Usage(50, 50))
    assert numbers(world.act, world.alice.pk, "tokens")[1] == 2147483740


def test_the_reaper_ends_what_has_no_heartbeat_and_leaves_the_rest(world, alice, settings):
    """Q-10"""
    settings.TURN_LOST_AFTER_S = 15
    dead = beginning.begin(alice, world.act, Question(text="Dead?"))
    alive = beginning.begin(alice, world.act, Question(text="Alive?"))
    turns.checkpoint([(dead.turn_id, "Half an ans", 3), (alive.turn_id, "Go", 1)])
    with scope(SERVICE):
        Turn.objects.filter(pk=dead.turn_id).update(heartbeat_at=timezone.now() - timedelta(seconds=16))

    assert (reaper.reap(), reaper.reap()) == (1, 0)

    answer = row(Message, pk=dead.answer_id)
    assert (answer.content, answer.status, answer.tokens_used) == ("Half an ans", "interrupted", dead.prompt_tokens + 3)
    assert finish(dead) is None
    assert row(Turn, pk=alive.turn_id).status == "streaming"
    finish(alive)


def test_an_answer_that_is_being_written_is_not_drawn_for_who_only_wants_to_know_how_far_it_is(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Tell me much."))
    turns.checkpoint([(begun.turn_id, "**Half** an ans", 3)])
    with scope(alice):
        text, message = reading.progress(alice, begun.turn_id)
    assert (text, message["status"], message["html"]) == ("**Half** an ans", "pending", "")

    finish(begun, text="**Half** an answer.")
    with scope(alice):
        text, message = reading.progress(alice, begun.turn_id)
    assert (text, message["status"]) == ("**Half** an answer.", "done")
    assert "<strong>Half</strong>" in message["html"]


def test_a_checkpoint_never_wakes_a_turn_that_has_ended(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))
    finish(begun)
    turns.checkpoint([(begun.turn_id, "late", 1)])
    turn = row(Turn, pk=begun.turn_id)
    assert (turn.status, turn.partial) == ("done", "")


@pytest.mark.parametrize("is_new", [True, False])
def test_a_signed_in_members_question_costs_at_most_ten_statements(world, client, is_new):
    """DESIGN 8: with session, user, brand and the scope's own, without BEGIN and COMMIT."""
    client.force_login(world.alice)
    headers = {"host": "act.localhost", "hx-request": "true"}
    chat = factories.make_conversation(world.act, world.alice, said=[("user", "Hi"), ("assistant", "Hello")])
    path = "/c/send/" if is_new else f"/c/{chat.pk}/send/"
    client.post("/c/send/", {"text": "The first in this window."}, headers=headers)

    with CaptureQueriesContext(connections["default"]) as asked:
        response = client.post(path, {"text": "Hello?", "idempotency_key": "k"}, headers=headers)

    assert response.status_code == 200
    of_the_test = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", LEAVE.strip())
    told = [query["sql"].strip() for query in asked if not query["sql"].strip().startswith(of_the_test)]
    begin = told[: next(n for n, sql in enumerate(told) if "insert into conversations_turn" in sql) + 1]
    print(f"\nbegin a turn in {'a new' if is_new else 'an old'} chat: {len(begin)} statements")
    assert len(begin) <= 10, begin


def test_a_checkpoint_names_the_turns_that_still_run_and_the_row_tells_how_the_others_ended(world, alice):
    """O-01: what the reaper took for dead must stop, and its reader hears the truth."""
    running = beginning.begin(alice, world.act, Question(text="Go on."))
    unwanted = beginning.begin(alice, world.act, Question(text="Enough."))
    reaped = beginning.begin(alice, world.act, Question(text="Be gone."))
    finish(reaped, status="interrupted", text="as far as", own=3)
    assert turns.ask_to_stop(alice, unwanted.turn_id)

    kept = turns.checkpoint(
        [(running.turn_id, "more", 1), (reaped.turn_id, "too late", 9), (unwanted.turn_id, "an", 1)]
    )

    assert kept == {running.turn_id: False, unwanted.turn_id: True}
    assert finishing.as_ended(running.turn_id, text="") is None
    told = finishing.as_ended(reaped.turn_id, text="")
    assert (told.status, told.text, told.is_charged) == ("interrupted", "as far as", True)


def test_whoever_was_taken_for_dead_still_brings_the_text_that_his_readers_saw(world, alice):
    """O-01: cut off from the database, while the reaper was not; the price stays what the reaper charged."""
    cut_off, over = (beginning.begin(alice, world.act, Question(text=text)) for text in ("Go on.", "Be brief."))
    finish(cut_off, status="interrupted", text="as far as", own=3)
    finish(over, status="done", text="brief", own=1)
    charged = finishing.as_ended(cut_off.turn_id, text="").completion_tokens

    told = [
        finishing.as_ended(cut_off.turn_id, text=text) for text in ("as far as it came", "as far", "else than before")
    ]

    assert [(one.status, one.text) for one in told] == [("interrupted", "as far as it came")] * 3
    assert {one.completion_tokens for one in told} == {charged}
    assert finishing.as_ended(over.turn_id, text="brief and more").text == "brief"


def test_what_a_model_does_not_know_is_refused_and_holds_nothing(world, alice):
    factories.make_provider("claude", protocol="anthropic", base_url="https://claude.example")
    asked = Question(messages=({"role": "user", "content": "Hi"},), model="claude", params={"seed": 7})

    with pytest.raises(Invalid, match="does not know seed"):
        beginning.begin(alice, world.act, asked)

    with scope(SERVICE):
        assert not Turn.objects.exists()
        assert not Hold.objects.exists()


def test_a_stop_is_asked_for_ones_own_running_answer_only_and_a_second_time_changes_nothing(world, alice):
    """I-08"""
    begun = beginning.begin(alice, world.act, Question(text="Go on."))
    strangers = [
        Principal("app_user", world.globex.pk, world.charlie.pk),
        Principal("app_user", world.act.pk, world.bob.pk),
        Principal("app_user", world.globex.pk, world.alice.pk),
    ]

    assert not any(turns.ask_to_stop(stranger, begun.turn_id) for stranger in strangers)
    assert asked_at(begun.turn_id) is None
    assert turns.ask_to_stop(alice, begun.turn_id)
    first = asked_at(begun.turn_id)
    assert turns.ask_to_stop(alice, begun.turn_id)
    assert asked_at(begun.turn_id) == first is not None
    finish(begun, status="stopped", text="as far as", own=3)
    assert not turns.ask_to_stop(alice, begun.turn_id)


def asked_at(turn_id):
    with scope(SERVICE):
        return Turn.objects.get(pk=turn_id).stop_asked_at


def test_a_member_goes_on_with_what_a_program_began_and_sees_its_tools_by_name(world, alice, client):
    """C10: a call with its result goes along; one without is left out, and the page says so."""
    chat = factories.make_conversation(world.act, world.alice, said=[("user", "Weather in Paris and Rome?")])
    calls = [{"id": f"c{n}", "name": name, "arguments": f'{{"n": {n}}}'} for n, name in ((1, "weather"), (2, "time"))]
    own = {"brand": world.act, "owner_id": world.alice.pk, "conversation": chat}
    with scope(alice):
        Message.objects.create(role="assistant", function_call={"calls": calls}, **own)
        Message.objects.create(role="function", content="Sunny.", function_call={"call_id": "c1"}, **own)
    client.force_login(world.alice)

    def page():
        return client.get(f"/c/{chat.pk}/", headers={"host": "act.localhost"}).content.decode()

    assert "Result of the tool weather" in page()
    assert page().count('<details class="tool">') == 3
    assert "No result of this call came" not in page(), "it may still come"
    begun = beginning.begin(alice, world.act, Question(text="And now?", conversation_id=chat.pk))
    finish(begun)
    assert [call["id"] for call in begun.call.messages[1]["tool_calls"]] == ["c1"]
    assert [message["role"] for message in begun.call.messages] == ["user", "assistant", "tool", "user"]
    told = page()
    assert told.count("No result of this call came") == 1
    assert told.index("Called the tool time") < told.index("No result of this call came") < told.index("Result of the")
