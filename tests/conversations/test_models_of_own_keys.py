"""A vendor that the platform has no key for: who brings one is offered its models, and nobody else is."""

import pytest
from django.test import Client

from accounts import keys
from conversations.engine import beginning, handing_over, paying
from conversations.engine.turns import Question
from lib.db import SERVICE, scope
from lib.secret import Secret
from providers import offers, own_keys
from providers.models import Fallback
from providers.offers import NoKey
from providers.own_keys import OwnKeyRefused
from providers.vendors import VENDORS
from quotas.models import Hold
from tests import factories
from tests.quotas.proofs import entitle, prove

OWN = "sk-own-openai-1234"
HOME = "https://api.openai.com/v1"


@pytest.fixture
def keyless(settings):
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = settings.OPENROUTER_API_KEY = ""
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""
    return settings


@pytest.fixture
def world(world, keyless):
    """Alice of act has a key at OpenAI. Bob of act, who may have one, and charlie of globex, who has one at Anthropic."""
    paying._without.clear()
    factories.make_provider("gpt", protocol="openai", position=300)
    factories.make_provider("gpt-vectors", protocol="openai", kind="embedding", position=301)
    factories.make_provider("router", protocol="openai", base_url="https://openrouter.ai/api/v1", position=302)
    factories.make_provider("claude", protocol="anthropic", position=303)
    for brand, user in ((world.act, world.alice), (world.act, world.bob), (world.globex, world.charlie)):
        entitle(brand, user, ("queries", "day", 5), features={"byok_allowed": True})
    give(world.act, world.alice, OWN)
    give(world.globex, world.charlie, "sk-ant-own-5678", "anthropic")
    yield world
    offers.forget()
    paying._without.clear()
    prove(world)


def give(brand, user, key, vendor="openai", *, status="valid"):
    who = factories.member(brand, user)
    with scope(who):
        own_keys.store(who, VENDORS[vendor], Secret(key), status=status)
    paying.forget(who)


def on_page(brand, user, path="/c/"):
    client = Client(headers={"host": f"{brand.slug}.localhost"})
    client.force_login(user)
    text = client.get(path).content.decode()
    return [name for name in ("Gpt", "Router", "Claude", "Demo") if f"<span data-name>{name}</span>" in text]


def listed(brand, user):
    with scope(SERVICE):
        _, key = keys.create(brand, user, name="tests", scopes=["chat"])
    answer = Client(headers={"host": f"{brand.slug}.localhost", "authorization": f"Bearer {key}"}).get("/v1/models")
    return [row["id"] for row in answer.json()["data"]]


def begun(brand, user, model, **fields):
    return beginning.begin(factories.member(brand, user), brand, Question(text="Hello?", model=model, **fields))


def test_the_page_offers_them_to_who_has_the_key_and_to_nobody_else(world):
    assert on_page(world.act, world.alice) == ["Gpt", "Demo"]
    assert on_page(world.act, world.bob) == ["Demo"]
    assert on_page(world.globex, world.charlie) == ["Claude", "Demo"]


def test_programs_are_told_the_same(world):
    alice, bob = listed(world.act, world.alice), listed(world.act, world.bob)

    assert set(alice) - set(bob) == {"gpt", "gpt-vectors"}
    assert set(listed(world.globex, world.charlie)) - set(bob) == {"claude"}


@pytest.mark.parametrize("is_program", [False, True])
def test_a_question_to_them_goes_to_the_vendors_home_with_the_own_key_and_counts_nothing(world, is_program):
    """Q-27"""
    messages = ({"role": "user", "content": "Hello?"},) if is_program else None
    ready = begun(world.act, world.alice, "gpt", messages=messages)

    assert (ready.pocket, ready.call.base_url) == ("own_key", HOME)
    assert paying.key_for(ready.call, ready.own_key).reveal() == OWN
    with scope(SERVICE):
        assert set(Hold.objects.filter(reservation=ready.turn_id).values_list("amount", flat=True)) == {0}


@pytest.mark.parametrize("model", ["gpt", "router", "claude"])
def test_without_the_vendors_own_key_asking_by_name_is_refused_in_words_and_holds_nothing(world, model):
    """Neither another member's key, nor another brand's, nor one at another vendor."""
    askers = [(world.act, world.bob)]
    askers += [(world.act, world.alice)] if model != "gpt" else []
    askers += [(world.globex, world.charlie)] if model != "claude" else []
    for brand, user in askers:
        with pytest.raises(NoKey, match=r"has no key of its vendor yet, so it cannot be asked\. Choose another"):
            begun(brand, user, model)
    with scope(SERVICE):
        assert not Hold.objects.exists()


@pytest.mark.parametrize("how", ["switched off", "deleted", "not in the plan"])
def test_they_are_gone_with_the_key(world, how):
    """Also in a chat that was begun with one: it goes on with what is offered."""
    alice = factories.member(world.act, world.alice)
    chat = begun(world.act, world.alice, "gpt").conversation_id
    if how == "not in the plan":
        entitle(world.act, world.alice, ("queries", "day", 5), features={"byok_allowed": False})
    else:
        with scope(alice):
            if how == "deleted":
                own_keys.delete(alice, VENDORS["openai"])
            else:
                own_keys.switch(alice, VENDORS["openai"], is_used=False)

    assert on_page(world.act, world.alice) == on_page(world.act, world.alice, f"/c/{chat}/") == ["Demo"]
    assert "gpt" not in listed(world.act, world.alice)
    with pytest.raises(NoKey):
        begun(world.act, world.alice, "gpt")
    assert begun(world.act, world.alice, "demo").pocket == "plan"


def test_a_key_that_its_vendor_refused_leads_to_no_plan_that_could_not_ask_either(world):
    give(world.act, world.alice, OWN, status="invalid")

    with pytest.raises(OwnKeyRefused, match=r"Replace the key in the settings, or choose another model\."):
        begun(world.act, world.alice, "gpt")


def test_nobody_is_handed_over_to_a_model_that_only_an_own_key_could_ask(world):
    """Another model's failure goes to what the platform can ask: the chain asks with our keys alone (Q-27)."""
    gpt = next(row.id for row in offers.known().values() if row.api_identifier == "gpt")
    with scope(SERVICE):
        Fallback.objects.create(brand=world.act, provider_id=gpt, position=1)
    ready = begun(world.act, world.alice, "demo")

    assert handing_over.next_begun(ready, {ready.offer.id}, [gpt]) is None


def test_a_program_counts_tokens_and_embeds_with_them_too(world):
    alice = factories.member(world.act, world.alice)
    found = paying.keys_of(alice)
    vectors = offers.offer("gpt-vectors", "embedding", own=own_keys.payable(found))
    ready = beginning.begin_embedding(alice, world.act, vectors, prompt_tokens=30, keys=found)

    assert (ready.pocket, ready.own_key.last_four) == ("own_key", "1234")
    with scope(SERVICE):
        _, key = keys.create(world.act, world.alice, name="tests", scopes=["chat"])
        _, bobs = keys.create(world.act, world.bob, name="tests", scopes=["chat"])
    asked = {"model": "gpt", "messages": [{"role": "user", "content": "Hello?"}]}
    answers = [
        Client(headers={"host": "act.localhost", "x-api-key": each}).post(
            "/v1/messages/count_tokens", asked, content_type="application/json"
        )
        for each in (key, bobs)
    ]
    assert [answer.status_code for answer in answers] == [200, 503]
    assert answers[0].json()["input_tokens"] > 0
