"""Asking before there is an account, and getting one without losing a word."""

import re

import pytest
from django.db.models import Q
from playwright.sync_api import expect

from accounts.models import Brand
from conversations.models import Message
from lib.db import SERVICE, scope
from tests.browser.visitor import PHONE

pytestmark = pytest.mark.browser

CHAT = re.compile(r"/c/[0-9a-f-]{36}/$")
UNHEARD = (
    "() => { const ask = fetch; window.fetch = (...of) => ask(...of).then(() => Promise.reject(new TypeError())); }"
)
LINK = re.compile(r"http://\S+/account/confirm-email/\S+")


def brand_of(site, **allowed):
    brand = site.brand()
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(**allowed)
    return brand


def questions(brand, text=""):
    with scope(SERVICE):
        return Message.objects.filter(Q(content=text) if text else Q(), brand=brand, role="user").count()


def letter_to(mail, address):
    (letter,) = [text for text in (path.read_text() for path in mail.iterdir()) if f"To: {address}" in text]
    return letter.replace("=\n", "").replace("=3D", "=")


def test_on_a_phone_somebody_asks_signs_up_confirms_and_lands_in_the_answer(site, mail, visitors):
    """S4: three questions, the limit, the mail opened on another device and then in the same browser; one chat, once."""
    brand = brand_of(site)
    with site.serve(
        DJANGO_SETTINGS_MODULE="tests.browser.settings", MAIL_DIR=str(mail), EMAIL_VERIFICATION="mandatory"
    ) as web:
        dora = visitors.open(brand=brand, port=web.port, viewport=PHONE, has_touch=True)
        expect(dora.page.get_by_text("3 free questions", exact=True)).to_be_visible()
        assert dora.findings() == []
        assert dora.sideways() == 0
        for number in range(3):
            dora.ask_and_read(f"Question {number + 1}?", "words")
        expect(dora.page.locator("#composer-price")).to_have_text("0 of 3 free questions left")
        chat = dora.path
        assert CHAT.search(chat)

        dora.set_model("brisk")
        dora.box.fill("And the attic?")
        dora.send_button.click()
        dialog = dora.page.get_by_role("dialog", name="Keep going with a free account")
        expect(dialog).to_contain_text("And the attic?")
        assert questions(brand) == 3
        assert dora.findings() == []
        assert dora.sideways() == 0
        dialog.get_by_label("Email").fill("dora@visitors.example.com")
        dialog.get_by_label("Password").fill("a-long-password")
        dialog.get_by_role("button", name="Create account and get the answer").click()
        expect(dora.page.get_by_role("heading", name="Check your mail")).to_be_visible()
        assert questions(brand) == 3

        dora.page.goto(LINK.findall(letter_to(mail, "dora@visitors.example.com"))[0])
        dora.page.get_by_role("button", name="Yes, confirm it").click()
        dora.page.wait_for_url(CHAT)
        assert dora.path == chat
        dora.watch("w0005")
        expect(dora.questions).to_have_count(4)
        expect(dora.box).to_have_value("")
        expect(dora.answer).to_have_attribute("data-status", "done", timeout=15_000)
        dora.page.go_back()
        dora.page.go_forward()
        dora.go("/welcome/")
        assert dora.path == chat
        assert questions(brand, "And the attic?") == 1


def test_with_the_keyboard_alone_and_in_two_tabs_nothing_is_sent_twice_or_lost(site, visitors):
    """Q-13: both tabs meet the limit, one signs up; the other's text is still there and goes into a chat of the member's."""
    brand = brand_of(site, anonymous_allowance=1)
    first = visitors.open(brand=brand)
    first.page.keyboard.type("One?")
    first.page.keyboard.press("Enter")
    expect(first.answer).to_have_attribute("data-status", "done", timeout=15_000)
    second = visitors.beside(first, "/")
    second.page.keyboard.type("From the second tab?")
    second.page.keyboard.press("Enter")
    expect(second.page.get_by_role("dialog")).to_contain_text("From the second tab?")
    second.page.keyboard.press("Escape")
    expect(second.page.get_by_role("dialog")).to_be_hidden()
    expect(second.box).to_have_value("From the second tab?")

    first.page.bring_to_front()
    first.page.keyboard.type("Two?")
    first.page.keyboard.press("Enter")
    expect(first.page.get_by_label("Email")).to_be_focused()
    first.page.keyboard.type("eve@visitors.example.com")
    first.page.keyboard.press("Tab")
    first.page.keyboard.type("a-long-password")
    first.page.keyboard.press("Enter")
    first.page.wait_for_url(CHAT)
    expect(first.questions).to_have_count(2)
    expect(first.answer).to_have_attribute("data-status", "done", timeout=15_000)

    second.page.bring_to_front()
    second.send_button.click()
    second.page.wait_for_url("**/c/")
    expect(second.box).to_have_value("From the second tab?")
    expect(second.questions).to_have_count(0)
    second.ask_and_read(second.box.input_value())

    assert [questions(brand, text) for text in ("One?", "Two?", "From the second tab?")] == [1, 1, 1]


