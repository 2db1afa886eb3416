"""API keys by program: who may make, renew, change and revoke which, and that no key makes one that may do more than it."""

import json
import re
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.test import Client

from accounts import confirming, guessing, keys, limits
from accounts.models import ApiKey, IdempotencyRecord, Membership
from accounts.tasks import add_calls_of_keys, forget_short_lived_keys
from chatsite.api_keys import deeds
from events.models import Activity, Notification
from lib import clock
from lib.db import SERVICE, Principal, scope
from tests import factories
from tests.accounts.test_app_tokens import App

TEXT = re.compile(r"sk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
WANTED = {"name": "Nightly", "scopes": ["chat"], "rate_limit_per_minute": 5, "rate_limit_per_day": 50}


@pytest.fixture(autouse=True)
def counted_anew(monkeypatch):
    """In one minute, however long it takes, and by Redis, however busy the machine is."""
    now = time.time() // 60 * 60 + 5
    clocks = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(limits, "time", clocks)
    monkeypatch.setattr(guessing, "time", clocks)
    monkeypatch.setattr(limits, "PATIENCE_S", 30)
    limits.forget()
    yield
    limits.forget()


class Person:
    """Somebody in a browser who signed in just now."""

    def __init__(self, name):
        self.browser = Client(headers={"host": "act.localhost"})
        self.browser.post("/account/login/", {"login": f"{name}@example.com", "password": factories.PASSWORD})

    def __call__(self, method, path, body=None, **headers):
        sent = {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
        return self.browser.generic(method, f"/api/v1/{path}", **sent, headers=headers)


class Program:
    def __init__(self, text):
        self.headers = {"authorization": f"Bearer {text}", "host": "act.localhost"}

    def __call__(self, method, path, body=None, **headers):
        sent = {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
        return Client().generic(method, f"/api/v1/{path}", **sent, headers={**self.headers, **headers})


def make(brand, user, *scopes, **fields):
    with scope(SERVICE):
        return keys.create(brand, user, name="bot", scopes=scopes, **fields)


def rows(**wanted):
    with scope(SERVICE):
        return list(ApiKey.objects.filter(**wanted).order_by("created_at"))


def asks(text, path="/v1/models"):
    return Client(headers={"authorization": f"Bearer {text}"}).get(path).status_code


def test_a_key_is_made_shown_once_changed_renewed_and_revoked(world):
    """S3 api_keys, A-07, Q-12: what the page does, by a person's own session."""
    bob = Person("bob")

    made, again = (bob("POST", "api-keys", WANTED, **{"idempotency-key": "k"}) for _ in range(2))
    assert (made.status_code, again.status_code) == (201, 201), made.content
    first = made.json()
    text = first.pop("key")
    assert TEXT.fullmatch(text)
    assert again.json() == first
    with scope(SERVICE):
        assert text.rsplit("_", 1)[1] not in str(IdempotencyRecord.objects.get().body)
    assert asks(text) == 200
    path = f"api-keys/{first['id']}"
    seen = bob("GET", path)
    assert seen.json() == first
    assert [row["id"] for row in bob("GET", "api-keys").json()] == [first["id"]]

    add_calls_of_keys()
    moved = bob("GET", path)
    assert (moved.json()["total_requests"], moved.headers["ETag"] != seen.headers["ETag"]) == (1, True)
    changed = bob(
        "PATCH", path, {"name": "Daily", "rate_limit_per_minute": 1, "allowed_models": ["demo"]},
        **{"if-match": seen.headers["ETag"]},
    )  # fmt: skip
    assert changed.status_code == 200, "that it was used is no change of it"
    assert (changed.json()["name"], changed.json()["allowed_models"]) == ("Daily", ["demo"])
    assert asks(text) == 429, "with its next call"
    with scope(SERVICE):
        line = Activity.objects.get(action="key.changed")
        assert line.changes["rate_limit_per_minute"] == [5, 1]
    for wrong in (
        {"allowed_models": ["no-such"]}, {"rate_limit_per_day": 0}, {"name": " "}, {"scopes": ["*"]}, {"scopes": []},
        {"expires_at": "2020-01-01T00:00:00Z"}, {"expires_at": "9999-12-31T23:59:59Z"}, {"is_brands": True}, {"key": text},
        {"expires_at": f"{clock.now() + timedelta(days=5):%Y-%m-%dT%H:%M:%SZ}", "never_expires": True},
    ):  # fmt: skip
        assert bob("PATCH", path, wrong).status_code == 400, wrong
    assert bob("PATCH", path, {"scopes": ["activity:read"]}).status_code == 403, "bob may not"

    renewed, same = (bob("POST", f"{path}/rotate", {"overlap": "hour"}, **{"idempotency-key": "r"}) for _ in range(2))
    newer = renewed.json().pop("key")
    assert (renewed.status_code, same.status_code, "key" in same.json()) == (201, 201, False)
    assert (renewed.json()["rate_limit_per_minute"], renewed.json()["name"]) == (1, "Daily")
    old, new = rows(user=world.bob)
    assert timedelta(minutes=59) < old.expires_at - clock.now() <= timedelta(hours=1)
    assert bob("POST", f"{path}/rotate", {"overlap": "ever"}).status_code == 400

    assert [bob("DELETE", f"api-keys/{new.pk}").status_code for _ in range(2)] == [204, 204]
    assert bob("GET", f"api-keys/{new.pk}").json()["is_active"] is False
    assert asks(newer) == 401
    assert bob("PATCH", f"api-keys/{new.pk}", {"name": "x"}).status_code == 404
    assert bob("POST", f"api-keys/{new.pk}/rotate").status_code == 404


def test_who_is_signed_in_says_again_who_he_is_and_an_app_signs_in_again(world, monkeypatch):
    """A-17, as pages ask it; what only takes away is not asked."""
    bob, app = Person("bob"), App()
    app.sign_in()
    key, _ = make(world.act, world.bob, "chat")
    by_app = Program(app.meta["access_token"])
    assert by_app("POST", "api-keys", WANTED).status_code == 201
    now = time.time()
    with monkeypatch.context() as later:
        later.setattr(confirming, "time", SimpleNamespace(time=lambda: now + 601))
        for asker in (bob, by_app):
            for method, path, body in (
                ("POST", "api-keys", WANTED),
                ("PATCH", f"api-keys/{key.pk}", {"rate_limit_per_day": 9}),
                ("POST", f"api-keys/{key.pk}/rotate", {}),
            ):
                answer = asker(method, path, body)
                assert (answer.status_code, answer.json()["code"]) == (403, "confirmation_needed"), path
        assert [row.pk for row in rows(user=world.bob) if row.name != "Nightly"] == [key.pk]
        assert by_app("DELETE", f"api-keys/{key.pk}").status_code == 204
    app.sign_in()
    assert Program(app.meta["access_token"])("POST", "api-keys", WANTED).status_code == 201
    without = Client(enforce_csrf_checks=True, headers={"host": "act.localhost"})
    without.cookies = bob.browser.cookies
    refused = without.post("/api/v1/api-keys", json.dumps(WANTED), content_type="application/json")
    assert refused.json()["code"] == "csrf_failed"


def test_a_key_makes_none_that_may_do_more_than_itself(world):
    """I-10: not by making one, nor by changing or renewing itself or another; what it leaves out, it gives as it has it."""
    until = clock.now() + timedelta(days=3)
    own, text = make(
        world.act, world.alice, "chat", keys.OWN, "activity:read",
        models=["demo"], per_minute=20, per_day=200, expires_at=until,
    )  # fmt: skip
    wide, _ = make(world.act, world.alice, "chat", "conversations:write")
    brands, _ = make(world.act, world.alice, "chat", is_brands=True)
    program = Program(text)
    small = {"name": "Small", "scopes": ["chat"]}
    later = f"{until + timedelta(days=1):%Y-%m-%dT%H:%M:%SZ}"

    more = [
        {"scopes": ["conversations:read"]}, {"allowed_models": ["demo", "demo-embedding"]}, {"rate_limit_per_minute": 21},
        {"rate_limit_per_day": 201}, {"expires_at": later},
    ]  # fmt: skip
    for beyond in more:
        answer = program("POST", "api-keys", {**small, **beyond})
        assert (answer.status_code, answer.json()["code"]) == (403, "beyond_key"), beyond
        assert program("PATCH", f"api-keys/{own.pk}", beyond).json()["code"] == "beyond_key", beyond
    assert program("PATCH", f"api-keys/{own.pk}", {"allowed_models": []}).json()["code"] == "beyond_key"
    assert program("PATCH", f"api-keys/{own.pk}", {"never_expires": True}).json()["code"] == "beyond_key"
    for other in (wide, brands):
        assert program("POST", f"api-keys/{other.pk}/rotate").json()["code"] == "beyond_key"
        assert program("PATCH", f"api-keys/{other.pk}", {"name": "Mine now"}).json()["code"] == "beyond_key"
    assert program("POST", "brands/act/api-keys", small).status_code == 403, "keys:manage is not its own"
    assert {row.pk for row in rows(user=world.alice)} == {own.pk, wide.pk, brands.pk}
    assert rows(pk=own.pk)[0].expires_at == until

    made = program("POST", "api-keys", small).json()
    (child,) = rows(pk=made["id"])
    assert (child.allowed_models, child.rate_limit_per_minute, child.rate_limit_per_day) == (["demo"], 20, 200)
    assert (child.expires_at, child.family_id) == (until, own.pk)
    with scope(SERVICE):
        line = Activity.objects.get(action="key.created", resource_id=child.pk)
        assert (line.key_id, line.actor_kind) == (own.pk, "key")
    renewed = program("POST", f"api-keys/{own.pk}/rotate").json()
    assert rows(pk=renewed["id"])[0].expires_at == until, "only a person gives it more time"
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.alice).update(role="member")
    lesser = program("POST", "api-keys", {**small, "scopes": ["activity:read"]})
    assert lesser.status_code == 403, "its person may not any more"


def test_keys_that_a_key_made_are_counted_in_one_limit_with_it(world):
    _, text = make(world.act, world.bob, "chat", keys.OWN, per_minute=4)
    program = Program(text)
    texts = [program("POST", "api-keys", {"name": "Child", "scopes": ["chat"]}).json()["key"] for _ in range(2)]

    assert [asks(each) for each in (*texts, *texts)] == [200, 200, 429, 429]


def test_a_revoked_key_makes_nothing_more(world):
    """Revoked between its look-up and its deed: the row is asked once more, and locked."""
    key, _ = make(world.act, world.bob, "chat", keys.OWN)
    bob = Principal("app_user", world.act.pk, world.bob.pk, key_id=key.pk, scopes=frozenset(key.scopes))
    with scope(SERVICE):
        keys.revoke(key)

    with scope(bob), pytest.raises(deeds.NotAuthenticated):
        deeds.make(SimpleNamespace(principal=bob, brand=world.act), name="x", scopes=["chat"])
    assert [row.pk for row in rows(user=world.bob)] == [key.pk]


def test_admins_and_their_keys_see_all_keys_of_the_brand_and_nobody_elses(world):
    """I-01, S3: listed and revoked all of them; made, renewed and changed the brand's own."""
    bobs, bobs_text = make(world.act, world.bob, "chat")
    theirs, _ = make(world.globex, world.charlie, "chat")
    ours, text = make(world.act, world.alice, keys.MANAGE, "chat", is_brands=True, per_minute=60)
    alice, program, own = Person("alice"), Program(text), Program(make(world.act, world.alice, keys.MANAGE)[1])
    assert Person("bob")("GET", "brands/act/api-keys").status_code == 404
    here = "brands/act/api-keys"

    for asker in (alice, program):
        listed = {row["id"] for row in asker("GET", here).json()}
        assert {str(bobs.pk), str(ours.pk)} <= listed
        assert str(theirs.pk) not in listed
        assert asker("GET", f"{here}/{theirs.pk}").status_code == 404
        assert asker("GET", "brands/globex/api-keys").status_code == 404
        made = asker("POST", here, WANTED)
        assert (made.status_code, made.json()["is_brands"]) == (201, True), made.content
        assert (
            asker("PATCH", f"{here}/{made.json()['id']}", {"rate_limit_per_day": 7}).json()["rate_limit_per_day"] == 7
        )
        assert asker("POST", f"{here}/{made.json()['id']}/rotate").json()["rate_limit_per_day"] == 7
        for method, path in (("PATCH", f"{here}/{bobs.pk}"), ("POST", f"{here}/{bobs.pk}/rotate")):
            assert asker(method, path, {}).status_code == 404, "a key of bob's is his to change"
    assert own("POST", here, WANTED).json()["code"] == "beyond_key", "it is no key of the brand, and spends other money"
    assert program("POST", "api-keys", WANTED).status_code == 403
    assert program("DELETE", f"{here}/{bobs.pk}").status_code == 204
    assert asks(bobs_text) == 401
    with scope(SERVICE):
        assert Activity.objects.get(action="key.revoked").key_id == ours.pk
        assert "was revoked" in Notification.objects.get(owner_id=world.bob.pk).title
        Membership.objects.filter(brand=world.act, user=world.alice).update(role="member")
    assert program("GET", here).status_code == 401


def test_a_key_of_the_brand_acts_as_its_person_so_no_other_admin_lets_it_do_more(world):
    """I-10: who reads the program's configuration would read that person's chats with it."""
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.bob).update(role="admin")
    ends_at = clock.now() + timedelta(days=9)
    key, _ = make(world.act, world.bob, "chat", keys.READ, is_brands=True, expires_at=ends_at, models=["demo"])
    here, alice = f"brands/act/api-keys/{key.pk}", Person("alice")

    wider = [
        {"scopes": ["chat", keys.READ, keys.OWN]},
        {"expires_at": str(ends_at + timedelta(1))},
        {"allowed_models": []},
    ]
    for more in wider:
        refused = alice("PATCH", here, more)
        assert (refused.status_code, refused.json().get("param")) == (403, next(iter(more))), refused.content
    assert alice("PATCH", here, {"scopes": ["chat"], "name": "Less"}).json()["scopes"] == ["chat"]
    assert Person("bob")("PATCH", here, {"scopes": ["chat", keys.READ]}).status_code == 200


def test_a_key_changes_none_that_may_do_more_than_it(world):
    """I-10: also not so that it may do less then."""
    wide, _ = make(world.act, world.bob, "chat", keys.READ, keys.OWN)
    _, narrow = make(world.act, world.bob, "chat", keys.OWN)

    refused = Program(narrow)("PATCH", f"api-keys/{wide.pk}", {"scopes": ["chat"], "rate_limit_per_day": 1})

    assert (refused.status_code, refused.json()["code"]) == (403, "beyond_key")
    assert rows(pk=wide.pk)[0].scopes == sorted(["chat", keys.READ, keys.OWN])


def test_a_key_that_was_ended_on_its_first_day_stays_in_the_books(world):
    """docs/api-keys.md: whoever looks into a leak finds it in the list of ended keys for 30 days."""
    key, _ = make(world.act, world.bob, "chat")
    bob = Person("bob")

    assert bob("POST", f"api-keys/{key.pk}/rotate", {"overlap": "now"}).status_code == 201

    with scope(SERVICE):
        ApiKey.objects.filter(pk=key.pk).update(expires_at=clock.now() - timedelta(days=3))
    assert forget_short_lived_keys() == 0
    assert str(key.pk) in {row["id"] for row in bob("GET", "api-keys").json()}


def test_a_list_of_many_keys_goes_on_page_by_page_and_old_ones_are_on_none(world):
    """F-12. What was made for an hour is gone from lists when it ended, and from the books a day later."""
    made = [make(world.act, world.bob, "chat")[0] for _ in range(5)]
    now = clock.now()
    short, _ = make(world.act, world.bob, "chat", expires_at=now + timedelta(hours=1))
    with scope(SERVICE):
        for number, key in enumerate(made):
            ApiKey.objects.filter(pk=key.pk).update(created_at=now - timedelta(days=40 + number // 2))
        ended = {"is_active": False, "revoked_at": now - timedelta(days=31)}
        ApiKey.objects.filter(pk=made[4].pk).update(**ended)
    bob = Person("bob")

    def listed():
        found, path = [], "api-keys?limit=2&fields=id"
        while path:
            page = bob("GET", path)
            found += [row["id"] for row in page.json()]
            link = page.headers.get("Link", "")
            path = link.partition("/api/v1/")[2].partition(">")[0]
        return found

    assert (len(listed()), set(listed())) == (5, {str(key.pk) for key in [*made[:4], short]})
    with scope(SERVICE):
        over = now - timedelta(hours=23)
        ApiKey.objects.filter(pk=short.pk).update(created_at=over - timedelta(hours=1), expires_at=over)
        ApiKey.objects.filter(pk=made[0].pk).update(expires_at=now - timedelta(days=3))
    assert str(short.pk) not in listed()
    assert forget_short_lived_keys() == 0
    with scope(SERVICE):
        ApiKey.objects.filter(pk=short.pk).update(
            expires_at=over - timedelta(hours=2), created_at=over - timedelta(hours=3)
        )
    assert forget_short_lived_keys() == 1
    assert {row.pk for row in rows(user=world.bob)} == {key.pk for key in made}
    assert bob("GET", f"api-keys?after={short.pk}").status_code == 400
