"""Every language we offer is whole: no message without its translation, no placeholder lost, no stale compiled file.

Nothing here needs the programs of GNU gettext. Who changes a sentence runs `make messages`, which does.
"""

import ast
import gettext
import re
from pathlib import Path

import pytest
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext as get_text
from django.utils.translation.template import templatize

from lib.db import db

ROOT = settings.BASE_DIR
ROOMS = (
    "accounts",
    "agents",
    "billing",
    "chatsite",
    "conversations",
    "events",
    "knowledge",
    "lib",
    "providers",
    "quotas",
)
SINGLE, PLURAL = {"_", "gettext", "gettext_lazy"}, {"ngettext", "ngettext_lazy"}
CALL = re.compile(r"\b(ngettext|gettext|_)\(\s*(u?'(?:\\.|[^'\\])*'|u?\"(?:\\.|[^\"\\])*\")", re.S)
PLACEHOLDER = re.compile(r"%\(\w+\)[sd]|%%|%[sd]|</?\w+|\bhref=|\bclass=|[{}]")
LANGUAGES = [code for code, _name in settings.LANGUAGES if code != settings.LANGUAGE_CODE]


def of_python(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            name = ast.unparse(node.func).rpartition(".")[2]
            if name in SINGLE | PLURAL and node.args and isinstance(node.args[0], ast.Constant):
                yield node.args[0].value


def renamed(path):
    """Where gettext goes under a name that neither xgettext nor of_python() knows, what it says is never translated."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "django.utils.translation":
            yield from (
                f"{path.relative_to(ROOT)}: {name.name} as {name.asname}"
                for name in node.names
                if name.name in SINGLE | PLURAL and name.asname not in (None, "_")
            )


def of_template(path):
    """Django turns a template into something like Python for xgettext; its calls are ours to read."""
    for _name, text in CALL.findall(templatize(path.read_text(), origin=str(path))):
        yield ast.literal_eval(text)


def messages():
    found = {}
    for path in [path for room in ROOMS for path in sorted((ROOT / room).rglob("*.py"))]:
        found |= dict.fromkeys(of_python(path), path.relative_to(ROOT))
    for path in sorted((ROOT / "templates").rglob("*.*")):
        found |= dict.fromkeys(of_template(path), path.relative_to(ROOT))
    return {message: path for message, path in found.items() if message}


def translations(language):
    """What the .po says: [(message, plural or None, translations, flags)]."""
    text = (ROOT / "locale" / language / "LC_MESSAGES" / "django.po").read_text()
    for block in re.split(r"\n\s*\n", text):
        flags = re.findall(r"^#, (.*)$", block, re.M)
        fields = {}
        for name, value in re.findall(r'^(msg\w+(?:\[\d\])?) ((?:"(?:\\.|[^"\\])*"\s*)+)', block, re.M):
            fields[name] = "".join(ast.literal_eval(line) for line in value.split("\n") if line)
        if fields.get("msgid"):
            said = [value for name, value in fields.items() if name.startswith("msgstr")]
            yield fields["msgid"], fields.get("msgid_plural"), said, " ".join(flags)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_message_is_translated_and_every_translation_is_of_a_message(language):
    known = {message: said for message, _plural, said, flags in translations(language) if "fuzzy" not in flags}
    wanted = messages()

    missing = [f"{path}: {message}" for message, path in wanted.items() if not all(known.get(message, [""]))]
    assert missing == [], "run `make messages` and translate these"
    assert len(wanted) > 900
    assert known.keys() - wanted.keys() == set(), "these are said nowhere any more"


def test_gettext_is_called_by_names_that_its_tools_know():
    assert [one for room in ROOMS for path in sorted((ROOT / room).rglob("*.py")) for one in renamed(path)] == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_translation_loses_or_adds_a_placeholder(language):
    wrong = []
    for message, plural, said, flags in translations(language):
        assert "fuzzy" not in flags, message
        assert len(said) == (2 if plural else 1), message
        for original, translated in zip([message, plural or ""], said, strict=False):
            one, other = (sorted(set(PLACEHOLDER.findall(text))) for text in (original, translated))
            if one != other:
                wrong.append((original, one, other))
            if original != original.strip("\n") or (original[:1] == " ") != (translated[:1] == " "):
                wrong.append((original, "spaces around it"))

    assert wrong == []


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_compiled_file_says_what_the_other_says(language):
    """The .mo is committed, so that whoever installs us needs no compiler of messages."""
    folder = Path(ROOT, "locale", language, "LC_MESSAGES")
    with (folder / "django.mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)._catalog

    said = {}
    for message, plural, texts, _flags in translations(language):
        said |= {(message, number): text for number, text in enumerate(texts)} if plural else {message: texts[0]}
    assert {key: text for key, text in compiled.items() if key} == said


def test_people_are_addressed_in_one_way():
    """German says Sie, everywhere."""
    informal = re.compile(r"\b(du|dich|dir(?!=)|dein\w*|deine\w*|ihr euch|euer)\b", re.I)
    assert [said for _m, _p, texts, _f in translations("de") for said in texts if informal.search(said)] == []


async def test_what_async_code_does_in_another_thread_speaks_the_same_language(settings):
    """A question that is sent is answered with parts of the page that are drawn in a hop to the database's threads."""
    settings.DB_INLINE = False
    with translation.override("de"):
        assert await db(lambda: get_text("Share")) == "Teilen"
    assert await db(lambda: get_text("Share")) == "Share"
