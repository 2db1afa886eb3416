"""What is offered: a vendor that lets nobody in without a key is not, while there is none."""

import pytest
from django.core.management import call_command
from django.test import Client
from django.urls import reverse

from accounts import brands, keys
from lib.db import SERVICE, scope
from providers import fallback, offers
from providers.calls import lacks_key
from providers.models import AIProvider
from providers.offers import NoKey, NoPrice, NoSuchModel
from tests import factories

OWN_SERVER = "http://ollama.internal:11434/v1"


@pytest.fixture
def keyless(settings):
    settings.OPENAI_API_KEY = settings.ANTHROPIC_API_KEY = settings.OPENROUTER_API_KEY = ""
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""
    offers.forget()
    yield settings
    offers.forget()


@pytest.mark.parametrize(
    ("protocol", "base_url", "lacking"),
    [
        ("openai", "", True),
        ("openai", "https://api.openai.com/v1", True),
        ("openai", "https://openrouter.ai/api/v1", True),
        ("openai", OWN_SERVER, False),
        ("anthropic", "", True),
        ("anthropic", "https://gateway.example", False),
        ("demo", "", False),
    ],
)
def test_only_vendors_that_want_a_key_lack_one(keyless, protocol, base_url, lacking):
    assert lacks_key(protocol, base_url) is lacking


def test_an_own_server_in_the_environment_needs_no_key(keyless):
    keyless.OPENAI_BASE_URL = OWN_SERVER

    assert not lacks_key("openai", "")


def test_a_model_without_its_key_is_offered_to_nobody_and_says_why_when_it_is_asked(world, keyless):
    factories.make_provider("gpt", protocol="openai")
    factories.make_provider("own", protocol="openai", base_url=OWN_SERVER)
    factories.make_provider("free", protocol="openai", base_url=OWN_SERVER, priced=False)

    with scope(SERVICE):
        assert [row.api_identifier for row in offers.offers("chat")] == ["demo", "free", "own"]
        with pytest.raises(NoKey, match="Gpt has no key of its vendor yet"):
            offers.offer("gpt")
        with pytest.raises(NoPrice):
            offers.offer("free")
        with pytest.raises(NoSuchModel):
            offers.offer("gone")
        keyless.OPENAI_API_KEY = "sk-there-is-one"
        offers.forget()
        assert offers.offer("gpt").api_identifier == "gpt"


def test_staff_and_operators_are_told_that_a_model_is_not_offered(world, keyless, client, capsys):
    call_command("add_provider", identifier="gpt", protocol="openai", model="gpt-4o", input_price="1", output_price="2")
    assert "offered: only to who brings a key of its vendor" in capsys.readouterr().out
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"

    page = client.get(reverse("admin:providers_aiprovider_changelist")).content.decode()

    assert page.count("missing: not offered") == 1


def test_what_a_brand_withholds_is_no_link_of_its_chain_and_embeds_nothing(world):
    other = factories.make_provider("other")
    with scope(SERVICE):
        for provider in (world.demo, other):
            fallback.add(world.act.pk, provider.pk)
        embedding = AIProvider.objects.get(api_identifier="demo-embedding")
        world.act.withheld_models = [other.pk, embedding.pk]
        world.act.save(update_fields=["withheld_models"])
        brands.forget()

        assert fallback.chain(SERVICE, world.act.pk) == [world.demo.pk]
        with pytest.raises(NoSuchModel):
            fallback.add(world.act.pk, other.pk)
        _, key = keys.create(world.act, world.alice, name="tests", scopes=["chat"])

    answer = Client(headers={"host": "act.localhost"}).post(
        "/v1/embeddings",
        {"model": "demo-embedding", "input": "hello"},
        content_type="application/json",
        headers={"authorization": f"Bearer {key}"},
    )
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
