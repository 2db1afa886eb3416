"""What stands around the box: models, settings, what the chat is about, templates, and the states of waiting."""

import time

import pytest
from django.conf import settings
from django.contrib.sessions.backends.db import SessionStore
from playwright.sync_api import expect

from conversations.models import BrandTemplate, Conversation
from lib.db import SERVICE, scope
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
NARROW = {"width": 320, "height": 640}


def test_a_new_chat_is_set_up_by_keyboard_alone(site, visitors):
    """H3, C7, C12: search among many models, settings, a template with fields, what the link says it is about."""
    person = site.person()
    with scope(SERVICE):
        BrandTemplate.objects.create(
            brand=person.brand, title="Trip", text="Plan {city} in {days} days.", needs="A city"
        )
        BrandTemplate.objects.create(brand=person.brand, title="Letter", text="Explain this letter:")
    member = visitors.open(person, "/c/?context=bill:C-11&label=Bill%20C-11")
    page, keys = member.page, member.page.keyboard
    expect(member.box).to_be_focused()
    keys.type("/tr")
    expect(page.get_by_role("listbox", name="Templates").get_by_role("option")).to_have_count(1)
    assert member.findings() == [], "templates"
    keys.press("Enter")
    sheet = page.get_by_role("dialog", name="Fill in the template")
    expect(sheet.get_by_label("city")).to_be_focused()
    assert member.findings() == [], "fields"
    keys.type("Lisbon")
    keys.press("Tab")
    keys.type("3")
    keys.press("Enter")
    expect(member.box).to_be_focused()
    expect(member.box).to_have_value("Plan Lisbon in 3 days.")

    page.get_by_role("button", name="Model: ").press("Enter")
    search = page.get_by_role("searchbox", name="Search: Model")
    expect(search).to_be_focused()
    keys.type("ech")
    options = page.get_by_role("listbox", name="Model").get_by_role("option")
    expect(options).to_have_count(1)
    expect(options.first).to_contain_text("1 question")
    assert member.findings() == [], "models"
    keys.press("ArrowDown")
    expect(options.first).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("button", name="Model: Echo")).to_be_focused()

    page.get_by_role("button", name="Settings of this chat").press("Enter")
    page.get_by_label("Temperature").fill("0.3")
    page.get_by_label("Instructions").fill("In verse.")
    assert member.findings() == [], "settings"
    keys.press("Escape")
    expect(page.get_by_role("button", name="Custom settings")).to_be_visible()
    member.box.press("Enter")

    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(page.locator("#head-about")).to_contain_text("Bill C-11")
    (call,) = site.upstream.calls()
    assert call["body"]["temperature"] == 0.3
    assert call["body"]["messages"][0]["content"].startswith("In verse.")
    assert '"id":"C-11"' in call["body"]["messages"][0]["content"]
    expect(page.locator("#composer-price")).to_have_text("1 question")

    page.get_by_role("button", name="Custom settings").click()
    page.get_by_label("Temperature").fill("7")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_role("alert").filter(has_text="from 0 to 2")).to_be_visible()
    page.get_by_role("button", name="Reset").click()
    expect(page.get_by_role("status").filter(has_text="Saved")).to_be_visible()
    page.get_by_role("button", name="Close", exact=True).click()
    expect(page.get_by_role("button", name="Custom settings")).to_be_hidden()
    page.get_by_role("button", name="Take away Bill C-11").click()
    expect(page.locator("#head-about")).to_be_hidden()
    with scope(SERVICE):
        chat = Conversation.objects.get(owner_id=person.user.pk)
    assert (chat.settings, chat.system_prompt, chat.context_id) == ({}, "", "")


def test_a_member_keeps_templates_and_takes_a_deletion_back(visitors, site):
    """C12, on a phone."""
    member = visitors.open(site.person(), "/templates/", viewport=PHONE, has_touch=True, is_mobile=True)
    page = member.page
    expect(page.get_by_text("Questions that you ask again and again")).to_be_visible()
    page.get_by_label("Name").fill("Letter")
    page.get_by_label("Question").fill("Explain {this} in plain words:")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("button", name="Delete Letter").click()
    expect(page.get_by_role("status").filter(has_text="is deleted")).to_be_visible()
    assert member.findings() == []
    assert member.sideways() == 0
    page.get_by_role("button", name="Undo").click()
    page.get_by_role("link", name="Use Letter").click()
    expect(member.box).to_have_value("Explain {this} in plain words:")
    assert member.sideways() == 0


def test_a_slow_model_says_so_and_another_one_takes_over(site, visitors):
    """UX "Waiting": dots, a word after 8 s, a way on after 30 s. The stream says nothing; the page's clock is the test's."""
    member = visitors.open(site.person())
    page, held = member.page, []
    page.clock.install()
    page.reload()
    page.route("**/turns/*/stream", lambda route: held.append(route))
    member.ask("Anybody there?", "long")
    waiting = page.locator(".waiting")
    page.clock.fast_forward(400)
    expect(waiting).to_be_visible()
    page.clock.fast_forward(8000)
    expect(waiting).to_contain_text("Still thinking")
    expect(page.locator("#announce-status")).to_have_text("Still thinking")
    page.clock.fast_forward(22_500)
    expect(waiting).to_contain_text("Long is slow now.")
    assert member.findings() == []

    page.get_by_role("button", name="Use Words instead").click()
    page.unroute("**/turns/*/stream")
    page.clock.fast_forward(7000)  # what was stopped and says nothing is asked again how it ended

    expect(member.answer).to_contain_text("w0020", timeout=15_000)
    expect(member.answer.locator(".meta").first).to_contain_text("Words")
    expect(member.questions).to_have_count(1)


