"""The settings in a browser: saved as they are changed, found by a word, in German and on a phone."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from lib.db import SERVICE, scope
from tests.browser.visitor import DESKTOP, PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SHOTS = os.environ.get("SHOTS")  # a folder: what a person would see, for people to look at
GERMAN = [
    "/settings/", "/c/", "/settings/plan/", "/pricing/", "/history/", "/settings/keys/", "/manage/settings/",
    "/manage/activity/", "/manage/members/", "/manage/webhooks/", "/manage/webhooks/new/", "/manage/deliveries/",
    "/manage/api-keys/", "/settings/api-keys/", "/notifications/", "/api/docs/", "/search/",
]  # fmt: skip


def look(member, name):
    if SHOTS:
        member.page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page=True)


def test_settings_are_saved_as_they_are_changed_and_the_whole_product_speaks_german(site, visitors):
    person = site.person()
    with scope(SERVICE):
        Membership.objects.filter(user=person.user).update(role="owner")
    member = visitors.open(person)
    member.ask_and_read("Hallo.", "words")  # so that there is something to list
    member.go("/settings/")
    page = member.page
    name = page.get_by_label("Your name")

    name.fill("Ann Ferrow")
    name.press("Tab")
    expect(page.locator("#said-full_name")).to_have_text("Saved")
    expect(page.locator("#said-full_name")).to_have_text("")  # for a while only
    phone = page.get_by_label("Phone")
    phone.fill("call me")
    phone.press("Tab")
    expect(page.locator("#said-phone")).to_contain_text("Write it in digits")
    expect(phone).to_have_value("call me")
    page.get_by_text("Dark", exact=True).click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    expect(page.locator("#said-theme")).to_have_text("Saved")
    assert member.findings() == []
    look(member, "settings-dark")
    page.get_by_label("Enter sends the message").uncheck()
    expect(page.locator("#said-enter_sends")).to_have_text("Saved")
    page.get_by_label("When an answer is there").select_option("first")
    expect(page.locator("#said-announce")).to_have_text("Saved")
    search = page.get_by_label("Search the settings")
    search.fill("tokyo")
    expect(page.locator(".settings > .panel:visible")).to_have_count(1)
    search.fill("no such words")
    expect(page.get_by_text("No setting has these words.").first).to_be_visible()
    search.fill("")
    page.locator("#language select").select_option("de")
    page.locator("#language button").click()

    expect(page.locator("html")).to_have_attribute("lang", "de")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")  # with the first byte
    expect(page.get_by_role("heading", name="Einstellungen", exact=True)).to_be_visible()
    member.go("/c/")
    box = page.locator("#composer")
    box.fill("Eins. Zwei. Drei.")
    member.set_model("echo")
    box.press("Enter")
    expect(box).to_have_value("Eins. Zwei. Drei.\n")
    box.press("Control+Enter")
    expect(member.answer).to_have_attribute("data-status", "done")
    expect(page.locator("#announce-answer")).to_have_text("Eins.")
    page.set_viewport_size(PHONE)
    for path in GERMAN:
        member.go(path)
        assert member.sideways() <= 0, path
        assert page.locator("html").get_attribute("data-theme") == "dark", f"{path} forgets how its reader wants it"
        assert member.findings() == [], path
        look(member, f"de-phone{path.replace('/', '-')}")
    page.set_viewport_size(DESKTOP)
    for path in ("/settings/", "/manage/settings/"):
        member.go(path)
        look(member, f"de-wide{path.replace('/', '-')}")
