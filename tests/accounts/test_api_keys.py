"""API keys: who may make which, what they may do from call to call, how often, and what the pages show of them."""

import re
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from accounts import guessing, keys, limits
from accounts.limits import Limit
from accounts.models import ApiKey, Membership, User
from accounts.tasks import add_calls_of_keys
from billing.models import Plan
from billing.plans import assign_plan
from conversations.engine import turns
from conversations.models import Turn
from events.models import Activity, EmailLog, Notification
from lib import clock
from lib.db import SERVICE, scope
from quotas.models import Bucket
from tests import factories

MINE, CHANGE = "/settings/api-keys/", "/settings/api-keys/change/"
OF_BRAND, CHANGE_OF_BRAND = "/manage/api-keys/", "/manage/api-keys/change/"
TEXT = re.compile(r"sk_[0-9a-f]{12}_[A-Za-z0-9_-]{43}")
NOWHERE = "redis://127.0.0.1:1/0"


@pytest.fixture(autouse=True)
def counted_anew(monkeypatch):
    """In one minute, however long it takes, and by Redis, however busy the machine is."""
    now = time.time() // 60 * 60 + 5
    clocks = SimpleNamespace(time=lambda: now, monotonic=time.monotonic)
    monkeypatch.setattr(limits, "time", clocks)
    monkeypatch.setattr(guessing, "time", clocks)
    monkeypatch.setattr(limits, "PATIENCE_S", 30)
    limits.forget()
    guessing.forget()
    yield
    limits.forget()
    guessing.forget()


def make(brand, user, *scopes, **fields):
    with scope(SERVICE):
        return keys.create(brand, user, name="bot", scopes=scopes or ["chat"], **fields)


def ask(text, path="/v1/models", **headers):
    return Client(headers={"authorization": f"Bearer {text}", "host": "act.localhost", **headers}).get(path)


def signed_in(name, path="/account/login/"):
    client = Client(headers={"host": "act.localhost"})
    client.post(path, {"login": f"{name}@example.com", "password": factories.PASSWORD})
    return client


def form(**fields):
    told = {"do": "make", "once": uuid4(), "name": "Nightly", "scopes": ["chat"], "days": "30", "per_minute": 5}
    return {**told, "per_day": 100, **fields}


def rows(**wanted):
    with scope(SERVICE):
        return list(ApiKey.objects.filter(**wanted).order_by("created_at"))


def test_a_key_does_no_more_than_its_person_and_less_as_soon_as_they_may_less(world):
    """I-10: no scope beyond the creator's, none that is unknown; a demotion counts with the next call."""
    for scopes in (["activity:read"], ["chat", "webhooks:manage"]):
        with pytest.raises(keys.NotYours):
            make(world.act, world.bob, *scopes)
    with pytest.raises(keys.NotYours):
        make(world.act, world.bob, is_brands=True)
    for scopes in (["*"], ["conversations:*"], ["admin"]):
        with pytest.raises(keys.Invalid):
            make(world.act, world.alice, *scopes)
    _, text = make(world.act, world.alice, "chat", "activity:read")
    _, of_brand = make(world.act, world.alice, "chat", is_brands=True)

    def may():
        return keys.authenticate(f"Bearer {text}").principal.scopes

    assert may() == {"chat", "activity:read"}
    assert keys.authenticate(f"Bearer {of_brand}").principal.for_brand
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.alice).update(role="member")
    assert may() == {"chat"}
    with pytest.raises(keys.NotAuthenticated):
        keys.authenticate(f"Bearer {of_brand}")


def test_a_renewed_key_works_beside_the_old_one_until_its_time_and_both_are_counted(world):
    old, old_text = make(world.act, world.bob, "chat", per_minute=3)
    with scope(SERVICE):
        new, new_text = keys.rotate(old, world.bob, overlap=timedelta(hours=1))
        with pytest.raises(keys.MadeAlready):
            keys.rotate(old, world.bob, overlap=timedelta(hours=1), key_id=new.pk)

    told = [ask(text).status_code for text in (old_text, new_text, old_text, new_text)]

    assert told == [200, 200, 200, 429]
    with scope(SERVICE):
        ApiKey.objects.filter(pk=old.pk).update(expires_at=clock.now() - timedelta(hours=1))
    assert ask(old_text).status_code == 401
    add_calls_of_keys()
    assert {key.pk: key.total_requests for key in rows(user=world.bob)} == {old.pk: 2, new.pk: 1}
    assert all(key.last_used_at for key in rows(user=world.bob))


