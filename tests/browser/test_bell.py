"""The bell while a page is open: it rings without a reload, one tab listens for all, and what is read here is read there."""

import os
import re
from pathlib import Path
from uuid import UUID

import pytest
from playwright.sync_api import expect

from conversations.chats import keeping
from events import notices
from lib.db import Principal, close_all
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SHOTS = os.environ.get("SHOTS")  # a folder: what a person would see, for people to look at
LIST = "/notifications/"


def look(tab, name):
    if SHOTS:
        tab.page.screenshot(path=Path(SHOTS, f"{name}.png"))


def tell(person, title, count=1):
    for number in range(count):
        notices.notify(
            person.brand.pk,
            person.user.pk,
            "system",
            title=title.format(number),
            message="It can be fetched for 24 hours.",
        )
    close_all()


def streams(visitor):
    """Realtime streams that this tab has asked for."""
    asked = []
    visitor.page.on("request", lambda request: asked.append(request) if "/api/v1/realtime" in request.url else None)
    return asked


def hide(visitor, hidden=True):
    """What a browser tells a tab that goes to the background; headless, none ever does."""
    visitor.page.evaluate(
        "(hidden) => { Object.defineProperty(document, 'hidden', { value: hidden, configurable: true });"
        " document.dispatchEvent(new Event('visibilitychange')); }",
        hidden,
    )


def bell(visitor):
    return visitor.page.locator("[data-bell]")


def test_the_bell_rings_in_every_tab_over_one_stream_and_what_is_read_in_one_is_read_in_all(site, visitors):
    """Count, title of the page, the words said politely; a hidden tab lets go, and the next one listens."""
    person = site.person()
    chat = visitors.open(person, "/c/")
    first = streams(chat)
    chat.page.reload()
    chat.page.wait_for_event("request", lambda one: "/api/v1/realtime" in one.url)
    settings = visitors.beside(chat, "/settings/plan/")
    second = streams(settings)
    title = chat.page.title()

    tell(person, "Your <b>export</b> is ready")

    for tab in (chat, settings):
        expect(tab.page.locator("#toasts")).to_contain_text("New notification: Your <b>export</b> is ready")
        expect(tab.page).to_have_title(f"(1) {title}" if tab is chat else re.compile(r"^\(1\) "))
    expect(bell(chat)).to_contain_text("Notifications1 not read")
    expect(bell(settings)).to_have_attribute("aria-label", "Notifications, 1 not read")
    assert (len(first), len(second)) == (1, 0)
    look(chat, "bell-chat")
    look(settings, "bell-settings")

    hide(chat)
    settings.page.wait_for_event("request", lambda one: "/api/v1/realtime" in one.url)
    tell(person, "Another one")
    expect(bell(settings)).to_have_attribute("aria-label", "Notifications, 2 not read")
    expect(bell(chat)).to_contain_text("Notifications2 not read")  # the others tell it

    settings.go(LIST)
    settings.page.get_by_role("button", name="Mark all as read").click()
    hide(chat, False)
    expect(bell(chat).locator(".chip")).to_be_hidden()
    expect(chat.page).to_have_title(title)


def test_the_chats_of_another_device_learn_of_a_new_one_another_title_and_a_deletion(site, visitors):
    """Over the bell's stream, whichever tab listens; what a page shows already it does not fetch again."""
    person = site.person()
    me = Principal("app_user", person.brand.pk, person.user.pk)
    plan = visitors.open(person, "/settings/plan/")
    desk = visitors.beside(plan, "/c/")
    tell(person, "Listening")
    expect(desk.page.locator("#toasts")).to_contain_text("Listening")
    chats = desk.page.locator("#chats [data-chat]")
    expect(chats).to_have_count(0)

    other = visitors.open(person, "/c/")
    other.ask_and_read("How are you?", "words")
    expect(chats).to_have_count(1)
    chat = chats.first.get_attribute("data-chat")
    done(keeping.rename, me, UUID(chat), "The <b>board</b>’s reply")
    expect(chats.first).to_contain_text("The <b>board</b>’s reply")
    look(desk, "chats-of-another-device")

    desk.go(f"/c/{chat}/")
    expect(desk.page.locator("#thread > .msg")).to_have_count(2)
    looks = []
    desk.page.on("request", lambda asked: looks.append(asked.url) if asked.url.endswith(f"/c/{chat}/") else None)
    desk.page.evaluate(
        "(id) => new BroadcastChannel('chats').postMessage({ table: 'conversations', event: 'UPDATE', old: null,"
        " new: { id, title: document.querySelector('#chats .truncate').textContent, pinned: false, archived: false } })",
        chat,
    )
    done(keeping.move_to_bin, me, [UUID(chat)])
    expect(chats).to_have_count(0)
    expect(desk.page.locator("#thread > .msg")).to_have_count(2)  # what is open stays to be read
    assert len(looks) <= 1, looks  # for what was deleted


def done(deed, *given):
    deed(*given)
    close_all()


def test_the_list_grows_while_it_is_open_and_shows_what_is_earlier(site, visitors):
    person = site.person()
    tell(person, "Notice {}", 60)
    here = visitors.open(person, LIST, viewport=PHONE)
    rows = here.page.locator(".notice")
    expect(rows).to_have_count(50)

    here.page.get_by_role("link", name="Earlier notifications").press("Enter")
    expect(rows).to_have_count(60)
    expect(rows.nth(50)).to_be_focused()
    expect(here.page.get_by_role("link", name="Earlier notifications")).to_have_count(0)

    here.page.wait_for_timeout(1600)
    tell(person, "The newest")
    expect(rows.first).to_contain_text("The newest")
    expect(rows).to_have_count(61)
    there = visitors.beside(here, LIST)
    there.page.locator(".notice").first.get_by_role("button", name="Mark as read").click()
    expect(there.page.locator(".notice").first).not_to_have_class("notice is-new")
    expect(rows.first).not_to_have_class("notice is-new")
    there.page.get_by_role("button", name="Mark all as read").click()
    expect(here.page.locator(".notice.is-new")).to_have_count(0)
    look(here, "bell-list-phone")
    assert here.sideways() == 0
    assert here.findings() == []

    plain = visitors.open(person, LIST, java_script_enabled=False)
    plain.page.get_by_role("link", name="Earlier notifications").click()
    expect(plain.page.locator(".notice")).to_have_count(11)
    plain.page.get_by_role("link", name="Newest notifications").click()
    expect(plain.page.locator(".notice")).to_have_count(50)
