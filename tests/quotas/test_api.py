"""REST of the meter: the decision, the limit of conversations, the log; for sessions and for keys."""

from uuid import uuid4

import pytest
from django.test import Client

from accounts import keys
from lib.db import SERVICE, scope, send
from quotas import ledger, usage
from quotas.models import Entry, Hold
from tests.quotas.proofs import ask, entitle, pack, prove


@pytest.fixture
def bob(world):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.bob)
    yield client
    prove(world)


def key_of(brand, user, *scopes):
    with scope(SERVICE):
        _, text = keys.create(brand, user, name="reader", scopes=scopes)
    return Client(headers={"authorization": f"Bearer {text}"})


def use(world, count=1):
    for number in range(count):
        turn = ask(world.act, world.bob)
        with scope(SERVICE):
            send(ledger.settling(turn, amounts={"queries": 1, "tokens": 9}))
            send(
                usage.logging(
                    world.act.pk,
                    world.bob.pk,
                    usage_type="message",
                    reservation=turn,
                    pocket="plan",
                    prompt_tokens=number,
                )
            )


def test_the_check_says_what_the_next_question_would_meet(world, bob):
    use(world, 3)
    told = bob.get("/api/v1/quota/check").json()

    assert (told["can_query"], told["has_quota"], told["reason"], told["pocket"]) == (True, True, "allowed", "plan")
    assert (told["meter"], told["amount"], told["plan"], told["zone"]) == ("queries", 1, "Free", "UTC")
    assert told["meters"] == [
        {"meter": "queries", "window": "lifetime", "limit": 10, "used": 3, "held": 0, "left": 7, "resets_at": None}
    ]
    with scope(SERVICE):
        assert not Hold.objects.exists()


def test_a_refusal_of_the_check_is_an_answer_and_not_an_error(world, bob):
    use(world, 10)
    answer = bob.get("/api/v1/quota/check?meter=queries&amount=1")

    assert (answer.status_code, answer.json()["can_query"], answer.json()["ways"]) == (200, False, ["pack", "plan"])
    assert answer.json()["reason"] == "user_queries_used_up"
    assert answer.json()["detail"].startswith("All 10 questions of your plan are used.")


def test_s0_asks_for_prompt_tokens_of_the_brand(world, bob):
    """S0 checkQuota(supabase, brandId, 'prompt_tokens', 1000)."""
    enough, too_many = (
        bob.get(f"/api/v1/quota/check?meter=prompt_tokens&amount={n}").json() for n in (1000, 2_000_001)
    )

    assert (enough["has_quota"], enough["meter"]) == (True, "tokens")
    assert (too_many["has_quota"], too_many["reason"]) == (False, "brand_tokens_used_up")


@pytest.mark.parametrize(
    "query",
    [
        "amount=-1", "amount=0", "amount=1.5", "amount=1e3", "amount=99999999999999999999", "amount=abc", "amount=",
        "amount=%D9%A1", "meter=overage_microusd", "meter=gold", "meter=%00", "amount=1000000000001",
    ],
)  # fmt: skip
def test_garbage_is_refused_in_the_problem_shape(world, bob, query):
    answer = bob.get(f"/api/v1/quota/check?{query}")

    assert answer.status_code == 400
    assert {"code", "detail", "request_id"} <= answer.json().keys()


def test_packs_and_overage_are_told(world, bob):
    entitle(
        world.act,
        world.bob,
        ("queries", "day", 0),
        features={
            "overage_allowed": True,
            "overage_price_microusd": 25_000,
            "overage_cap_microusd": 10_000_000,
            "is_billable": True,
            "overage_by_default": True,
        },
    )
    paid = bob.get("/api/v1/quota/check").json()
    pack(world.act, world.bob, 200)
    packed = bob.get("/api/v1/quota/check").json()

    assert (paid["pocket"], paid["price_microusd"], paid["overage"]["left_microusd"]) == ("overage", 25_000, 10_000_000)
    assert (packed["pocket"], packed["price_microusd"]) == ("pack", 0)
    assert [row["left"] for row in packed["packs"]] == [200]


def test_the_limit_of_conversations(world, bob):
    """S2"""
    free = bob.get("/api/v1/conversations/limit").json()
    entitle(world.act, world.bob, ("conversations", "month", 5), features={"unit": "conversations"})
    told = bob.get("/api/v1/conversations/limit").json()

    assert (free["can_start"], free["is_counted"], free["limit"]) == (True, False, None)
    assert (told["can_start"], told["limit"], told["used"], told["left"]) == (True, 5, 0, 5)
    assert told["resets_at"]


def test_the_log_goes_on_where_it_ended_and_shows_nobody_elses(world, bob):
    use(world, 5)
    alice = ledger.reserve(world.act, asker=("user", world.alice.pk), amounts={"queries": 1}, reservation=uuid4())
    assert alice == "plan"
    first = bob.get("/api/v1/usage?limit=2").json()
    rest = bob.get(f"/api/v1/usage?before={first['next']}").json()

    assert [row["prompt_tokens"] for row in first["results"] + rest["results"]] == [4, 3, 2, 1, 0]
    assert rest["next"] is None
    assert first["results"][0]["pocket"] == "plan"
    assert [bob.get(f"/api/v1/usage?{query}").status_code for query in ("before=x", "limit=0", "limit=101")] == [
        400
    ] * 3


def test_who_may_look(world, bob):
    asker, reader, recorder = (
        key_of(world.act, world.bob, one) for one in ("chat", "conversations:read", "messages:record")
    )
    stranger = Client(headers={"host": "act.localhost"})
    stranger.force_login(world.charlie)
    paths = ("/api/v1/quota/check", "/api/v1/conversations/limit", "/api/v1/usage")
    seen = {
        name: [client.get(path).status_code for path in paths]
        for name, client in {
            "asker": asker, "reader": reader, "recorder": recorder, "stranger": stranger,
            "nobody": Client(headers={"host": "act.localhost"}),
        }.items()
    }  # fmt: skip

    assert seen == {
        "asker": [200, 200, 403],
        "reader": [200, 200, 200],
        "recorder": [403, 403, 403],
        "stranger": [404, 404, 404],
        "nobody": [401, 401, 401],
    }
    assert bob.post(paths[0]).status_code == 405
    with scope(SERVICE):
        assert Entry.objects.filter(kind="use").count() == 0
