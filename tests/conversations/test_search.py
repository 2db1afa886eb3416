"""C4: search over titles and messages, as a person types it."""

import html
import re
from datetime import UTC, date, datetime, timedelta

import pytest
from django.utils.html import strip_tags

from accounts.models import Brand
from conversations.chats import search
from conversations.chats.excerpts import SHOWN, excerpt, marked
from conversations.chats.search import Filters, find, parse
from conversations.models import Conversation, Message
from lib.db import SERVICE, scope
from lib.errors import Invalid
from tests import factories


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


def chat(world, title, *said, owner=None, **fields):
    """A chat of alice's; questions and answers in turn."""
    user = owner or world.alice
    roles = ("user", "assistant")
    made = factories.make_conversation(
        world.act, user, title, said=[(roles[number % 2], text) for number, text in enumerate(said)]
    )
    with scope(factories.member(world.act, user)):
        Conversation.objects.filter(pk=made.pk).update(**{"last_message_at": datetime.now(UTC), **fields})
    return made


def titles(alice, typed, filters=None, after=""):
    with scope(alice):
        found = find(alice, parse(typed), filters, after=after).found
    return [html.unescape(strip_tags(row["title"])) for row in found]


def test_words_phrases_beginnings_and_what_is_left_out(world, alice):
    chat(world, "Trip", "When does the café in Zürich open?", "The CAFÉ opens at nine.")
    chat(world, "Notes", "Open the file src/café_menu.py", "Zürich is far")

    assert titles(alice, "cafe zurich") == ["Trip"]  # in one message
    assert titles(alice, "CAFÉ") == ["Notes", "Trip"]  # newest first
    assert titles(alice, '"open the file"') == ["Notes"]
    assert titles(alice, "café_menu.py") == ["Notes"]  # signs part words: they stand side by side
    assert titles(alice, "cafe -file") == ["Trip"]
    assert titles(alice, 'cafe -"opens at" -when') == ["Notes"]
    assert titles(alice, "zur") == ["Notes", "Trip"]
    assert titles(alice, "zur ") == []  # a word that has ended is whole
    assert titles(alice, '"zur"') == []


def test_scripts_without_spaces_and_points_above_letters(world, alice):
    chat(world, "Tokyo", "日本語の文章を書いてください", "אֲנִי שָׁלוֹם")

    for typed in ("文章", "日本", "שלום", "אני שלום"):
        assert titles(alice, typed) == ["Tokyo"]
    assert titles(alice, "章文") == []


def test_titles_come_first_then_words_that_stand_together(world, alice):
    chat(world, "Old", "red wooden house")
    chat(world, "Red house", "nothing here")
    chat(world, "Apart", "a house that is red")
    chat(world, "Together", "the red house")

    assert titles(alice, "red house") == ["Red house", "Together", "Apart", "Old"]


def test_one_row_for_each_chat_opens_at_its_best_message(world, alice):
    made = chat(world, "Long", "apple pie", "a pie of apple", "apple", "no fruit", "pie, apple")
    with scope(alice):
        (row,) = find(alice, parse("apple pie")).found
        best = Message.objects.get(content="apple pie", conversation=made)

    assert row["message_id"] == best.pk
    assert row["more"] == 2
    assert row["excerpt"] == "<mark>apple</mark> <mark>pie</mark>"
    assert not row["is_answer"]


def test_nobody_finds_what_is_not_theirs_or_no_longer_there(world, alice):
    """I-07: own rows only, also for an owner of the brand; never the bin."""
    chat(world, "secret of bob", "secret", owner=world.bob, pinned_at=datetime.now(UTC))
    chat(world, "secret in the bin", "secret", deleted_at=datetime.now(UTC))

    assert titles(alice, "secret") == []
    with scope(alice):
        assert search.instead(alice, parse("secert")) == ""  # nor is a word of theirs offered
    made = chat(world, "another way", "secret", "secret path")
    with scope(alice):
        Message.objects.filter(conversation=made).update(is_current=False)
    assert titles(alice, "path") == []  # on a version that is not shown
    bob = factories.member(world.act, world.bob)
    assert titles(bob, "secret") == ["secret of bob"]


def test_what_is_kept_for_no_day_is_in_no_search_unless_pinned(world, alice):
    """C8, as in the history."""
    chat(world, "loose apple", "x")
    chat(world, "pinned apple", "x", pinned_at=datetime.now(UTC))
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(retention_days=0)

    assert titles(alice, "apple") == ["pinned apple"]
    with scope(alice):
        assert [row["title"] for row in search.recent(alice)] == ["pinned apple"]


def test_filters(world, alice):
    old, new = datetime(2026, 1, 2, 23, 30, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)
    chat(world, "A word", "x", last_message_at=old, archived_at=old)
    chat(world, "B word", "x", last_message_at=new, model="demo")

    assert titles(alice, "word", Filters(archived=True)) == ["A word"]
    assert titles(alice, "word", Filters(archived=False)) == ["B word"]
    assert titles(alice, "word", Filters(model="demo")) == ["B word"]
    assert titles(alice, "word", Filters(since=date(2026, 2, 1))) == ["B word"]
    assert titles(alice, "word", Filters(until=date(2026, 1, 2))) == ["A word"]
    assert titles(alice, "word", Filters(until=date(2026, 1, 2), zone="Europe/Berlin")) == []  # there it was the 3rd
    assert titles(alice, "word", Filters(agent_id=world.act.pk)) == []


