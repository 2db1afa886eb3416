"""How the models do, for staff and for a brand's admins, and the chain that the latter edit."""

from datetime import timedelta

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from conversations.engine import health
from conversations.models import Turn
from events.models import Activity
from lib.db import SERVICE, Principal, current_alias, scope
from lib.ids import first_at, uuid7
from providers import breaker, fallback
from providers.models import Fallback
from tests import factories

PAGE, CHAIN = "/manage/models/", "/manage/models/chain/"


@pytest.fixture
def models(world):
    return {
        name: factories.make_provider(name, position=number)
        for number, name in enumerate(("big", "small", "spare"), start=1)
    }


@pytest.fixture
def admin(world):
    """Alice, owner of act."""
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.alice)
    return client


def make_turn(brand, provider, *, ago=timedelta(0), ms=None, error="", attempts=(), status=""):
    now = timezone.now() - ago
    pk = uuid7()
    pk = type(pk)(int=first_at(now).int | (pk.int & ((1 << 80) - 1)))
    Turn.objects.create(
        pk=pk,
        brand=brand,
        owner_id=uuid7(),
        provider_id=provider.pk,
        status=status or ("failed" if error else "done"),
        error_code=error,
        first_piece_ms=ms,
        heartbeat_at=now,
        ended_at=now,
        attempts=[
            {"provider_id": str(row.pk), "model": row.api_identifier, "error_code": code, "ms": 5}
            for row, code in attempts
        ],
    )


def told(rows):
    return {
        row.offer.api_identifier: (row.asked, row.answered, dict(row.failed), row.stood_in, row.median_ms, row.p95_ms)
        for row in rows
    }


def test_calls_are_counted_by_model_with_what_failed_and_who_stood_in(world, models):
    """O-03: each failed attempt is a call of its own; what was left alone was not asked."""
    big, small = models["big"], models["small"]
    with scope(SERVICE):
        for ms in range(1, 101):
            make_turn(world.act, big, ms=ms * 10)
        make_turn(world.act, big, error="provider_timeout", attempts=[(big, "provider_down")] * 2)
        make_turn(world.act, small, ms=70, attempts=[(big, "provider_down"), (big, "provider_down")])
        make_turn(world.act, small, ms=90, attempts=[(big, "provider_resting")])
        make_turn(world.act, small, status="streaming")
        make_turn(world.act, models["spare"], status="stopped")
        make_turn(world.globex, small, ms=5)
        make_turn(world.act, small, ms=5, ago=timedelta(hours=2))
        hour = told(health.health("hour", brand_id=world.act.pk))
        day = told(health.health("day", brand_id=world.act.pk))
        everybody = told(health.health("hour"))

    failed = {"provider_down": 4, "provider_timeout": 1, "provider_resting": 1}
    assert hour["big"] == (105, 100, failed, 0, 500, 950)
    assert hour["small"] == (2, 2, {}, 2, 70, 90)
    assert hour["spare"] == (1, 0, {}, 0, None, None)
    assert day["small"][:2] == (3, 3)
    assert everybody["small"][:2] == (3, 3)


def test_the_state_says_what_keeps_a_model_from_being_asked(world, settings):
    settings.OPENAI_API_KEY = ""
    rows = {
        "no key": factories.make_provider("a", protocol="openai"),
        "no price": factories.make_provider("b", priced=False),
        "key refused": factories.make_provider("c"),
        "left alone for 9 s": factories.make_provider("d", model="resting"),
        "busy, asked again in 9 s": factories.make_provider("e", model="busy"),
        "offered": factories.make_provider("f"),
    }
    now = breaker.clock()
    breaker._resting["demo", "", "resting", None] = breaker.Rest(until=now + 9.4, rests=1)
    breaker._resting["demo", "", "busy", None] = breaker.Rest(until=now + 9.4, is_busy=True)
    with scope(SERVICE):
        make_turn(world.act, rows["key refused"], ms=5, ago=timedelta(minutes=2))
        make_turn(world.act, rows["key refused"], error="provider_key_refused")
        make_turn(world.act, rows["offered"], error="provider_key_refused", ago=timedelta(minutes=2))
        make_turn(world.act, rows["offered"], ms=5)
        states = {row.offer.id: row.state[1] for row in health.health("hour")}
    breaker.forget()

    assert {words: states[row.pk] for words, row in rows.items()} == {words: words for words in rows}


