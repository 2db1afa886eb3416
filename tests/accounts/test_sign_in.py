"""Signing in and out, passwords, guessing, and what a program may write into its Authorization header."""

import re

import pytest
from django.core.cache import cache
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import keys
from accounts.models import Membership, User
from lib.db import SERVICE, scope
from tests import factories
from tests.post import arrived

ALICE = {"login": "alice@example.com", "password": factories.PASSWORD}
LINK = re.compile(r"http://act.localhost(\S+)")


def browser(**defaults):
    return Client(headers={"host": "act.localhost"}, **defaults)


def signed_in(**fields):
    client = browser()
    assert client.post("/account/login/", {**ALICE, **fields}).status_code == 302
    return client


@pytest.fixture
def limits(settings):
    """allauth's own limits, as in production; the rest of the suite runs without."""
    settings.ACCOUNT_RATE_LIMITS = {}
    cache.clear()
    yield
    cache.clear()


def test_signing_in_by_address_whatever_its_case_and_out_again(world):
    alice = signed_in(login="Alice@Example.COM")
    assert alice.get("/c/").status_code == 200

    assert alice.get("/account/logout/").status_code == 200
    assert alice.get("/c/").status_code == 200
    out = alice.post("/account/logout/")

    assert out.status_code == 302
    assert alice.get("/c/").headers["Location"] == "/account/login/?next=%2Fc%2F"


def test_a_wrong_password_and_an_unknown_address_get_the_same_words(world):
    """A-01"""
    wrong = browser().post("/account/login/", {**ALICE, "password": "not the password"})
    unknown = browser().post("/account/login/", {**ALICE, "login": "nobody@example.com"})

    words = [re.findall(r'role="alert".*?</div>', answer.content.decode(), re.DOTALL) for answer in (wrong, unknown)]
    assert wrong.status_code == unknown.status_code == 200
    assert words[0] == words[1]
    assert "not correct" in words[0][0]


def test_a_password_is_reset_by_a_link_that_works_once(world):
    stranger = browser()
    stranger.post("/account/password/reset/", {"email": "alice@example.com"})
    address = LINK.findall(arrived()[0].body)[0]

    page = stranger.get(address, follow=True)
    done = stranger.post(page.request["PATH_INFO"], {"password1": "quite-another-1", "password2": "quite-another-1"})

    assert done.status_code == 302
    assert browser().post("/account/login/", {**ALICE, "password": "quite-another-1"}).status_code == 302
    assert browser().post("/account/login/", ALICE).status_code == 200
    assert "does not work any more" in browser().get(address, follow=True).content.decode()


def test_a_reset_for_a_known_and_an_unknown_address_looks_the_same(world):
    """A-01: same status, same page, one mail each."""
    answers = []
    for email in ("alice@example.com", "nobody@example.com"):
        arrived().clear()
        stranger = browser()
        answer = stranger.post("/account/password/reset/", {"email": email})
        text = re.sub(
            r'value="\w{64}"|nonce="[^"]+"|:"\w{64}"', "", stranger.get(answer.headers["Location"]).content.decode()
        )
        answers.append((answer.status_code, answer.headers["Location"], text, len(arrived())))

    assert answers[0] == answers[1]
    assert answers[0][3] == 1


@pytest.mark.parametrize("link", ["0-x", "1-00000-abc", "zzzzzz-set-password", "%00-%00", "1-" + "a" * 3000])
def test_a_made_up_reset_link_is_refused_in_words(world, link):
    """A-05"""
    answer = browser().get(f"/account/password/reset/key/{link}/", follow=True)

    assert answer.status_code in (200, 404)
    assert answer.status_code == 404 or "does not work any more" in answer.content.decode()


def test_the_session_gets_a_new_name_when_somebody_signs_in(world):
    """A-03: a planted session id is worth nothing."""
    victim = browser()
    victim.get("/account/login/")
    session = victim.session
    session["planted"] = "yes"
    session.save()
    victim.cookies["sessionid"] = planted = session.session_key

    victim.post("/account/login/", ALICE)

    assert victim.cookies["sessionid"].value != planted
    thief = browser()
    thief.cookies["sessionid"] = planted
    assert thief.get("/c/").status_code == 302


def test_changing_the_password_ends_every_other_session(world):
    """A-03"""
    here, there = signed_in(), signed_in()
    before = here.cookies["sessionid"].value

    page = {"oldpassword": factories.PASSWORD, "password1": "quite-another-1", "password2": "quite-another-1"}
    assert here.post("/account/password/change/", page).status_code == 302

    assert here.get("/c/").status_code == 200
    assert here.cookies["sessionid"].value != before
    assert there.get("/c/").status_code == 302