def test_pages_follow_each_other_without_gap_or_repeat(world, alice):
    now = datetime.now(UTC)
    for number in range(search.PAGE * 2 + 3):
        chat(
            world,
            f"word {number}" if number % 3 else f"{number}",
            "a word",
            last_message_at=now - timedelta(hours=number % 5),
        )
    seen, after = [], ""
    for _ in range(9):
        with scope(alice):
            results = find(alice, parse("word"), after=after)
        seen += [row["id"] for row in results.found]
        assert results.chats == search.PAGE * 2 + 3
        after = results.after
        if not after:
            break
    assert len(seen) == len(set(seen)) == search.PAGE * 2 + 3
    with scope(alice), pytest.raises(Invalid):
        find(alice, parse("word"), after="3_1_x")


def test_a_misspelt_word_is_mended_by_ones_own_words(world, alice):
    chat(world, "Garden", "How do I water my tomatoes and rhododendron?")

    with scope(alice):
        assert search.instead(alice, parse("rododendron")) == "rhododendron"
        assert search.instead(alice, parse("water Tomatos -snow")) == "water tomatoes -snow"
        assert search.instead(alice, parse("tomatoes snow")) == ""  # what is mended must find something
        assert search.instead(alice, parse("xyzzy")) == ""


HOSTILE = [
    *(
        "",
        " ",
        "-",
        '"',
        '"""',
        "()&|!:*<->",
        "a:* & b",
        "'; drop table x; --",
        "\\",
        "%_\\",
        "\x00",
        "a\x00b",
        "\ud800",
    ),
    *("🎉", "👩‍👩‍👧", "\u202eabc", "\u200b", "ﷺ", "a" * 300, "a " * 150, "b" * 10_000, "-word", "!!!", "*", "x*"),
    *(
        "ab & !cd | ef",
        "ab:A",
        "<script>alert(1)</script>",
        "né\u0301e",
        "\uff57ide",
        "١٢٣",
        "-" * 300,
        '"a" "b" -"c',
        "日",
    ),
]


def test_anything_may_be_typed(world, alice):
    """F-02, F-04, F-22: operators, nothing, too much; words or a sentence, never an error."""
    chat(world, "<b>Bold</b> \u202eRTL", "ab <script>alert(1)</script> & cd 🎉 100%_\\", "x' OR 1=1 --")
    for typed in HOSTILE:
        wanted = parse(typed)
        assert wanted.problem or wanted.terms or not typed.strip(" \x00\ud800"), typed
        with scope(alice):
            for row in find(alice, wanted).found:
                assert not re.search("<(?!/?mark>)", row["title"] + row["excerpt"])
            search.instead(alice, wanted)
    assert titles(alice, "script alert") == ["<b>Bold</b> \u202eRTL"]
    assert "characters" in parse("b" * 10_000).problem
    assert "words" in parse("ab " * 30).problem
    assert "two letters" in parse("a").problem
    assert parse("日").problem == ""


@pytest.mark.parametrize(
    ("text", "typed", "shown"),
    [
        ("The **Café** is `open`.", "cafe open", "The <mark>Café</mark> is <mark>open</mark>."),
        ("<i>x</i> & naïveté", "naive", "&lt;i&gt;x&lt;/i&gt; &amp; <mark>naïve</mark>té"),
        ("cafe\u0301 au lait", "café ", "<mark>cafe\u0301</mark> au lait"),
        ("Straße ﬁn", "strasse fin", "<mark>Straße</mark> <mark>ﬁn</mark>"),
        ("日本語の文章", "本語", "日<mark>本語</mark>の文章"),
        ("a concatenation of cats", "cat", "a concatenation of <mark>cat</mark>s"),
        ("nothing", "other", "nothing"),
    ],
)
def test_what_was_looked_for_is_marked_as_it_was_written(text, typed, shown):
    wanted = parse(typed)

    assert excerpt(text, wanted.terms, is_open=wanted.is_open) == shown


def test_an_excerpt_is_where_the_words_stand_together():
    filler = "lorem ipsum dolor sit amet " * 900
    text = f"alpha {filler} beta {filler} here alpha and beta meet. {filler}"

    shown = excerpt(text, parse("alpha beta ").terms)

    assert "here <mark>alpha</mark> and <mark>beta</mark> meet" in shown
    assert shown.startswith("… ")
    assert shown.endswith(" …")
    assert len(strip_tags(shown)) <= SHOWN + 4
    assert len(strip_tags(excerpt("w" * 5000, parse("ww").terms, is_open=True))) <= SHOWN + 4
    assert marked("Über <uns>", parse("uber").terms, is_open=True) == "<mark>Über</mark> &lt;uns&gt;"


def test_the_page_and_the_palette(world, client):
    made = chat(world, "Harbour", "ships & boats", "A boat.")
    client.force_login(world.alice, backend="django.contrib.auth.backends.ModelBackend")

    def get(path, status=200, **headers):
        response = client.get(path, headers={"host": "act.localhost", **headers})
        assert response.status_code == status, response.content[:500]
        return response.content.decode()

    page = get("/search/?q=boat")
    assert f"/c/{made.pk}/?message=" in page
    assert "A <mark>boat</mark>." in page
    assert "1 chat" in page
    part = get("/search/?q=boat", **{"HX-Request": "true"})
    assert "<html" not in part
    assert "<mark>" in part
    assert "Did you mean" in get("/search/?q=harbuor")
    assert "Type a word" in get("/search/")
    assert "not valid" in get("/search/?q=boat&since=yesterday", 400)
    assert "not here" in get("/search/?q=boat&after=1", 400)
    assert get("/search/?q=%00%ff%27&model=%00")
    assert "Harbour" in get("/search/palette/")
    listed = get("/search/palette/?q=boat")
    assert "Everything about “boat”" in listed
    assert "<dialog" not in listed
    assert "Plan and usage" in get("/search/palette/?q=plan")