def test_an_admin_sees_the_brands_own_numbers_only(world, models, admin):
    with scope(SERVICE):
        for _ in range(3):
            make_turn(world.act, models["big"], ms=1234)
        make_turn(world.globex, models["small"], error="provider_garbled")

    page = admin.get(PAGE).content.decode()

    assert "1,234 ms" in page
    assert "sent nonsense" not in page
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.bob)
    assert client.get(PAGE).status_code == 404
    client.force_login(world.staff)
    everybodys = client.get(reverse("admin:models")).content.decode()
    assert "1,234 ms" in everybodys
    assert "1 sent nonsense" in everybodys
    assert reverse("admin:models") in client.get(reverse("admin:providers_aiprovider_changelist")).content.decode()


def chain_of(brand):
    with scope(SERVICE):
        return [place.provider.api_identifier for place in fallback.places(brand.pk)]


def test_an_admin_makes_the_chain_without_javascript(world, models, admin):
    with scope(SERVICE):
        Fallback.objects.create(brand=world.globex, provider=models["spare"], position=1)

    def do(what, name):
        response = admin.post(CHAIN, {"do": what, "provider": str(models[name].pk)})
        assert (response.status_code, response.headers["Location"]) == (303, f"{PAGE}#chain")
        return chain_of(world.act)

    assert do("add", "big") == ["big"]
    assert do("add", "small") == ["big", "small"]
    assert do("add", "big") == ["big", "small"]
    assert do("add", "spare") == ["big", "small", "spare"]
    assert do("up", "spare") == ["big", "spare", "small"]
    assert do("up", "spare") == ["spare", "big", "small"]
    assert do("up", "spare") == ["spare", "big", "small"]
    assert do("down", "spare") == ["big", "spare", "small"]
    assert do("remove", "spare") == ["big", "small"]
    assert do("down", "spare") == ["big", "small"]
    page = admin.get(PAGE).content.decode()
    assert "Move Small up" in page
    assert chain_of(world.globex) == ["spare"]
    with scope(SERVICE):
        lines = list(Activity.objects.filter(brand=world.act, action="fallback.changed").order_by("id"))
    assert len(lines) == 10
    assert lines[-1].actor_id == world.alice.pk
    assert lines[-1].changes["chain"][1] == [str(models[name].pk) for name in ("big", "small")]


def test_what_cannot_be_added_is_refused_in_words(world, models, admin):
    retired = factories.make_provider("retired", is_active=False)
    for number in range(fallback.MOST):
        row = factories.make_provider(f"n{number}")
        admin.post(CHAIN, {"do": "add", "provider": str(row.pk)})

    full = admin.post(CHAIN, {"do": "add", "provider": str(models["big"].pk)})
    gone = admin.post(CHAIN, {"do": "add", "provider": str(retired.pk)})
    nothing = admin.post(CHAIN, {"do": "add"})
    nonsense = admin.post(CHAIN, {"do": "explode", "provider": "x"})

    assert [answer.status_code for answer in (full, gone, nothing, nonsense)] == [400, 404, 400, 400]
    assert "at most 5 models" in full.content.decode()
    assert "Choose another one" in gone.content.decode()
    assert "Choose a model from the list." in nothing.content.decode()
    assert len(chain_of(world.act)) == fallback.MOST


MANY = """
insert into conversations_turn (id, brand_id, owner_id, provider_id, status, heartbeat_at, created_at, ended_at)
select (lpad(to_hex((extract(epoch from now()) * 1000)::bigint - n * 600000::bigint), 12, '0')
        || '7000' || '8000' || lpad(to_hex(n), 12, '0'))::uuid,
       case when n %% 50 = 0
            then %(act)s::uuid else %(globex)s::uuid end, gen_random_uuid(), %(model)s, 'done', now(), now(), now()
from generate_series(1, 20000) n
"""


@pytest.mark.django_db(transaction=True, databases=["default", "service", "owner"])
@pytest.mark.parametrize(("role", "index"), [("app_brand", "turns_ended"), ("app_service", "conversations_turn_pkey")])
def test_the_numbers_come_from_an_index(live_world, role, index):
    """Four months of turns, of which a day is looked at."""
    act, alice = live_world.act, live_world.alice
    names = {"act": act.pk, "globex": live_world.globex.pk, "model": live_world.demo.pk}
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(MANY, names)
    with connections["owner"].cursor() as cursor:
        cursor.execute("analyze conversations_turn")
    who = SERVICE if role == "app_service" else Principal("app_brand", act.pk, alice.pk)
    sql = health.HEALTH.format(of_brand=health.OF_BRAND if role == "app_brand" else "")
    since = first_at(timezone.now() - timedelta(days=1))
    with scope(who), connections[current_alias()].cursor() as cursor:
        cursor.execute(f"explain {sql}", {"since": since, "brand": act.pk})
        plan = "\n".join(line for (line,) in cursor)

    assert f"Index Scan using {index}" in plan or f"on {index}" in plan, plan
    assert "Seq Scan on conversations_turn" not in plan