def test_signing_out_leaves_nothing_behind_the_old_cookie(world):
    """A-03"""
    alice = signed_in()
    kept = alice.cookies["sessionid"].value

    alice.post("/account/logout/")

    thief = browser()
    thief.cookies["sessionid"] = kept
    assert thief.get("/c/").status_code == 302


def test_a_removed_member_and_a_suspended_person_are_out_at_the_next_request(world):
    """I-11"""
    alice, bob = signed_in(), browser()
    bob.force_login(world.bob)
    with scope(SERVICE):
        Membership.objects.filter(user=world.bob).delete()
        User.objects.filter(pk=world.alice.pk).update(is_active=False)

    assert bob.get("/c/").status_code == 404
    assert alice.get("/c/").status_code == 302
    again = browser()
    assert again.post("/account/login/", ALICE).headers["Location"] == "/account/inactive/"
    assert again.get("/c/").status_code == 302


def test_guessing_is_slowed_down_and_no_header_hides_the_guesser(world, limits):
    """A-02"""
    guesser, said = browser(), []
    for number in range(12):
        spoofed = {"x-forwarded-for": f"203.0.113.{number}", "x-real-ip": f"203.0.113.{number}"}
        answer = guesser.post("/account/login/", {**ALICE, "password": f"guess {number}"}, headers=spoofed)
        said.append("Too many failed" in answer.content.decode() or answer.status_code == 429)

    assert said[0] is False
    assert said[-1] is True
    assert browser().post("/account/login/", ALICE).status_code in (200, 429)


def test_the_limits_are_on_unless_a_test_turns_them_off():
    import chatsite.settings

    assert not hasattr(chatsite.settings, "ACCOUNT_RATE_LIMITS")


@pytest.mark.parametrize(
    "way",
    ["//evil.example", "https://evil.example/", "/\\evil.example", "javascript:alert(1)", "\\\\evil", "http:evil"],
)
def test_signing_in_leads_only_to_our_own_host(world, way):
    """A-11"""
    client = browser()

    answer = client.post(f"/account/login/?next={way}", {**ALICE, "next": way})

    assert answer.status_code == 302
    assert answer.headers["Location"] == "/c/"


UNSAFE = ["/account/login/", "/account/signup/", "/account/logout/", "/account/password/change/", "/join/", "/c/send/"]


@pytest.mark.parametrize("path", UNSAFE)
def test_without_the_token_of_our_own_page_nothing_happens(world, path):
    """A-06: no token; a token with a foreign Origin; JSON dressed as text."""
    alice = Client(headers={"host": "act.localhost"}, enforce_csrf_checks=True)
    alice.force_login(world.alice)
    token = re.search(
        r'name="csrfmiddlewaretoken" value="(\w+)"', alice.get("/account/password/change/").content.decode()
    )
    page = {"text": "hello", **ALICE, "email": "x@example.com", "password1": "a-long-password"}

    none = alice.post(path, page)
    foreign = alice.post(path, {**page, "csrfmiddlewaretoken": token[1]}, headers={"origin": "https://evil.example"})
    other_brand = alice.post(
        path, {**page, "csrfmiddlewaretoken": token[1]}, headers={"origin": "http://globex.localhost"}
    )
    dressed = alice.post(path, '{"text": "hello"}', content_type="text/plain")

    assert {answer.status_code for answer in (none, foreign, other_brand, dressed)} == {403}
    assert "open too long" in none.content.decode()
    assert alice.get("/c/").status_code == 200
    own = alice.post(path, {**page, "csrfmiddlewaretoken": token[1]}, headers={"origin": "http://act.localhost"})
    assert own.status_code != 403


def test_a_key_works_without_a_token_and_a_cookie_is_no_key(world):
    """A-06: the /v1 doors look at the key alone."""
    alice = Client(headers={"host": "act.localhost"}, enforce_csrf_checks=True)
    alice.force_login(world.alice)
    with scope(SERVICE):
        _, text = keys.create(world.act, world.bob, name="bot", scopes=["chat"])
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}

    assert alice.post("/v1/chat/completions", body, content_type="application/json").status_code == 401
    assert alice.get("/v1/models").status_code == 401
    assert alice.get("/v1/models", headers={"authorization": f"Bearer {text}"}).status_code == 200


