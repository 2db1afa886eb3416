"""/api/docs/ by hand: a key for an hour stands in every example, a request is sent and answered; and whether all can."""

import os
import re

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
FEWER = (
    "() => document.querySelectorAll('.docs-section ~ .docs-section').forEach(one => one.remove())"  # more of the same
)
WIDE = (
    """css => { const wider = new CSSStyleSheet(); wider.replaceSync(css); document.adoptedStyleSheets = [wider]; }"""
)
PICTURES = os.environ.get("PICTURES", "")  # a folder, for whoever wants to see


def test_a_member_reads_the_api_gets_a_key_and_sends_a_request(site, visitors):
    person = site.person()
    for name in LOOKS:
        stranger = visitors.open(brand=person.brand, path="/api/docs/", **LOOKS[name])
        expect(stranger.page.get_by_role("heading", level=1)).to_have_text("REST API")
        assert stranger.sideways() == 0, name
        if name != "light":
            stranger.page.evaluate(FEWER)
        assert stranger.findings() == [], name
        if PICTURES:
            stranger.page.screenshot(path=f"{PICTURES}/docs-{name}.png")
    expect(stranger.page.locator("#key")).to_contain_text("Sign in")
    german = visitors.open(
        brand=person.brand, path="/api/docs/", viewport={"width": 320, "height": 740}, locale="de-DE"
    )
    german.page.evaluate("() => document.querySelectorAll('details').forEach(one => one.open = true)")
    for css in ("*{letter-spacing:.08em !important}", "html{font-size:120%}"):  # another machine's fonts
        german.page.evaluate(WIDE, css)
        assert german.sideways() <= 0, css

    member = visitors.open(person)
    member.go("/api/docs/")
    page = member.page
    page.get_by_role("button", name="Make a key for an hour").click()
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("main").get_by_role("button").last.click()
    key = page.get_by_label("Key", exact=True)
    expect(key).to_have_value(re.compile(r"^sk_[0-9a-f]{12}_"))
    question = page.locator("#chat")
    expect(question.locator(".docs-curl pre")).to_contain_text(f"Authorization: Bearer {key.input_value()}")
    page.locator("label", has_text="Python").click()
    expect(question.locator(".docs-python pre")).to_be_visible()
    expect(question.locator(".docs-curl pre")).to_be_hidden()
    question.get_by_text("Send it").click()
    question.get_by_role("button", name="Send", exact=True).click()
    answer = question.locator("try-it .code")
    expect(answer).to_contain_text("200")
    expect(answer).to_contain_text('"role": "assistant"')
    page.evaluate(FEWER)
    assert member.findings() == []
    if PICTURES:
        question.scroll_into_view_if_needed()
        page.screenshot(path=f"{PICTURES}/docs-sent.png")
    key.fill("sk_another")
    expect(question.locator(".docs-python pre")).to_contain_text("Bearer sk_another")
    question.get_by_role("button", name="Send", exact=True).click()
    expect(answer).to_contain_text("401")
