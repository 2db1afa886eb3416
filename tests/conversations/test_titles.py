"""A chat gets a better title once, after its first answer, by the cheapest model and at the house's expense."""

import pytest

from conversations.chats import keeping, titles
from conversations.engine import beginning
from conversations.engine.turns import Question
from conversations.models import Conversation, Turn
from lib.db import SERVICE, db, scope
from providers import breaker, offers
from providers.models import AIProvider, Price
from quotas.models import Bucket, Entry
from tests import factories
from tests.conversations import rows
from tests.conversations.test_turns import finish
from tests.quotas.proofs import prove
from tests.server import Browser, eventually
from tests.upstream import Upstream


@pytest.fixture(scope="module")
def vendor():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def house(world, vendor, settings):
    """A brand with a cheap model and a dear one, which are asked with the house's key."""
    vendor.reset()
    settings.EGRESS_ALLOW, settings.OPENAI_BASE_URL = [], vendor.openai_url
    settings.OPENAI_API_KEY, settings.TITLE_TOKENS = "sk-test-0123456789abcdef", 30
    breaker.forget()
    factories.make_provider("dear", protocol="openai", model="dear;tokens=9", position=1)
    cheap = factories.make_provider("cheap", protocol="openai", model="cheap;tokens=3", position=2)
    with scope(SERVICE):
        Price.objects.filter(provider=cheap).update(input_microusd_per_mtok=1000, output_microusd_per_mtok=1000)
    offers.forget()
    yield cheap
    offers.forget()
    breaker.forget()
    prove(world)


def answered(world, text="How do I **bake** bread?"):
    begun = beginning.begin(
        factories.member(world.act, world.alice), world.act, Question(text=text, model=world.demo.pk)
    )
    finish(begun)
    return begun


def title(conversation_id):
    with scope(SERVICE):
        return Conversation.objects.get(pk=conversation_id).title


def test_the_cheapest_model_names_a_chat_once_and_the_house_pays(world, house, vendor):
    """H8: thirty tokens at most; nothing of it stands on the member's account or the brand's."""
    begun = answered(world)
    charged = rows.charged(begun.turn_id)
    assert title(begun.conversation_id) == "How do I bake bread?"

    assert titles.improve(begun.conversation_id) is True
    assert titles.improve(begun.conversation_id) is False, "a task may come twice"

    assert title(begun.conversation_id) == "w0001 w0002 w0003"
    (call,) = vendor.calls()
    assert call["model"].startswith("cheap")
    assert 30 in (call["body"].get("max_tokens"), call["body"].get("max_completion_tokens"))
    assert rows.charged(begun.turn_id) == charged
    with scope(SERVICE):
        (paid,) = Entry.objects.filter(reservation=begun.conversation_id).select_related("bucket__account")
        assert (paid.bucket.account.kind, paid.bucket.pocket, paid.reason) == ("house", Bucket.Pocket.HOUSE, "title")
        assert paid.used_delta > 0


def test_a_name_that_the_member_gave_stays_and_so_do_the_first_words_whatever_goes_wrong(world, house, vendor):
    alice = factories.member(world.act, world.alice)
    named = answered(world)
    keeping.rename(alice, named.conversation_id, "Mine")
    unanswered = beginning.begin(alice, world.act, Question(text="Hello?", model=world.demo.pk))
    by_own_key = answered(world)
    with scope(SERVICE):
        Turn.objects.filter(pk=by_own_key.turn_id).update(pocket="own_key")  # its text is for that key's vendor only
    assert [titles.improve(begun.conversation_id) for begun in (named, unanswered, by_own_key)] == [False] * 3
    assert vendor.calls() == []
    assert title(named.conversation_id) == "Mine"

    for model in ("status=500", "status=401", "cut=middle", "tokens=0"):
        with scope(SERVICE):
            AIProvider.objects.filter(pk=house.pk).update(model=f"cheap;{model}")
        offers.forget()
        breaker.forget()
        begun = answered(world, f"What about {model}?")
        assert titles.improve(begun.conversation_id) is False
        assert title(begun.conversation_id) == f"What about {model}?"
        calls = len(vendor.calls())
        assert titles.improve(begun.conversation_id) is False
        assert len(vendor.calls()) == calls, "it is tried once"
    with scope(SERVICE):
        AIProvider.objects.filter(protocol="openai").update(is_active=False)
    offers.forget()
    begun, calls = answered(world, "Only the demo?"), len(vendor.calls())
    assert titles.improve(begun.conversation_id) is False
    assert (title(begun.conversation_id), len(vendor.calls())) == ("Only the demo?", calls)


async def test_the_first_answer_asks_for_a_title_and_the_next_one_does_not(site, http):
    """With real processes: the question's own call, one for the title, one for the next question."""
    person = await db(site.person)

    def offer_one():
        with scope(SERVICE):
            others = AIProvider.objects.exclude(pk=site.models["echo"]).values_list("pk", flat=True)
            person.brand.withheld_models = list(others)
            person.brand.save(update_fields=["withheld_models"])

    await db(offer_one)
    with site.serve(TITLE_TOKENS="30") as web:
        browser = Browser(http, web, person)
        asked = await browser.ask("How do I bake bread?", site.models["echo"])
        await browser.read(asked.turn_id)
        await eventually(lambda: _named(asked.conversation_id))
        again = await browser.ask("And cake?", site.models["echo"], asked.conversation_id)
        await browser.read(again.turn_id)
    assert len(await db(site.upstream.calls)) == 3


async def _named(conversation_id):
    return (await db(title, conversation_id)).startswith("Question: How do I bake")