PREFIX = "sk_0123456789ab_"
ODD = [
    "", " ", "Bearer", "Bearer ", "Basic YTpi", "Bearer '", 'Bearer "', "Bearer ' or '1'='1", "Bearer \\",
    f"Bearer {PREFIX}' or 1=1; drop table accounts_apikey; --", f"Bearer {PREFIX}{'a' * 43}",
    f"Bearer {PREFIX}{'a' * 42}", f"bearer {PREFIX}{'%00' * 14}a", "Bearer \x00", "Bearer 😀", "Bearer sk_\udcff",
    f"Bearer {PREFIX}{'á' * 43}", "Bearer " + "a" * 1_000_000, f"Bearer {PREFIX}{'a' * 43}, Bearer {PREFIX}{'b' * 43}",
    "\tBearer\tx", f"Bearer\n{PREFIX}{'a' * 43}", "Bearer %s%s%n", "Bearer {0.__class__}", "Bearer null", "null",
]  # fmt: skip


@pytest.mark.parametrize("header", ODD, ids=range(len(ODD)))
@pytest.mark.parametrize("path", ["/v1/models", "/v1/models/demo", "/v1/chat/completions"])
def test_whatever_stands_in_authorization_is_answered_with_401(world, header, path):
    """A-08: never a 5xx, in OpenAI's error shape, and without asking the database for what is no key."""
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}
    with CaptureQueriesContext(connections["default"]) as asked:
        if path.endswith("completions"):
            answer = browser().post(path, body, content_type="application/json", HTTP_AUTHORIZATION=header)
        else:
            answer = browser().get(path, HTTP_AUTHORIZATION=header)

    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    sent = [row["sql"] for row in asked if "lookup.api_key" in row["sql"]]
    assert len(sent) == int(keys.SHAPE.fullmatch(header.partition(" ")[2].strip()) is not None)
    assert not any("drop table" in row["sql"] for row in asked)


def test_a_key_that_almost_fits_is_no_key(world):
    """A-07: the right prefix with a wrong secret is one look-up and the same 401."""
    with scope(SERVICE):
        key, text = keys.create(world.act, world.bob, name="bot", scopes=["chat"])
    almost = [text[:-1] + ("A" if text[-1] != "A" else "B"), text.upper(), text + "a", text.replace("sk_", "pk_")]

    answers = [browser().get("/v1/models", headers={"authorization": f"Bearer {wrong}"}) for wrong in almost]

    assert {answer.status_code for answer in answers} == {401}
    assert len({answer.json()["error"]["message"] for answer in answers}) == 1
    assert text.split("_", 2)[2] not in key.key_hash


def test_a_new_password_needs_the_person_s_own_fresh_and_unused_token(world, settings):
    """Missing, null, another's, expired, used: each is refused, in words or as not found, and no password changes."""
    links = {}
    for name in ("alice", "bob"):
        arrived().clear()
        browser().post("/account/password/reset/", {"email": f"{name}@example.com"})
        links[name] = LINK.findall(arrived()[0].body)[0]
    way, _, token = links["alice"].strip("/").rpartition("/")
    person, _, key = token.partition("-")
    other = links["bob"].strip("/").rpartition("/")[2].partition("-")[0]
    new = {"password1": "quite-another-1", "password2": "quite-another-1"}

    def tried(link):
        stranger = browser()
        page = stranger.get(f"/{way}/{link}/", follow=True)
        sent = stranger.post(page.request["PATH_INFO"], new)
        told = {
            answer.status_code == 404 or "does not work any more" in answer.content.decode() for answer in (page, sent)
        }
        return told == {True}

    wrong = {
        "missing": f"{person}-", "null": f"{person}-null", "none": "null-null", "no key": person, "nobody's": f"-{key}",
        "another's": f"{other}-{key}", "from nowhere": f"{person}-set-password", "cut": f"{person}-{key[:-1]}",
    }  # fmt: skip
    assert {name for name, link in wrong.items() if not tried(link)} == set()
    settings.PASSWORD_RESET_TIMEOUT = -1
    assert tried(token), "expired"
    settings.PASSWORD_RESET_TIMEOUT = 3600
    assert User.objects.get(email="alice@example.com").check_password(factories.PASSWORD)
    assert not tried(token), "the real one"
    assert tried(token), "used"
    assert browser().post("/account/login/", {**ALICE, "password": "quite-another-1"}).status_code == 302
    assert browser().post("/account/login/", {**ALICE, "login": "bob@example.com"}).status_code == 302
