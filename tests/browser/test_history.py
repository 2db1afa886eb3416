"""Finding it again: the list beside the chat and the history, by keyboard, without scripts, on a phone, and in the dark."""

import re
import time
from zipfile import ZipFile

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def make_chats(person, count=4):
    for number in range(count):
        said = [("user", "Well?"), ("assistant", "Well.")]
        factories.make_conversation(person.brand, person.user, f"Chat {number}", said=said)


def titles(tab):
    return tab.page.locator("#chats .nav-item").all_inner_texts()


def test_a_chat_of_the_list_is_renamed_pinned_and_deleted_by_keyboard_and_comes_back(site, visitors):
    """UX 1: pin, archive, rename in place, delete with an undo; the focus is always where one expects it."""
    person = site.person()
    make_chats(person)
    member = visitors.open(person)
    page, keys = member.page, member.page.keyboard
    row = page.locator("#chats").get_by_role("link", name="Chat 2", exact=True)
    row.focus()
    keys.press("Tab")
    expect(page.get_by_role("link", name="Options for Chat 2")).to_be_focused()
    keys.press("Enter")
    expect(page.get_by_role("menuitem", name="Rename")).to_be_focused()
    assert member.findings() == []
    keys.press("Enter")
    expect(page.get_by_role("textbox", name="New title")).to_be_focused()
    keys.type("The board’s reply")
    keys.press("Enter")
    renamed = page.locator("#chats").get_by_role("link", name="The board’s reply", exact=True)
    expect(renamed).to_be_focused()

    keys.press("Tab")
    keys.press("Enter")
    keys.press("p")
    expect(page.get_by_role("menuitem", name="Pin", exact=True)).to_be_focused()
    keys.press("Enter")
    expect(page.locator("#chats .nav-label").first).to_have_text("Pinned")
    expect(renamed).to_be_focused()

    keys.press("Delete")
    expect(renamed).to_have_count(0)
    expect(page.locator("#chats .nav-item").first).to_be_focused()
    expect(page.get_by_role("status").get_by_text("Moved to the bin")).to_be_visible()
    assert member.findings() == []
    page.get_by_role("button", name="Undo").press("Enter")
    expect(renamed).to_be_visible()
    expect(page.get_by_role("button", name="Undo")).to_have_count(0)

    renamed.click()
    page.get_by_role("button", name="About this chat").click()
    expect(page.get_by_role("dialog", name="About this chat")).to_contain_text("Kept while it is pinned.")
    keys.press("Escape")
    late = "**/chat-rows*.js"  # a key that is pressed before it is there waits for it
    page.route(late, lambda asked: (time.sleep(0.3), asked.continue_()), times=1)
    page.reload()
    page.locator("#chats [aria-current]").press("Delete")
    expect(page).to_have_url(re.compile(r"/c/\?did=deleted"))
    page.get_by_role("button", name="Undo").click()
    expect(renamed).to_be_visible()


def test_the_history_is_worked_through_by_keyboard_in_the_dark_and_on_a_phone(site, visitors):
    """UX 2, tables: arrows, X, Shift X, Delete; then by finger at 360 pixels."""
    person = site.person()
    make_chats(person, 6)
    member = visitors.open(person, "/history/", color_scheme="dark")
    page, keys = member.page, member.page.keyboard
    rows = page.locator("[data-row]")
    keys.press("ArrowDown")
    expect(rows.nth(0).get_by_role("link")).to_be_focused()
    keys.press("ArrowDown")
    keys.press("x")
    keys.press("ArrowDown")
    keys.press("ArrowDown")
    keys.press("Shift+X")
    expect(page.locator("[data-row] input:checked")).to_have_count(3)
    expect(page.locator("[data-chosen]")).to_have_text("3 chosen")
    assert member.findings() == []
    keys.press("Delete")
    expect(rows).to_have_count(3)
    expect(page.locator("[data-toast]")).to_contain_text("3 chats moved to the bin")
    page.get_by_role("button", name="Undo").click()
    expect(rows).to_have_count(6)
    rows.first.get_by_role("link").press("Enter")
    expect(member.box).to_be_visible()

    phone = visitors.open(person, "/history/", viewport=PHONE, has_touch=True)
    assert phone.sideways() == 0
    assert phone.findings() == []
    phone.page.locator("[data-row] [type=checkbox]").first.check()
    phone.page.get_by_role("button", name="Archive", exact=True).click()
    expect(phone.page.locator("[data-row]")).to_have_count(5)
    phone.page.get_by_role("link", name="Archived 1").click()
    expect(phone.page.locator("[data-row]")).to_have_count(1)


def test_all_of_a_list_is_exported_without_choosing_any(site, visitors):
    person = site.person()
    make_chats(person, 3)
    page = visitors.open(person, "/history/").page
    page.get_by_role("button", name="Export").click()
    page.get_by_label("Markdown").check()

    with page.expect_download() as waiting:
        page.get_by_role("button", name="Export all of this list").click()

    assert waiting.value.suggested_filename.endswith(".zip")
    assert len(ZipFile(waiting.value.path()).namelist()) == 3


def test_all_of_it_works_without_a_script(site, visitors):
    person = site.person()
    make_chats(person, 2)
    plain = visitors.open(person, "/c/", java_script_enabled=False)
    page = plain.page
    page.get_by_role("link", name="Options for Chat 1").click()
    page.get_by_label("Title").fill("Called so")
    page.get_by_role("button", name="Rename").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Called so")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("[data-row]")).to_have_count(2)
    page.get_by_label("Choose Called so").check()
    page.get_by_role("button", name="Archive", exact=True).click()
    expect(page.locator("[data-row]")).to_have_count(1)
    page.get_by_role("link", name="Archived 1").click()
    expect(page.locator("[data-row]")).to_contain_text(["Called so"])