def test_of_many_calls_at_once_exactly_the_limit_is_let_through():
    """One script decides and takes from all counters or from none."""
    ends = int(clock.now().timestamp()) + 60
    loose, tight = Limit(f"test:{uuid4()}", 1000, ends, 60), Limit(f"test:{uuid4()}", 37, ends, 60)

    with ThreadPoolExecutor(16) as threads:
        told = list(threads.map(lambda _: limits.count([loose, tight])[1], range(200)))

    assert told.count(None) == 37
    left, full = limits.count([loose, tight])
    assert full == tight
    assert [allowance.left for allowance in left] == [1000 - 37, 0]


def test_without_redis_each_process_counts_for_itself_and_nothing_is_open(settings, world):
    here, settings.REDIS_URL = settings.REDIS_URL, NOWHERE
    key, text = make(world.act, world.bob, per_minute=2)

    assert [ask(text).status_code for _ in range(4)] == [200, 200, 429, 429]
    settings.REDIS_URL = here
    limits._redis.cache_clear()
    limits._take.cache_clear()
    limits._again_at = 0.0
    limits.count([], key_id=key.pk)
    add_calls_of_keys()
    assert rows(pk=key.pk)[0].total_requests == 3, "what was let through meanwhile is in the totals"


def test_a_batch_of_calls_is_added_once_however_often_it_is_tried(world, monkeypatch):
    """A worker that dies between adding and throwing away leaves the batch to the next one."""
    key, text = make(world.act, world.bob)
    for _ in range(3):
        ask(text)
    monkeypatch.setattr(limits, "END_FOLD", "return 0")

    add_calls_of_keys()
    add_calls_of_keys()
    ask(text)
    monkeypatch.undo()
    add_calls_of_keys()
    add_calls_of_keys()

    assert rows(pk=key.pk)[0].total_requests == 4


@pytest.mark.parametrize(
    ("path", "names"),
    [
        ("/v1/models", ["x-ratelimit-limit-requests", "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests"]),
        (
            "/v1/messages/count_tokens",
            [f"anthropic-ratelimit-requests-{name}" for name in ("limit", "remaining", "reset")],
        ),
        ("/api/v1/ai-providers", ["RateLimit-Limit", "RateLimit-Remaining", "RateLimit-Reset"]),
    ],
)
def test_every_answer_says_what_is_left_and_the_refusal_when_to_come_again(world, path, names):
    _, text = make(world.act, world.bob, "chat", per_minute=2)

    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}], "max_tokens": 10}
    client = Client(headers={"authorization": f"Bearer {text}", "host": "act.localhost"})

    def called():
        if path.endswith("tokens"):
            return client.post(path, body, content_type="application/json")
        return client.get(path)

    first, _second, third = called(), called(), called()

    assert [first.headers[name] for name in names[:2]] == ["2", "1"]
    assert third.status_code == 429
    assert third.headers[names[1]] == "0"
    assert 1 <= int(third.headers["Retry-After"]) <= 60
    told = third.json()
    error = told.get("error", told)
    assert "2 calls a minute" in (error.get("message") or error["detail"])


def test_the_plan_bounds_all_keys_and_questions_of_a_person_together(world):
    """Plan.rate_limit_per_minute, handed on to the membership; the brand's own keys are not its person's."""
    with scope(SERVICE):
        plan = Plan.objects.get(brand=world.act, code="pro")
        plan.rate_limit_per_minute = 3
        plan.save()
        assign_plan(world.act, plan, user_id=world.alice.pk)
        assert Membership.objects.get(brand=world.act, user=world.alice).rate_limit_per_minute == 3
    (_, one), (_, two), (_, brands) = (make(world.act, world.alice, is_brands=own) for own in (False, False, True))
    alice = signed_in("alice")

    assert [ask(text).status_code for text in (one, two)] == [200, 200]
    assert alice.post("/c/send/", {"text": "hello"}).status_code == 303
    refused = alice.post("/c/send/", {"text": "hello"})

    assert refused.status_code == 429
    assert "3 times a minute" in refused.content.decode()
    assert ask(one).status_code == 429
    assert ask(brands).status_code == 200
    assert alice.get("/c/").status_code == 200, "reading is not asking"


def test_who_tries_keys_is_not_listened_to_and_whose_key_works_is(world, settings):
    """A-07: one look-up each, then none; a neighbour in the same network works on."""
    settings.FAILED_KEYS_PER_MINUTE = 5
    _, text = make(world.act, world.bob)
    there = {"REMOTE_ADDR": f"203.0.{uuid4().bytes[0]}.9"}

    def tried(key):
        with CaptureQueriesContext(connections["default"]) as sent:
            answer = Client(headers={"authorization": f"Bearer {key}"}, **there).get("/v1/models")
        return answer.status_code, sum("lookup.api_key" in row["sql"] for row in sent)

    assert tried(text) == (200, 1)
    told = [tried(f"sk_{uuid4().hex[:12]}_{'a' * 43}") for _ in range(9)]

    assert told[:5] == [(401, 1)] * 5
    assert [status for status, _ in told[5:]] == [429] * 4
    assert sum(queries for _, queries in told[6:]) == 0
    assert tried(text) == (200, 1)
    elsewhere = Client(headers={"authorization": f"Bearer {text[:-1]}_"}, REMOTE_ADDR="198.51.100.7")
    assert elsewhere.get("/v1/models").status_code == 401


