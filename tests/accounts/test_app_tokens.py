"""Apps sign in without a browser; and no token of one kind is accepted as another (A-09)."""

import re
import time
from dataclasses import replace

import jwt
import pytest
from allauth.account.models import EmailAddress, EmailConfirmationHMAC
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from django.conf import settings
from django.http import HttpResponse
from django.test import Client, RequestFactory

from accounts import brands, keys, visitors
from accounts.access import key_holder
from accounts.limits import TooManyCalls
from accounts.models import Brand, Membership, Profile, User, Visitor
from conversations.chats import sharing
from conversations.engine.beginning import begin
from conversations.engine.turns import Question
from lib.db import SERVICE, scope
from quotas.models import Account
from tests import factories
from tests.post import arrived

WAYS = "/api/app/v1/"
BOB = {"email": "bob@example.com", "password": factories.PASSWORD}
ME = "/api/v1/conversations/stats"


class App:
    """A program that keeps what it is given in `meta`, as allauth's protocol wants."""

    def __init__(self, host="act.localhost"):
        self.browser, self.meta = Client(headers={"host": host}), {}

    def __call__(self, method, path, body=None):
        token = self.meta.get("session_token")
        headers = {"x-session-token": token} if token else {}
        told = {"data": body, "content_type": "application/json"} if body is not None else {}
        answer = getattr(self.browser, method)(WAYS + path, **told, headers=headers)
        self.meta |= {name: value for name, value in answer.json().get("meta", {}).items() if value}
        if path == "tokens/refresh":
            self.meta |= answer.json().get("data", {})
        return answer

    def sign_in(self, **who):
        return self("post", "auth/login", {**BOB, **who})

    def ask(self, path=ME):
        return bearer(self.meta["access_token"], path)


def bearer(text, path=ME, host="act.localhost"):
    return Client(headers={"host": host, "authorization": f"Bearer {text}"}).get(path)


@pytest.fixture
def app(world):
    app = App()
    assert app.sign_in().status_code == 200
    return app


def test_an_app_signs_in_asks_refreshes_and_signs_out(app, world):
    """With what its person may do in a browser; signing out ends the token at once, not in five minutes."""
    assert app.ask().status_code == 200
    assert app.ask("/v1/models").status_code == 200
    assert not app.browser.cookies
    first, refresh = app.meta["access_token"], app.meta["refresh_token"]

    assert app("post", "tokens/refresh", {"refresh_token": refresh}).status_code == 200
    assert app.meta["access_token"] != first
    assert App()("post", "tokens/refresh", {"refresh_token": refresh}).status_code == 400, "it was used"
    app("delete", "auth/session")

    assert app.ask().status_code == bearer(first).status_code == 401


def test_what_is_for_keys_only_is_not_for_an_app(app):
    """docs/doors.md: what is recorded says that an assistant said it, so it takes a key that was made for it."""
    app.sign_in()
    headers = {"host": "act.localhost", "authorization": f"Bearer {app.meta['access_token']}"}

    for path in ("conversations", "track"):
        refused = Client(headers=headers).post(f"/api/v1/{path}", {}, "application/json")
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden"), path


def test_the_plan_bounds_an_app_like_everything_else_of_its_person(app, world):
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.bob).update(rate_limit_per_minute=1)

    told = [app.ask().status_code for _ in range(3)]

    assert told[0] == 200
    assert 429 in told


def test_a_question_from_an_app_is_one_call_of_the_plan_and_not_two(app, world):
    """Counted at the door, and not once more where a browser's questions are."""
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.bob).update(rate_limit_per_minute=1)
    request = RequestFactory().get("/", headers={"authorization": f"Bearer {app.meta['access_token']}"})
    request.brand = world.act
    bob = key_holder(request, "chat")

    begun = begin(bob, world.act, Question(text="Hello"))

    assert begun.call is not None
    with pytest.raises(TooManyCalls):
        begin(replace(bob, is_counted=False), world.act, Question(text="Hello"))


