import unicodedata

import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.folding import fold, spaced, words

pytestmark = pytest.mark.django_db

# What the database's Unicode may know and Python's does not is no character yet.
ASSIGNED = st.characters(exclude_characters="\x00", exclude_categories=("Cs", "Cn", "Co"))
TYPED = st.text(ASSIGNED | st.sampled_from("İıẞßΣςσÉéĳﬁŁøאָּبّـが日本語-/_.'\"«»…\u200d\ufe0f🎉"), max_size=40)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Café NAÏVE", "cafe naive"),
        ("ﬁancé", "fiance"),
        ("STRASSE Straße", "strasse strasse"),
        ("İstanbul ıssız", "istanbul issiz"),
        ("ΟΔΟΣ οδός", "οδοσ οδοσ"),
        ("Łódź Ærø", "lodz aero"),
        ("שָׁלוֹם مُحَمَّد", "שלום محمد"),
        ("\uff26\uff35\uff2c\uff2c\u3000\uff11\uff12", "full 12"),
    ],
)
def test_what_is_typed_differently_is_the_same_word(text, folded):
    assert fold(text) == folded


def test_words_are_what_stands_between_signs():
    assert words("user_name@example.com/a-b: 3.14 “quoted”… don't") == [
        *("user", "name", "example", "com", "a", "b", "3", "14", "quoted", "don", "t")
    ]
    assert words("日本語のtext") == ["日", "本", "語", "の", "text"]
    assert words("\x00 \ud800 %_\\ ()&|!:*") == []


def test_the_database_folds_as_python_does(db):
    """What is stored and what is looked for meet, whatever was typed."""
    with connection.cursor() as cursor:

        @settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
        @given(TYPED)
        def same(text):
            cursor.execute("select fold(%s), spaced(%s)", [text, text])
            assert cursor.fetchone() == (fold(text), spaced(text))

        same()
        every = "".join(
            chr(code)
            for code in range(1, 0x30000)
            if unicodedata.category(chr(code)) not in ("Cs", "Cn", "Co")  # one by one: each letter of every alphabet
        )
        cursor.execute(
            "select letter from unnest(%s::text[], %s::text[]) said (letter, folded) where spaced(letter) <> folded",
            [list(every), [spaced(letter) for letter in every]],
        )
        assert cursor.fetchall() == []