def test_a_key_is_shown_once_where_it_is_made_and_its_page_tells_the_rest(world):
    """A-07, A-16: the text is in no row; a form that is sent twice makes one key."""
    bob, sent = signed_in("bob"), form(per_minute=7)

    made = bob.post(CHANGE, sent)
    again = bob.post(CHANGE, sent)
    (text,) = set(TEXT.findall(made.content.decode()))
    ask(text)
    page = bob.get(MINE).content.decode()

    assert made.status_code == 200
    assert again.status_code == 409
    assert not TEXT.search(again.content.decode() + page)
    (key,) = rows(user=world.bob)
    assert (key.name, key.scopes, key.rate_limit_per_minute, key.is_brands) == ("Nightly", ["chat"], 7, False)
    assert timedelta(days=29) < key.expires_at - clock.now() <= timedelta(days=30)
    assert f"sk_{key.key_prefix}_" in page
    assert "1 of 100 calls today, at most 7 a minute" in page
    with scope(SERVICE):
        (line,) = Activity.objects.filter(action="key.created")
        assert (line.actor_id, line.resource_id) == (world.bob.pk, key.pk)
    with connections["default"].cursor() as cursor:
        for table in ("accounts_apikey", "events_activity", "django_session", "events_event"):
            with scope(SERVICE):
                cursor.execute(f"select count(*) from {table} t where t::text like %s", [f"%{text.rsplit('_', 1)[1]}%"])
                assert cursor.fetchone() == (0,), table


def test_what_cannot_be_made_is_said_beside_what_was_typed(world):
    bob = signed_in("bob")

    wrong = bob.post(CHANGE, form(name=" ", scopes=[], per_day=0))
    beyond = bob.post(CHANGE, form(scopes=["activity:read"]))

    assert wrong.status_code == beyond.status_code == 422
    page = wrong.content.decode()
    assert "Give the key a name" in page
    assert "one thing at least" in page
    assert 'value="0"' in page
    assert rows(user=world.bob) == []
    assert "activity:read" not in page, "what bob may not give is not offered"
    assert "activity:read" in signed_in("alice").get(MINE).content.decode()


def test_admins_see_and_revoke_all_keys_of_their_brand_and_nobody_elses(world):
    bobs, text = make(world.act, world.bob)
    charlies, _ = make(world.globex, world.charlie)
    alice, bob = signed_in("alice"), signed_in("bob")
    assert bob.get(OF_BRAND).status_code == 404

    made = alice.post(CHANGE_OF_BRAND, form(name="Ours", scopes=["brand:read"]))
    page = alice.get(OF_BRAND).content.decode()
    foreign = alice.post(CHANGE_OF_BRAND, {"do": "revoke", "key": charlies.pk})
    hers = bob.post(CHANGE, {"do": "revoke", "key": rows(is_brands=True)[0].pk})
    renewed = alice.post(CHANGE_OF_BRAND, {"do": "rotate", "key": bobs.pk, "once": uuid4(), "overlap": "day"})
    revoked = alice.post(CHANGE_OF_BRAND, {"do": "revoke", "key": bobs.pk}, follow=True)

    assert TEXT.search(made.content.decode())
    assert "bob@example.com" in page
    assert "Ours" in page
    assert "charlie" not in page
    assert foreign.status_code == hers.status_code == 404
    assert renewed.status_code == 404, "a key of bob's would then be alice's"
    assert "is revoked" in revoked.content.decode()
    assert ask(text).status_code == 401
    assert not rows(pk=bobs.pk)[0].is_active
    assert rows(pk=charlies.pk)[0].is_active
    with scope(SERVICE):
        line = Activity.objects.get(action="key.revoked")
        assert (line.actor_id, line.resource_id) == (world.alice.pk, bobs.pk)