def test_a_token_ends_with_its_person_s_right_to_it(app, world):
    """A-03: suspended, another password, no member any more; and it is no other brand's."""
    assert bearer(app.meta["access_token"], host="globex.localhost").status_code == 401
    elsewhere = App("globex.localhost")
    assert elsewhere("post", "tokens/refresh", {"refresh_token": app.meta["refresh_token"]}).status_code == 400
    elsewhere.meta["session_token"] = app.meta["session_token"]
    assert elsewhere("get", "auth/session").status_code == 410
    with scope(SERVICE):
        User.objects.filter(pk=world.bob.pk).update(is_active=False)
    assert app.ask().status_code == 401
    with scope(SERVICE):
        User.objects.filter(pk=world.bob.pk).update(is_active=True)
        user = User.objects.get(pk=world.bob.pk)
        user.set_password("quite-another-1")
        user.save()
    assert app.ask().status_code == 401
    app = App()
    app.sign_in(password="quite-another-1")
    assert app.ask().status_code == 200
    with scope(SERVICE):
        Membership.objects.filter(user=world.bob).delete()
    assert app.ask().status_code == 404


def test_whoever_signs_out_everywhere_else_signs_out_apps_too(app, world):
    browser = Client(headers={"host": "act.localhost"})
    browser.post("/account/login/", {"login": "bob@example.com", "password": factories.PASSWORD})
    other = App()
    other.sign_in()

    browser.post("/settings/sessions/end/", {"session": "others"})

    assert [each.ask().status_code for each in (app, other)] == [401, 401]
    assert app("post", "tokens/refresh", {"refresh_token": app.meta["refresh_token"]}).status_code == 410
    assert browser.get("/settings/").status_code == 200


def of_our_own():
    made = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return made.private_bytes(*form)


FORGED = {
    "RS256": ({}, {"algorithm": "RS256", "key": of_our_own}),
    "none": ({}, {"algorithm": "none", "key": ""}),
    "another key": ({}, {"key": "a" * 64}),
    "the secret itself": ({}, {"key": lambda: settings.SECRET_KEY}),
    "another HMAC": ({}, {"algorithm": "HS512"}),
    "a kid that is a path": ({}, {"key": "x" * 64, "headers": {"kid": "../../dev/null"}}),
    "a key of its own": ({}, {"key": "x" * 64, "headers": {"jwk": {"kty": "oct", "k": "eHh4"}}}),
    "aud": ({"aud": "globex"}, {}),
    "no aud": ({"aud": None}, {}),
    "iss": ({"iss": "https://evil.example"}, {}),
    "no iss": ({"iss": None}, {}),
    "nbf": ({"nbf": lambda: int(time.time()) + 3600}, {}),
    "iat": ({"iat": lambda: int(time.time()) + 3600}, {}),
    "exp": ({"exp": lambda: int(time.time()) - 1}, {}),
    "no exp": ({"exp": None}, {}),
    "refresh": ({"token_use": "refresh"}, {}),
    "another person": ({"sub": lambda: "0" * 32}, {}),
    "no session": ({"sid": "AAAA"}, {}),
    "sid is a list": ({"sid": ["a"]}, {}),
}


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_token_is_a_401(app, what):
    """A-09"""
    changed, signed = FORGED[what]
    real = jwt.decode(app.meta["access_token"], options={"verify_signature": False})
    claims = {**real, **{name: value() if callable(value) else value for name, value in changed.items()}}
    claims = {name: value for name, value in claims.items() if value is not None}
    how = {"algorithm": "HS256", "key": settings.HEADLESS_JWT_PRIVATE_KEY, **signed}
    how = {name: value() if callable(value) else value for name, value in how.items()}

    assert bearer(jwt.encode(real, settings.HEADLESS_JWT_PRIVATE_KEY, "HS256")).status_code == 200
    answer = bearer(jwt.encode(claims, **how))

    assert answer.status_code == 401
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")


