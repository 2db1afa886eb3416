"""Finding things again, and the keyboard: the palette, the page of search, the sheet of shortcuts."""

import os
import re
from pathlib import Path

import pytest
from playwright.sync_api import expect

from accounts.models import Profile
from lib.db import SERVICE, scope
from tests import factories
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def look(visitor, name):
    """SHOTS=folder keeps what the journey saw."""
    if folder := os.environ.get("SHOTS"):
        visitor.page.screenshot(path=Path(folder) / f"{name}.png")


@pytest.fixture
def person(site):
    """Somebody with three chats."""
    person = site.person()
    for title, question, answer in (
        ("Garden", "When do I water tomatoes?", "Water **tomatoes** at dawn.\n\nNever at noon."),
        ("Harbour <b>walk</b>", "Which boats are there?", "Ferries, and a tomato-red tug."),
        ("שלום", "مرحبا بالعالم", "Hello world, in Arabic."),
    ):
        factories.make_conversation(person.brand, person.user, title, said=[("user", question), ("assistant", answer)])
    return person


@pytest.fixture
def reader(visitors, person):
    return visitors.open(person)


def test_the_palette_finds_a_chat_and_gives_the_focus_back(reader):
    page, keys = reader.page, reader.page.keyboard
    expect(reader.box).to_be_focused()
    reader.box.fill("a draft")
    keys.press("Control+k")
    field = page.get_by_role("combobox", name="Search chats and commands")
    expect(field).to_be_focused()
    expect(page.get_by_role("option", name="Garden")).to_be_visible()
    assert reader.findings() == []
    look(reader, "palette-recent")

    keys.type("tomat")
    expect(page.get_by_role("option", name="Everything about “tomat”")).to_be_visible()
    expect(page.locator("#palette mark").first).to_have_text("Tomat", ignore_case=True)
    expect(page.locator("#palette [role=status]")).to_have_text("2 chats, 0 commands")
    keys.press("ArrowDown")
    second = page.get_by_role("option", name="Garden")
    expect(second).to_have_attribute("aria-selected", "true")
    assert field.get_attribute("aria-activedescendant") == second.get_attribute("id")
    look(reader, "palette-found")
    keys.press("Escape")
    expect(field).to_be_hidden()
    expect(reader.box).to_be_focused()
    expect(reader.box).to_have_value("a draft")

    keys.press("Control+k")  # there at once: no letter is lost
    keys.type("dark")
    expect(page.get_by_role("option")).to_have_count(2)
    page.get_by_role("option", name="Dark colours").click()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")

    keys.press("Control+k")
    keys.type("tomatoes dawn")
    expect(page.locator("#palette mark").first).to_be_visible()
    expect(page.get_by_role("option").first).to_contain_text("Garden")
    keys.press("Enter")
    expect(page).to_have_url(re.compile(r"/c/.+#message-"))
    expect(page.locator(".msg:target")).to_contain_text("Water tomatoes at dawn.")
    look(reader, "opened-dark")


def test_the_page_of_search_answers_while_one_types(reader):
    page = reader.page
    reader.go("/search/")
    field = page.get_by_label("Search titles and messages")
    expect(field).to_be_focused()
    page.keyboard.type("tomatoe")
    expect(page.locator("#search-status")).to_have_text("1 chat")
    expect(page).to_have_url(re.compile(r"q=tomatoe"))
    expect(page.locator("#results mark").first).to_have_text("tomatoe")
    expect(field).to_be_focused()
    assert reader.findings() == []
    look(reader, "search")
    field.fill("tomatos")
    expect(page.get_by_text("Did you mean")).to_be_visible()
    look(reader, "search-nothing")
    page.get_by_role("link", name="tomatoes").click()
    page.get_by_role("link", name="Garden").click()
    expect(page.locator(".msg:target")).to_contain_text("Water tomatoes at dawn.")

    page.go_back()
    expect(page.get_by_role("heading", level=1)).to_have_text("Search your chats")  # the page, not a part of it