def test_whose_key_an_admin_revokes_is_told_once_however_many_there_are(world):
    """By bell and mail; who revokes their own knows it, and of a key that is over nobody needs to know."""
    made = [make(world.act, world.bob)[0] for _ in range(4)]
    over, _ = make(world.act, world.bob, expires_at=clock.now() - timedelta(hours=1))
    alice, bob = signed_in("alice"), signed_in("bob")

    bob.post(CHANGE, {"do": "revoke", "key": made[0].pk})
    alice.post(CHANGE_OF_BRAND, {"do": "revoke", "key": over.pk})
    assert [told.title for told in notices_of(world.bob)] == []
    for key in [*made, made[1]]:
        alice.post(CHANGE_OF_BRAND, {"do": "revoke", "key": key.pk})

    (notice,) = [told for told in notices_of(world.bob) if told.head_id is None]
    assert (notice.title, notice.count) == ("3 keys of yours stopped working", 3)
    assert "was revoked" in notice.message
    assert notices_of(world.alice) == []
    with scope(SERVICE):
        (mail,) = EmailLog.objects.filter(user_id=world.bob.pk)
    assert mail.subject.endswith("3 keys of yours stopped working")
    page = bob.get("/notifications/").content.decode()
    assert "3 keys of yours stopped working" in page


def notices_of(user):
    with scope(SERVICE):
        return list(Notification.objects.filter(owner_id=user.pk))


def test_renewing_shows_the_new_key_and_ends_the_old_one_in_time(world):
    bob = signed_in("bob")
    bob.post(CHANGE, form())
    (old,) = rows(user=world.bob)

    made = bob.post(CHANGE, {"do": "rotate", "key": old.pk, "once": uuid4(), "overlap": "hour"})
    odd = bob.post(CHANGE, {"do": "rotate", "key": old.pk, "once": uuid4(), "overlap": "ever"})

    (text,) = set(TEXT.findall(made.content.decode()))
    old, new = rows(user=world.bob)
    assert (new.scopes, new.rate_limit_per_minute, new.family_id) == (old.scopes, 5, old.pk)
    assert timedelta(minutes=59) < old.expires_at - clock.now() <= timedelta(hours=1)
    assert odd.status_code == 400
    assert ask(text).status_code == 200


def test_what_is_being_answered_ends_with_the_key_and_with_its_person(world):
    """I-11: every process asks this of its running answers, every third second, and stops them as a person would."""
    of_alice, _ = make(world.act, world.alice)
    brands, _ = make(world.act, world.alice, is_brands=True)
    gone = {name: make(world.act, world.bob)[0] for name in ("revoked", "expired", "fine")}
    holders = {"brands": brands, "alice": of_alice, **gone}
    with scope(SERVICE):
        running = {
            name: Turn.objects.create(
                brand=world.act, owner_id=key.user_id, provider_id=world.demo.pk, api_key_id=key.pk, heartbeat_at=clock.now()
            ).pk
            for name, key in holders.items()
        }  # fmt: skip

    def unwelcome():
        found = turns.unwelcome(list(running.values()))
        return {name for name, pk in running.items() if pk in found}

    assert unwelcome() == set()
    with scope(SERVICE):
        keys.revoke(gone["revoked"])
        ApiKey.objects.filter(pk=gone["expired"].pk).update(expires_at=clock.now() - timedelta(hours=1))
        Membership.objects.filter(brand=world.act, user=world.alice).update(role="member")
    assert unwelcome() == {"revoked", "expired", "brands"}
    with scope(SERVICE):
        User.objects.filter(pk=world.bob.pk).update(is_active=False)
    assert unwelcome() == {"revoked", "expired", "brands", "fine"}


def test_a_key_may_be_bound_to_models(world):
    """For the try-it of the docs: one hour, the demo model only."""
    other = factories.make_provider("other")
    until = clock.now() + timedelta(hours=1)
    _, text = make(world.act, world.bob, "chat", models=["demo"], expires_at=until)
    headers = {"authorization": f"Bearer {text}"}

    def said(model):
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}]}
        return Client().post("/v1/chat/completions", body, content_type="application/json", headers=headers)

    assert said("demo").status_code == 200
    assert said(other.api_identifier).status_code == 404
    embedding = {"model": "demo-embedding", "input": "hello"}
    assert Client().post("/v1/embeddings", embedding, "application/json", headers=headers).status_code == 404
    assert [model["id"] for model in ask(text).json()["data"]] == ["demo"]


def test_a_key_of_the_brand_is_paid_by_its_pool_and_not_by_its_maker(world):
    _, text = make(world.act, world.alice, "chat", is_brands=True)
    body = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}

    answer = Client().post(
        "/v1/chat/completions", body, content_type="application/json", headers={"authorization": f"Bearer {text}"}
    )

    assert answer.status_code == 200
    with scope(SERVICE):
        used = Bucket.objects.filter(brand=world.act, used__gt=0)
        assert {bucket.account.kind for bucket in used.select_related("account")} == {"brand"}
