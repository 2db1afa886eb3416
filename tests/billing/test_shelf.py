"""What a brand sells decides which ways on a refusal names: no way leads to a shop with nothing in it."""

import importlib
import json

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from accounts import brands, keys
from accounts.models import Brand
from billing import shelf
from billing.models import CreditPackOffer, Plan
from lib.db import SERVICE, current_alias, scope
from quotas.decision import can_user_query
from tests import factories
from tests.billing.test_admin import form_of, plan_of
from tests.quotas.proofs import entitle

ASKED = {"queries": 1, "messages": 1, "conversations": 1, "tokens": 10}


@pytest.fixture
def staff(world):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.staff)
    return client


@pytest.fixture
def program(world):
    """bob's, who is on a plan of nothing."""
    spent(world)
    with scope(SERVICE):
        _, text = keys.create(world.act, world.bob, name="tests", scopes=["chat"])
    return Client(headers={"host": "act.localhost", "authorization": f"Bearer {text}"})


def spent(world, **features):
    entitle(world.act, world.bob, ("queries", "day", 0), features=features)


def sell(world, *, plans=(), packs=()):
    """Only these, by code and by meter."""
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act).update(is_offered=False)
        Plan.objects.filter(brand=world.act, code__in=plans).update(is_offered=True)
        CreditPackOffer.objects.filter(brand=world.act).update(is_active=False)
        for meter in packs:
            CreditPackOffer.objects.create(
                brand=world.act, code=f"{meter}-pack", name=meter, meter=meter, amount=10, price_microusd=1_000_000
            )
        shelf.tell(world.act)
    brands.forget()


def refused(world, brand=None):
    with scope(SERVICE):
        brand = Brand.objects.get(pk=(brand or world.act).pk)
    return can_user_query(brand, asker=("user", world.bob.pk), amounts=ASKED)


@pytest.mark.parametrize(
    ("plans", "packs", "ways", "said"),
    [
        (["pro"], ["queries"], ["pack", "plan"], "A larger plan gives more."),
        (["pro"], [], ["plan"], "A larger plan gives more."),
        ([], ["queries"], ["pack"], "A pack gives more."),
        (
            ["free"],
            ["messages"],
            ["ask_admin"],
            "The admin of this brand can give more.",
        ),  # no use to who counts questions
        ([], [], ["ask_admin"], "The admin of this brand can give more."),
    ],
)
def test_a_refusal_names_what_there_is_to_buy(world, plans, packs, ways, said):
    spent(world)
    sell(world, plans=plans, packs=packs)
    decision = refused(world)

    assert (decision.can_query, decision.ways) == (False, ways)
    assert said in decision.detail
    assert decision.requires_payment is (ways != ["ask_admin"])


def test_the_plan_that_one_has_is_no_way_on(world):
    sell(world, plans=["pro"])
    entitle(world.act, world.bob, ("queries", "day", 0), plan_code="pro")
    assert refused(world).ways == ["ask_admin"]
    sell(world, plans=["basic", "pro"])
    assert refused(world).ways == ["plan"]


def test_without_a_plan_one_is_led_to_plans_only_where_there_are_any(world):
    nobody = ("user", factories.make_user("dora@example.com").pk)
    assert can_user_query(world.act, asker=nobody, amounts=ASKED).ways == ["plan", "ask_admin"]
    sell(world)
    assert can_user_query(world.act, asker=nobody, amounts=ASKED).ways == ["ask_admin"]


@pytest.mark.parametrize(
    ("plans", "packs", "link"),
    [
        (["pro"], ["queries"], "See plans and packs"),
        (["pro"], [], "See plans<"),
        ([], ["queries"], "See packs"),
        ([], [], ""),
    ],
)
def test_page_and_programs_hear_the_same(world, program, plans, packs, link):
    sell(world, plans=plans, packs=packs)
    ways = [*(["pack"] if packs else []), *(["plan"] if plans else [])] or ["ask_admin"]
    page = Client(headers={"host": "act.localhost"})
    page.force_login(world.bob)

    checked = program.get("/api/v1/quota/check?meter=queries&amount=1").json()
    asked = program.post(
        "/v1/chat/completions",
        json.dumps({"model": "demo", "messages": [{"role": "user", "content": "Hello?"}]}),
        content_type="application/json",
    )
    note = page.get("/c/").content.decode().split('id="composer-note"')[1].split("data-retry")[0]

    assert (checked["ways"], checked["requires_payment"]) == (ways, bool(link))
    assert (asked.status_code, asked.json()["error"]["ways"]) == (402, ways)
    assert (link in note, 'href="/pricing/' in note) == (True, bool(link))


def test_switching_a_pack_on_or_off_is_told_at_once(world, staff):
    """By staff's pages, each with its own brand alone."""
    spent(world)
    sell(world, packs=["queries"])
    with scope(SERVICE):
        offer = CreditPackOffer.objects.get(brand=world.act, is_active=True)
        other = Brand.objects.get(pk=world.globex.pk)
    address = reverse("admin:billing_creditpackoffer_change", args=[offer.pk])
    form = {
        "name": "Ten",
        "meter": "queries",
        "amount": 10,
        "price_microusd": 1_000_000,
        "currency": "USD",
        "position": 1,
    }

    assert staff.post(address, form).status_code == 302
    assert refused(world).ways == ["ask_admin"]
    assert staff.post(address, form | {"is_active": "on"}).status_code == 302
    assert refused(world).ways == ["pack"]
    with scope(SERVICE):
        after = Brand.objects.get(pk=world.globex.pk)
    assert (after.sold_plans, after.sold_packs) == (other.sold_plans, other.sold_packs)


@pytest.mark.parametrize("field", ["is_active", "is_offered"])
def test_switching_a_plan_on_or_off_is_told_at_once(world, staff, field):
    spent(world)
    sell(world, plans=["pro"])
    plan = plan_of(world.act, "pro")
    with scope(SERVICE):
        lines = [(line.pk, line.meter, line.window, line.limit) for line in plan.limits.all()]
    on = form_of(plan, *lines, is_offered="on", byok_allowed="on", confirmed="on")
    address = reverse("admin:billing_plan_change", args=[plan.pk])

    assert staff.post(address, {name: value for name, value in on.items() if name != field}).status_code == 302
    assert refused(world).ways == ["ask_admin"]
    assert staff.post(address, on).status_code == 302
    assert refused(world).ways == ["plan"]


def test_a_catalogue_is_told_when_it_is_given(world):
    """The factories' brands were given S1's."""
    with scope(SERVICE):
        act = Brand.objects.get(pk=world.act.pk)

    assert act.sold_plans == ["basic", "pro", "usage_only"]
    assert act.sold_packs == ["queries"]


def test_brands_of_before_learn_what_they_sell(world):
    """The migration says what tell() says."""
    sell(world, plans=["free", "pro", "usage_only"], packs=["messages", "queries"])
    fill = importlib.import_module("billing.migrations.0009_tell_what_is_sold").SOLD

    def sold():
        return Brand.objects.order_by("slug").values_list("slug", "sold_plans", "sold_packs")

    with scope(SERVICE):
        told = list(sold())
        Brand.objects.update(sold_plans=[], sold_packs=[])
        with connections[current_alias()].cursor() as cursor:
            cursor.execute(fill)
        assert list(sold()) == told
        assert told[0][1:] == (["pro", "usage_only"], ["messages", "queries"])