def test_on_a_phone_and_in_the_dark(visitors, person):
    phone = visitors.open(
        person, "/search/?q=tomato", viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark"
    )
    expect(phone.page.locator("#search-status")).to_have_text("2 chats")
    assert phone.sideways() == 0
    assert phone.findings() == []
    look(phone, "search-phone")
    phone.page.get_by_text("Filters", exact=True).tap()
    assert phone.sideways() == 0
    look(phone, "search-phone-filters")
    phone.go("/c/")
    phone.page.get_by_role("button", name="Open chat list").tap()
    phone.page.get_by_role("link", name="Search", exact=True).tap()
    expect(phone.page.get_by_role("combobox", name="Search chats and commands")).to_be_visible()
    box = phone.page.locator("#palette").bounding_box()
    assert (box["width"], box["height"]) == (PHONE["width"], PHONE["height"])
    assert phone.findings() == []
    look(phone, "palette-phone")


def test_the_sheet_is_what_the_keys_do(reader, person):
    """UX 2: one registry; single letters outside fields, and only while one wants them."""
    page, keys = reader.page, reader.page.keyboard
    reader.ask_and_read("Hello.", "echo")
    transcript = page.locator("#transcript")
    keys.type("?n/gc")
    expect(reader.box).to_have_value("?n/gc")  # letters belong to the field
    transcript.focus()
    keys.press("?")
    sheet = page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_contain_text("Copy the message in focus")
    expect(sheet.get_by_role("heading", name="Keyboard shortcuts")).to_be_in_viewport()
    assert reader.findings() == []
    look(reader, "sheet")
    keys.press("Escape")
    expect(transcript).to_be_focused()

    expect(page.locator("#composer")).to_have_attribute("aria-keyshortcuts", "/")
    keys.press("k")
    expect(reader.answer).to_be_focused()
    keys.press("Alt+n")
    keys.press("Meta+k")
    expect(page.get_by_role("combobox", name="Search chats and commands")).to_be_hidden()
    keys.press("?")
    with page.expect_response("**/settings/change/") as stored:
        page.get_by_label("Use shortcuts that are a single letter").uncheck()
    assert stored.value.status == 200
    with scope(SERVICE):
        assert not Profile.objects.get(user=person.user).shortcuts_on  # in one's other browsers, too
    page.reload()
    transcript.focus()
    keys.press("/")
    expect(transcript).to_be_focused()
    expect(page.locator("#composer")).not_to_have_attribute("aria-keyshortcuts", "/")
    page.locator("[data-open-keys]").evaluate("one => one.click()")
    page.get_by_label("Use shortcuts that are a single letter").check()
    keys.press("Escape")
    transcript.focus()
    keys.press("g")
    keys.press("h")
    expect(page).to_have_url(re.compile(r"/c/$"))


def test_enter_that_belongs_to_japanese_does_not_send(reader):
    """UX 4.8: while an input method composes, Enter takes its proposal."""
    devtools = reader.page.context.new_cdp_session(reader.page)
    reader.box.focus()
    devtools.send("Input.imeSetComposition", {"text": "にほんご", "selectionStart": 4, "selectionEnd": 4})
    enter = {"key": "Process", "code": "Enter", "windowsVirtualKeyCode": 229}
    devtools.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **enter})
    devtools.send("Input.dispatchKeyEvent", {"type": "keyUp", **enter})
    devtools.send("Input.insertText", {"text": "日本語"})

    expect(reader.box).to_have_value("日本語")
    expect(reader.questions).to_have_count(0)
    composing = (
        "box => box.dispatchEvent(new KeyboardEvent('keydown', {key: 'Enter', isComposing: true, bubbles: true}))"
    )
    reader.box.evaluate(composing)
    expect(reader.questions).to_have_count(0)
    reader.page.keyboard.press("Enter")
    expect(reader.questions).to_have_count(1)
