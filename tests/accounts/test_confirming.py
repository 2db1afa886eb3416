"""Step-up: what could take an account over, or away, asks again who is there, and loses nothing that was typed (A-17)."""

import re
import time
from uuid import uuid4

import pytest
from allauth.account.models import EmailAddress
from django.test import Client

from accounts import confirming
from accounts.models import ApiKey, User
from conversations.models import Export
from lib.db import SERVICE, scope
from tests import factories
from tests.post import arrived

AGAIN = "/account/reauthenticate/"
BY_MAIL = "/account/confirm-by-mail/"
KEY = {"do": "make", "name": "Nightly", "scopes": ["chat"], "days": "", "per_minute": 60, "per_day": 100}
ASKED = {  # what asks, and how to see that it was done
    "key": ("/settings/api-keys/change/", KEY, lambda user: ApiKey.objects.filter(user=user, name="Nightly")),
    "export": ("/settings/data/take/", {}, lambda user: Export.objects.filter(owner_id=user.pk)),
    "email": (
        "/account/email/",
        {"email": "new@example.com", "action_add": "1"},
        lambda user: EmailAddress.objects.filter(user=user, email="new@example.com"),
    ),
}


def long_signed_in(user):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(user)
    return client


def done(rows):
    with scope(SERVICE):
        return rows.count()


@pytest.mark.parametrize("what", ASKED)
def test_it_asks_for_the_password_and_goes_on_where_it_was(world, what):
    path, fields, made = ASKED[what]
    bob, sent = long_signed_in(world.bob), {**fields, "once": uuid4()}

    asked = bob.post(path, sent)
    assert asked.status_code == 302
    assert asked.headers["Location"].startswith(AGAIN)
    assert done(made(world.bob)) == 0
    wrong = bob.post(asked.headers["Location"], {"password": "wrong-one-1"})
    assert wrong.status_code == 200
    assert done(made(world.bob)) == 0
    gone_on = bob.post(asked.headers["Location"], {"password": factories.PASSWORD})

    assert gone_on.status_code in (200, 302, 303)
    assert done(made(world.bob)) == 1
    if what == "key":
        assert "sk_" in gone_on.content.decode()
        assert bob.post(path, {**sent, "once": uuid4()}).status_code == 200, "not asked again so soon"


def test_a_proof_counts_for_ten_minutes_and_signing_in_is_one(world, monkeypatch):
    bob = Client(headers={"host": "act.localhost"})
    bob.post("/account/login/", {"login": "bob@example.com", "password": factories.PASSWORD})
    now = time.time()

    assert bob.get("/settings/delete-account/").status_code == 200
    monkeypatch.setattr(confirming.time, "time", lambda: now + 599)
    assert bob.get("/settings/delete-account/").status_code == 200
    monkeypatch.setattr(confirming.time, "time", lambda: now + 601)
    asked = bob.get("/settings/delete-account/")
    assert asked.headers["Location"] == f"{AGAIN}?next=%2Fsettings%2Fdelete-account%2F"
    assert bob.post("/account/elsewhere/github/login/?process=connect").status_code == 302


def test_who_has_no_password_gets_a_code_by_mail(world, monkeypatch):
    """allauth lets somebody through who has neither; we do not. A code is good once, for ten minutes and five tries."""
    with scope(SERVICE):
        user = User.objects.get(pk=world.bob.pk)
        user.set_unusable_password()
        user.save()
    bob = long_signed_in(user)
    path, fields, made = ASKED["key"]

    own = bob.post("/account/password/set/", {"password1": "of-a-thief-1", "password2": "of-a-thief-1"}, follow=True)
    assert own.redirect_chain[-1][0].startswith(BY_MAIL), "a first password would prove everything else"
    assert "of-a-thief" not in str(dict(bob.session))
    user.refresh_from_db()
    assert not user.has_usable_password()
    asked = bob.post(path, {**fields, "once": uuid4()})
    assert asked.headers["Location"].startswith(BY_MAIL)
    page = bob.get(asked.headers["Location"]).content.decode()
    assert "Send me the code" in page
    following = {"next": re.search(r'name="next" value="([^"]*)"', page)[1]}
    arrived().clear()

    def code():
        bob.post(BY_MAIL, following)
        return re.search(r"^\s*(\d{6})\s*$", arrived()[-1].body, re.MULTILINE)[1]

    first = code()
    second = code()
    assert first != second or code()
    wrong = f"{(int(second) + 1) % 10**6:06}"
    assert "not the code" in bob.post(BY_MAIL, {**following, "code": wrong}).content.decode()
    for _ in range(4):
        last = bob.post(BY_MAIL, {**following, "code": wrong})
    assert "tried too often" in last.content.decode()
    assert done(made(user)) == 0
    made_at = bob.post(BY_MAIL, {**following, "code": code()})

    assert "sk_" in made_at.content.decode()
    assert done(made(user)) == 1
    assert "sk_" not in arrived()[-1].body
    assert bob.get("/account/email/").status_code == 200


def test_the_page_for_a_code_is_for_who_has_no_other_way(world):
    bob = long_signed_in(world.bob)

    assert bob.get(BY_MAIL).headers["Location"] == AGAIN
    assert Client(headers={"host": "act.localhost"}).get(BY_MAIL).status_code == 302
