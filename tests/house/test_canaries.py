"""What looks for secrets everywhere (tests/canaries.py) finds them, and knows which there are. A-16"""

import subprocess
import sys
from pathlib import Path

import pytest
from django.http import HttpResponse

from accounts import keys
from chatsite import environment
from chatsite.celery import app
from conversations.models import Conversation
from lib import files
from lib.db import SERVICE, scope
from tests import canaries
from tests.factories import make_conversation

LEAKY = Path(__file__).with_name("leaky.py")
# Variables that sound secret, and are not.
NOT_SECRET = {"FAILED_KEYS_PER_MINUTE", "DEMO_TOKENS_PER_SECOND", "DATABASE_SILENCE_S"}
SOUNDS_SECRET = ("KEY", "SECRET", "TOKEN", "PASSWORD", "_OPTIONS", "DATABASE_", "REDIS_URL", "EMAIL_URL")


@pytest.fixture
def found():
    """What the look found in this test, which is then no reason to fail."""
    yield canaries._found
    canaries.forget_test()


def told(text):
    """A task."""


def make_key(world):
    with scope(SERVICE):
        return keys.create(world.act, world.bob, name="planted", scopes=["chat"], per_minute=60)[1]


def test_every_variable_that_is_secret_is_looked_for():
    """A new one stands in canaries.SECRET, or here with those that are none."""
    named = {row.name for row in environment.variables()}
    sounding = {name for name in named if any(word in name for word in SOUNDS_SECRET)}

    assert sounding - NOT_SECRET <= canaries.SECRET


def test_a_secret_is_found_wherever_it_is_planted(world, found, rf):
    """Rows in text and in JSON, an export, an error page, a task's arguments, a log; and gone from none by quoting."""
    key = make_key(world)
    assert canaries.look("nothing", "sk_ and some words") == []

    for quoted in (key, f'{{"key": "{key}"}}', f"/c/?q=%22{key}%22", f"Bearer {key}\n", repr([key])):
        assert canaries.look("a log", quoted) == ["a key or a token in a log"], quoted
    found.clear()
    chat = make_conversation(world.act, world.bob, f"My key is {key}")
    canaries.look_at_rows_of_test()
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(title="", settings={"deep": [{"key": key}]})
    canaries.look_at_rows_of_test()
    assert found == ["a key or a token in table conversations_conversation"] * 2
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(settings={})
    found.clear()

    files.delete(files.save(world.act.pk, "export", "a.json", key.encode()), brand_id=world.act.pk)
    refused = HttpResponse(f"<p>{key} is not known", status=404)
    refused.wsgi_request = rf.get("/c/")
    canaries._answered(refused)
    app.task(name="tests.planted")(told).delay(key)
    assert [hit.split(" (")[0] for hit in found] == [
        "a key or a token in an export", "a key or a token in the page /c/ with status 404",
        "a key or a token in a task's arguments",
    ]  # fmt: skip


def test_the_suite_fails_with_a_test_that_lets_a_secret_out():
    """As any other test of the suite: what the product made is printed, and told by name."""
    run = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(LEAKY)]
    done = subprocess.run(run, cwd=LEAKY.parents[2], capture_output=True, text=True)

    assert done.returncode == 1, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].startswith(".E."), "the second is clean"
    assert "A-16, a secret stands open: a key or a token in Captured stdout call" in done.stdout
    assert "a session's name in Captured stdout call" in done.stdout