def test_no_token_of_one_kind_is_accepted_as_another(app, world):
    browser = Client(headers={"host": "act.localhost"})
    browser.post("/account/login/", {"login": "bob@example.com", "password": factories.PASSWORD})
    with scope(SERVICE):
        _, key = keys.create(world.act, world.bob, name="bot", scopes=["chat", keys.READ])
        visitor = Visitor.objects.create(brand=world.act)
        address = EmailAddress.objects.create(user=world.bob, email="new@example.com")
    response = HttpResponse()
    visitors.remember(response, world.act, visitor.pk)
    chat = factories.make_conversation(world.act, world.bob, said=[("user", "Hi"), ("assistant", "Ho")])
    member = factories.member(world.act, world.bob)
    with scope(member):
        share = sharing.share(member, world.act, chat.pk, days=7)
    arrived().clear()
    Client(headers={"host": "act.localhost"}).post("/account/password/reset/", {"email": "bob@example.com"})
    tokens = {
        "key": key,
        "cookie": browser.cookies["sessionid"].value,
        "visitor": response.cookies[visitors.COOKIE].value,
        "share": sharing.token(share.pk),
        "reset": re.search(r"/reset/key/([^/\s]+)/", arrived()[-1].body)[1],
        "confirm": EmailConfirmationHMAC(address).key,
        "session": app.meta["session_token"],
        "access": app.meta["access_token"],
        "refresh": app.meta["refresh_token"],
    }
    host = {"host": "act.localhost"}

    def visitor_of(token):
        request = RequestFactory().get("/")
        request.brand, request.COOKIES = world.act, {visitors.COOKIE: token}
        return visitors.of_request(request)

    def with_cookie(name, value, path):
        client = Client(headers=host)
        client.cookies[name] = value
        return client.get(path)

    places = {  # what it is for, how it is shown there, and whether it was taken
        "bearer": ({"key", "access"}, lambda token: bearer(token).status_code == 200),
        "x-api-key": ({"key"}, lambda token: Client(headers={**host, "x-api-key": token}).get(ME).status_code == 200),
        "cookie": ({"cookie"}, lambda token: with_cookie("sessionid", token, "/c/").status_code == 200),
        "app": (
            {"session"},
            lambda token: (
                Client(headers={**host, "x-session-token": token}).get(f"{WAYS}auth/session").status_code == 200
            ),
        ),
        "visitor": ({"visitor"}, lambda token: visitor_of(token) is not None),
        "share": ({"share"}, lambda token: Client(headers=host).get(f"/s/{token}/").status_code == 200),
        "confirm": (
            {"confirm"},
            lambda token: (
                "new@example.com" in Client(headers=host).get(f"/account/confirm-email/{token}/").content.decode()
            ),
        ),
        "reset": (
            {"reset"},
            lambda token: Client(headers=host).get(f"/account/password/reset/key/{token}/").status_code == 302,
        ),
        "refresh": (
            {"refresh"},
            lambda token: App()("post", "tokens/refresh", {"refresh_token": token}).status_code == 200,
        ),
    }

    taken = {place: {name for name, token in tokens.items() if shown(token)} for place, (_, shown) in places.items()}

    assert taken == {place: meant for place, (meant, _) in places.items()}


def test_signing_up_in_an_app_makes_as_whole_a_member_as_the_page(world, settings):
    settings.ACCOUNT_EMAIL_VERIFICATION = "mandatory"
    dora = {"email": "Dora@example.com", "password": "quite-long-enough-1"}
    arrived().clear()

    answer = App()("post", "auth/signup", dora)

    assert answer.status_code == 401
    assert "verify_email" in [flow["id"] for flow in answer.json()["data"]["flows"] if flow.get("is_pending")]
    user = User.objects.get(email="dora@example.com")
    with scope(SERVICE):
        assert Membership.objects.filter(user=user, brand=world.act).exists()
        assert Account.objects.filter(owner_id=user.pk, brand=world.act).exists()
        assert Profile.objects.filter(user=user).exists()
    assert App().sign_in(email="dora@example.com", password=dora["password"]).status_code == 401
    link = re.search(r"/account/confirm-email/[^/\s]+/", arrived()[0].body)[0]
    Client(headers={"host": "act.localhost"}).post(link)
    assert App().sign_in(email="dora@example.com", password=dora["password"]).status_code == 200
    known = App()("post", "auth/signup", {**dora, "email": "bob@example.com"})
    assert (known.status_code, known.json()["data"]) == (answer.status_code, answer.json()["data"]), (
        "who is known is not told"
    )
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(open_sign_up=False)
    brands.forget()
    assert App()("post", "auth/signup", {**dora, "email": "eve@example.com"}).status_code == 403


def test_json_that_two_parsers_read_in_two_ways_is_refused_in_words(world):
    """A-06, A-09: before allauth reads it, which would answer 500 to each of these."""
    hostile = [
        b"[" * 200_000,
        b'{"email": ' + b"9" * 6000 + b"}",
        b'{"email": "bob@example.com", "password": "\\ud800"}',
        b'{"email": "b\\ud800@example.com"}',
        b'{"refresh_token": "\\ud800"}',
        b'{"email": "eve@example.com", "email": "bob@example.com"}',
    ]
    browser = Client(headers={"host": "act.localhost"})
    for path in ("auth/signup", "auth/login", "auth/2fa/authenticate", "auth/password/request", "tokens/refresh"):
        for body in hostile:
            answer = browser.post(WAYS + path, body, content_type="application/json")
            assert answer.status_code in (400, 401), (path, body[:60])