def test_a_session_that_ends_soon_says_so_and_goes_on_with_one_action(site, visitors):
    """WCAG 2.2.1: two minutes before."""
    person = site.person()
    session = SessionStore(person.cookies.split(";")[0].removeprefix("sessionid="))
    at = time.time() - settings.SESSION_COOKIE_AGE + 60
    session["account_authentication_methods"] = [{"method": "password", "at": at}]
    session.save()
    member = visitors.open(person)
    sheet = member.page.get_by_role("dialog", name="Your session")
    expect(sheet).to_contain_text("Your session ends in two minutes. What you wrote is kept.")
    assert member.findings() == []

    sheet.get_by_role("button", name="Stay signed in").click()

    expect(sheet).to_be_hidden()
    member.page.reload()
    expect(member.box).to_be_focused()
    expect(sheet).to_be_hidden()


@pytest.mark.parametrize("how", [{"viewport": NARROW}, {"viewport": NARROW, "forced_colors": "active"}])
def test_at_320_px_with_200_percent_text_nothing_is_lost(how, visitors, site):
    """WCAG 1.4.4, 1.4.10."""
    member = visitors.open(site.person(), "/c/?context=bill:C-11", **how)
    member.page.evaluate("document.documentElement.style.setProperty('font-size', '200%')")
    assert member.sideways() == 0
    for name in ("Send message", "Settings of this chat"):
        button = member.page.get_by_role("button", name=name)
        button.scroll_into_view_if_needed()
        expect(button).to_be_in_viewport()


def test_a_second_tab_shows_what_the_first_one_asks_and_begins(site, visitors):
    """H4: a question of another tab runs here too; a new chat is in the list without a reload."""
    member = visitors.open(site.person())
    member.ask_and_read("The first.", "echo")
    about = member.page.get_by_role("link", name="About this chat")
    expect(about).to_have_attribute("href", f"{member.path}facts/")
    second = visitors.beside(member)
    member.ask("And then?", "long")
    second.watch("w0005")
    expect(second.questions).to_have_count(2)
    second.box.fill("A draft of my own.")
    member.stop_button.click()
    expect(second.answer).to_have_attribute("data-status", "stopped")
    member.go("/c/")
    member.ask_and_read("Another chat.", "echo")

    expect(second.page.locator("#chats")).to_contain_text("Another chat.")
    expect(second.box).to_have_value("A draft of my own.")


def test_a_chat_with_a_correction_follows_another_tab_unless_something_is_being_written_in_it(site, visitors):
    """H4."""
    member = visitors.open(site.person())
    page = member.page
    member.ask_and_read("The first.", "echo")
    page.get_by_role("button", name="Bad answer").click()
    correction = page.get_by_label("What should it have said?")
    expect(correction).to_be_focused()
    member.box.focus()
    second = visitors.beside(member)
    second.ask_and_read("And then?", "echo")
    expect(member.questions).to_have_count(2)
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)

    correction.fill("That it is the first.")
    member.box.focus()
    with page.expect_response(page.url):
        second.ask_and_read("And now?", "echo")
    page.get_by_role("button", name="Report this correction").click()
    expect(page.get_by_text("Your correction is kept.")).to_be_visible()
    member.box.focus()
    second.ask_and_read("At last?", "echo")
    expect(member.questions).to_have_count(4)


def test_tabs_of_one_chat_lose_no_words_to_each_other_and_what_was_sent_does_not_come_back(site, visitors):
    """UX "Drafts": they share one."""
    member = visitors.open(site.person())
    second = visitors.beside(member)
    for is_first in (True, False):
        member.box.fill("A long thought.")
        second.page.reload()
        expect(second.box).to_have_value("A long thought.")
        second.box.fill("Something else.")
        second.ask_and_read("Something else.", "echo")
        member.page.reload()
        expect(member.box).to_have_value("A long thought.")
        if is_first:
            member.go(second.path)

    second.page.reload()
    expect(second.box).to_have_value("A long thought.")
    second.ask_and_read(second.box.input_value(), "echo")
    expect(member.questions).to_have_count(3)
    member.page.reload()
    expect(member.questions).to_have_count(3)
    expect(member.box).to_have_value("")


TREE = """
- listitem:
  - heading "You asked" [level=2]
  - text: Well?
- listitem:
  - heading /.* answered/ [level=2]
  - paragraph: Well?
"""
BOX = """
- text: Message
- textbox "Message"
- button /Model. Echo/
- button "Settings of this chat"
- button "Send message"
"""


def test_a_screen_reader_goes_by_headings_and_hears_the_end_once(site, visitors):
    """UX 3.1, 3.2: the transcript is not live; one status line, and the finished answer once."""
    member = visitors.open(site.person())
    member.page.get_by_role("button", name="Model: ").click()
    member.page.get_by_role("searchbox").press_sequentially("echo")
    member.page.keyboard.press("Enter")
    member.ask_and_read("Well?")

    expect(member.page.locator("#thread")).to_match_aria_snapshot(TREE)
    expect(member.page.locator("#announce-status")).to_have_text("Answer done")
    expect(member.page.locator("#announce-answer")).to_have_text("Well?")
    assert member.page.locator("#thread :is([aria-live], [role=status], [role=log], [role=alert])").count() == 0
    expect(member.page.locator("#composer-form")).to_match_aria_snapshot(BOX)
