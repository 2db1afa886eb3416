"""Words as search compares them: without case, accents and points, whichever way they were typed.

The database has the same functions, `fold`, `spaced` and `searchable` (conversations/migrations), so that what is stored
and what is looked for are told apart by the same rules; a property test compares them. Their tables are written out here
because the two sides know different versions of Unicode and different locales.
"""

import re
import unicodedata

# Combining marks of Latin, Greek and Cyrillic, points of Hebrew, signs of Arabic and its stretched line.
MARKS = re.compile("[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1\u05c2\u05c4\u05c5\u05c7\u0640\u064b-\u0655\u0670]")
LETTERS = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ς": "σ", "ø": "o", "ł": "l", "đ": "d", "ı": "i"})
# What stands between words: control characters, punctuation of the scripts above, arrows, frames, what is no character.
BETWEEN = re.compile(
    "[\\x00-/:-@\\[-`{-\xa9\xab-\xb4\xb6-\xb9\xbb-\xbf\xd7\xf7\u05be\u05c0\u05c3\u060c\u061b\u061f\u066a-\u066d\u06d4"
    "\u0964\u0965\u2000-\u206f\u2190-\u25ff\u2e00-\u2e7f\u3000-\u3004\u3008-\u3020\u3030\ud800-\udfff\ufe00-\ufe0f"
    "\ufff0-\uffff]+"
)
# Scripts without spaces: each character is a word, and what is typed together is looked for side by side.
ALONE = re.compile(
    "([\u3041-\u3096\u30a1-\u30fa\u30fc\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff][\u3099\u309a]?)"
)


def fold(text: str) -> str:
    """Lower case, compatibility forms taken apart, marks stripped: "ﬁancé" and "FIANCE" are one word."""
    return MARKS.sub("", unicodedata.normalize("NFKD", text).lower()).translate(LETTERS)


def spaced(text: str) -> str:
    """The folded text with nothing but spaces between its words."""
    return ALONE.sub(r" \1 ", BETWEEN.sub(" ", fold(text)))


def words(text: str) -> list[str]:
    return spaced(text).split()
