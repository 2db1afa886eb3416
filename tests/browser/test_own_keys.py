"""A member's own key, as it is stored, used, refused and deleted by hand; and whether everybody can (axe)."""

import pytest
from playwright.sync_api import expect

from tests.browser.test_looks import LOOKS
from tests.conversations.own import allow, give

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PAGE = "/settings/keys/"
KEY = "sk-own-browser-4321"


@pytest.mark.parametrize("look", LOOKS)
def test_a_key_is_stored_asked_with_refused_and_deleted_and_axe_finds_nothing(look, site, visitors):
    person = site.person()
    allow(person)
    member = visitors.open(person, **LOOKS[look])
    member.go(PAGE)
    expect(member.page.get_by_role("heading", level=1)).to_have_text("Your keys")
    assert member.findings() == [], "empty"
    openai = member.page.locator("#openai")

    def store(key):
        openai.get_by_label("Key of OpenAI").fill(key)
        openai.get_by_role("button", name="Check and store").press("Enter")

    store("sk-bad-own-4321")
    expect(openai.get_by_role("alert")).to_contain_text("OpenAI does not take this key, so it was not stored.")
    expect(openai.get_by_label("Key of OpenAI")).to_have_value("")
    assert member.findings() == [], "refused"
    store(KEY)
    expect(openai).to_contain_text("Key ending in 4321")
    expect(openai).to_contain_text("Valid")
    assert member.findings() == [], "stored"
    assert member.sideways() == 0

    member.go("/c/")
    member.ask_and_read("Mine.", "words")
    assert site.upstream.calls()[-1]["key"] == KEY
    site.upstream.revoke(KEY)
    expect(member.ask("And now?", "words")).to_have_attribute("data-status", "failed")
    expect(member.answer).to_contain_text("OpenAI refused your own key ending in 4321.")
    expect(member.answer).to_contain_text("is not counted")
    member.box.fill("Once more?")
    member.send_button.click()
    expect(member.note).to_contain_text("so Words was not asked")
    assert member.findings() == [], "the ways on"
    member.note.get_by_role("link", name="Your keys").click()

    expect(member.page.get_by_role("heading", level=1)).to_have_text("Your keys")
    expect(openai).to_contain_text("OpenAI refused this key, so its models are not asked.")
    assert member.findings() == [], "marked"
    openai.get_by_text("Delete your key at OpenAI").press("Enter")
    openai.get_by_role("button", name="Delete this key").press("Enter")
    expect(member.page.get_by_role("status").filter(has_text="is deleted here")).to_be_visible()
    expect(openai.get_by_label("Key of OpenAI")).to_be_visible()
    assert member.sideways() == 0


def test_the_price_follows_the_model_that_is_picked(site, visitors):
    """Before a chat is begun, while its first answer is written, and after it; nothing is loaded anew."""
    person = site.person()
    allow(person)
    give(person, KEY)
    member = visitors.open(person)
    member.go("/c/")
    price = member.page.locator("#composer-price")

    def pick(model):
        member.page.get_by_role("button", name="Model:").click()
        member.page.locator(f'#pick-provider [data-value="{site.models[model]}"]').click()

    expect(price).to_have_text("Your key: not counted")
    pick("demo")
    expect(price).to_have_text("1 question")
    pick("words")
    expect(price).to_have_text("Your key: not counted")

    member.page.evaluate("window.isSamePage = true")
    pick("long")
    member.ask("Mine.")
    expect(member.stop_button).to_be_visible()
    expect(price).to_have_text("Your key: not counted")
    pick("demo")
    expect(price).to_have_text("1 question")  # also while the answer is being written
    member.stop_button.click()
    expect(price).to_have_text("1 question")
    pick("words")
    expect(price).to_have_text("Your key: not counted")
    pick("demo")
    member.ask_and_read("The plan's.")
    expect(price).to_have_text("1 question")
    pick("words")
    expect(price).to_have_text("Your key: not counted")
    assert member.page.evaluate("window.isSamePage")
    assert [call["key"] for call in site.upstream.calls()] == [KEY]
