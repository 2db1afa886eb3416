"""Models that cannot answer, as a member sees it; and the page on which a brand's admin sees to it."""

import json
import re
from functools import partial

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from lib.db import SERVICE, scope
from providers.models import Fallback
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PAGE = "/manage/models/"
BREAKER = {"failures": 3, "window_s": 60, "rest_s": 60, "longest_rest_s": 60, "longest_busy_s": 60}


@pytest.fixture(scope="module")
def short_tempered(_running):
    """A process whose breaker opens after one question with its repeats."""
    site, _, mail, _ = _running
    settings = {"DJANGO_SETTINGS_MODULE": "tests.browser.settings", "MAIL_DIR": str(mail)}
    with site.serve(BREAKER=json.dumps(BREAKER), **settings) as web:
        yield web


@pytest.fixture
def there(short_tempered, visitors):
    """Opens a browser at that process."""
    return partial(visitors.open, port=short_tempered.port)


def make_admin(person):
    with scope(SERVICE):
        Membership.objects.filter(brand=person.brand, user=person.user).update(role="admin")
    return person


def test_the_receipt_says_who_answered_and_why(site, visitors):
    person = site.person()
    with scope(SERVICE):
        Fallback.objects.create(brand=person.brand, provider_id=site.models["words"], position=1)
    member = visitors.open(person)

    answer = member.ask("Anybody?", "broken")

    expect(answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(answer).to_contain_text("Answered by Words, because Broken could not.")
    member.page.reload()
    expect(member.answer).to_contain_text("Answered by Words, because Broken could not.")
    expect(member.page.get_by_role("button", name="Model: Broken")).to_be_visible()  # the choice stays
    assert member.findings() == []


def test_a_model_that_is_left_alone_says_so_above_the_composer(site, there):
    member = there(site.person(limit=5))
    expect(member.ask("One.", "broken")).to_have_attribute("data-status", "failed", timeout=15_000)
    expect(member.answer).to_contain_text("Broken cannot be reached or is out of order.")

    member.box.fill("Two.")
    member.send_button.click()

    refused = member.page.locator("#thread > li").last
    expect(refused).to_contain_text("Two.")
    expect(refused).to_contain_text("Broken failed several times in a row and is left alone for now")
    assert member.findings() == []
    member.set_model("words")
    refused.get_by_role("button", name="Send again").click()
    expect(member.answer).to_have_attribute("data-status", "done")


def test_a_busy_model_says_when_to_come_back(site, there):
    member = there(site.person(limit=5))
    expect(member.ask("One.", "busy")).to_have_attribute("data-status", "failed", timeout=15_000)
    expect(member.answer).to_contain_text("Busy is busy")

    member.box.fill("Two.")
    member.send_button.click()

    refused = member.page.locator("#thread > li").last
    expect(refused).to_contain_text(re.compile(r"Try again in \d seconds?, or choose another model"))


@pytest.mark.parametrize("look", LOOKS)
def test_an_admin_makes_the_chain_by_keyboard_and_axe_finds_nothing(look, site, there):
    admin = there(make_admin(site.person()), **LOOKS[look])
    admin.ask("One.", "words")
    if look != "phone":
        admin.page.locator("[popovertarget=account-menu]").click()
        admin.page.get_by_role("link", name="Brand admin").click()
        admin.page.get_by_role("link", name="Models", exact=True).click()
    else:
        admin.go(PAGE)
    expect(admin.page.get_by_role("heading", level=1)).to_have_text("Models")
    assert admin.findings() == [], "empty"

    chain = admin.page.get_by_role("region", name="When a model cannot answer")
    for name in ("Words", "Echo"):
        chain.get_by_label("Model", exact=True).select_option(label=name)
        chain.get_by_role("button", name="Add").press("Enter")
    chain.get_by_role("button", name="Move Echo up").press("Enter")

    expect(chain.locator(".chain li strong")).to_have_text(["Echo", "Words"])
    expect(admin.page.get_by_role("row", name=re.compile("^Words"))).to_contain_text("offered")
    assert admin.findings() == [], "with a chain"
    assert admin.sideways() == 0
    chain.get_by_role("button", name="Remove Echo").press("Enter")
    expect(chain.locator(".chain li strong")).to_have_text(["Words"])
    admin.page.get_by_role("link", name="Last 24 hours").click()
    expect(admin.page.get_by_role("link", name="Last 24 hours")).to_have_attribute("aria-current", "true")