def test_what_is_written_after_the_limit_was_met_is_what_waits_and_comes_along(site, visitors):
    """S4: pressing "Not now" and writing on loses nothing, nor does signing in with words that were never sent."""
    brand = brand_of(site, anonymous_allowance=1)
    gail = visitors.open(brand=brand)
    gail.ask_and_read("One?", "words")
    gail.box.fill("How warm is it?")
    gail.send_button.click()
    dialog = gail.page.get_by_role("dialog")
    expect(dialog).to_contain_text("How warm is it?")
    gail.page.keyboard.press("Escape")
    gail.box.fill("How warm is it? It is for a baby.")
    gail.page.reload()
    expect(gail.box).to_have_value("How warm is it? It is for a baby.")

    gail.page.locator("#composer-note [data-sign-up]").click()

    expect(dialog).to_contain_text("It is for a baby.")
    dialog.get_by_label("Email").fill("gail@visitors.example.com")
    dialog.get_by_label("Password").fill("a-long-password")
    dialog.get_by_role("button", name="Create account and get the answer").click()
    gail.page.wait_for_url(CHAT)
    expect(gail.questions.last).to_contain_text("It is for a baby.")
    expect(gail.answer).to_have_attribute("data-status", "done", timeout=15_000)
    gail.go("/c/")
    expect(gail.box).to_have_value("")

    hank = visitors.open(brand=brand)
    hank.box.fill("Written before there was an account.")
    hank.go("/account/signup/")
    hank.page.get_by_label("Email").fill("hank@visitors.example.com")
    hank.page.get_by_label("Password", exact=True).fill("a-long-password")
    hank.page.locator("main form button.btn--primary").first.click()
    hank.page.wait_for_url("**/c/")
    expect(hank.box).to_have_value("Written before there was an account.")


def test_what_a_visitor_could_not_send_waits_in_the_member_s_chats_and_what_had_arrived_is_not_asked_twice(
    site, visitors
):
    """Q-13: under the keys they had, which come along with the visitor's chats; nothing is sent unasked."""
    brand = brand_of(site)
    ivy = visitors.open(brand=brand)
    page = ivy.page
    page.evaluate(UNHEARD)
    ivy.set_model("echo")
    ivy.box.fill("Did this arrive?")
    ivy.send_button.click()
    expect(ivy.questions).to_contain_text("Not sent: the server could not be reached.")
    page.context.set_offline(True)
    ivy.box.fill("Written offline.")
    ivy.send_button.click()
    expect(ivy.questions).to_have_count(2)
    page.context.set_offline(False)
    assert questions(brand) == 1

    ivy.go("/account/signup/")
    page.get_by_label("Email").fill("ivy@visitors.example.com")
    page.get_by_label("Password", exact=True).fill("a-long-password")
    page.locator("main form button.btn--primary").first.click()
    page.wait_for_url(CHAT)
    chat = ivy.path
    ivy.go("/c/")

    expect(ivy.questions.locator(".bubble")).to_have_text(["Did this arrive?", "Written offline."])
    assert questions(brand) == 1
    ivy.questions.first.get_by_role("button", name="Send again").click()
    page.wait_for_url(f"**{chat}")
    expect(ivy.answer).to_contain_text("Did this arrive?")
    assert questions(brand, "Did this arrive?") == 1
    ivy.questions.filter(has_text="Written offline.").get_by_role("button", name="Send again").click()
    expect(ivy.answer).to_contain_text("Written offline.")
    expect(ivy.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(page.locator(".is-pending")).to_have_count(0)
    page.reload()
    expect(ivy.questions).to_have_count(2)


def test_a_tab_that_was_open_when_its_visitor_signed_up_keeps_what_it_sends(site, visitors):
    brand = brand_of(site)
    old = visitors.open(brand=brand)
    old.ask_and_read("One?", "echo")
    second = visitors.beside(old, "/account/signup/")
    second.page.get_by_label("Email").fill("june@visitors.example.com")
    second.page.get_by_label("Password", exact=True).fill("a-long-password")
    second.page.locator("main form button.btn--primary").first.click()
    second.page.wait_for_url(CHAT)
    second.page.context.clear_cookies(name="sessionid")

    old.box.fill("From the old tab.")
    old.send_button.click()
    sheet = old.page.get_by_role("dialog", name="Your session")
    sheet.get_by_label("Email").fill("june@visitors.example.com")
    sheet.get_by_label("Password").fill("a-long-password")
    sheet.get_by_role("button", name="Sign in").click()

    waiting = old.questions.filter(has_text="From the old tab.")
    expect(old.page.get_by_role("button", name="Settings of this chat")).to_be_visible()
    assert questions(brand) == 1
    waiting.get_by_role("button", name="Send again").click()
    expect(old.answer).to_contain_text("From the old tab.")
    expect(old.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(old.questions).to_have_count(2)
