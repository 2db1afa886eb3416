"""What a member does with a message, by mouse and by keyboard, on a phone, in the dark and without JavaScript."""

import re

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.visitor import PHONE
from tests.conversations import rows

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_ask_again_edit_and_turn_over_by_keyboard(site, visitors):
    """H2, Q-13, Q-30: versions stand beside each other, each answer is one question of the plan, a double click is one."""
    person = site.person(limit=9)
    member = visitors.open(person)
    page, keys = member.page, member.page.keyboard
    member.ask_and_read("**Bold** first.", "echo")
    member.ask_and_read("Second.", "echo")

    page.locator("#transcript").focus()
    for key in "kkkr":  # the answer to the first question, again
        keys.press(key)
    menu = page.get_by_role("menu", name="Answer again")
    expect(menu.get_by_role("menuitem").first).to_be_focused()
    keys.press("Escape")
    expect(menu).to_be_hidden()
    keys.press("r")
    with page.expect_response(re.compile("/again/$")):
        keys.press("Enter")
        keys.press("Enter")
    expect(member.questions).to_have_count(1)
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(member.answer.locator(".pager")).to_contain_text("2 of 2")
    expect(member.meter).to_contain_text("3 of 9")
    member.answer.focus()
    keys.press("ArrowLeft")
    expect(member.questions).to_have_count(2)
    pager = page.locator(".msg:nth-child(2) .pager")
    expect(pager).to_contain_text("1 of 2")
    page.reload()
    expect(pager).to_contain_text("1 of 2")
    assert member.findings() == []

    member.box.focus()
    keys.press("ArrowUp")
    field = page.get_by_label("Edit your question")
    expect(field).to_be_focused()
    expect(field).to_have_value("Second.")
    keys.press("Escape")
    expect(field).to_have_count(0)
    member.questions.last.focus()
    keys.press("e")
    field.fill("Second, but better.")
    assert member.findings() == []
    keys.press("Control+Enter")
    expect(member.answer).to_contain_text("Second, but better.")
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(member.questions.last.locator(".pager")).to_contain_text("2 of 2")
    expect(member.meter).to_contain_text("4 of 9")
    assert len(rows.of(person)) == 4
    assert member.broken == []


def test_stopped_answers_go_on_and_messages_are_rated_corrected_and_deleted(site, visitors):
    phone = visitors.open(site.person(limit=9), viewport=PHONE, has_touch=True, is_mobile=True, color_scheme="dark")
    page = phone.page
    answer = phone.ask(model="long")
    phone.watch("w0005")
    phone.stop_button.click()
    expect(answer).to_have_attribute("data-status", "stopped")
    assert phone.sideways() == 0
    assert phone.findings() == []
    kept = answer.locator(".prose").inner_text().strip()

    answer.get_by_role("button", name="Continue").click()
    phone.watch("w0005")
    phone.stop_button.click()
    expect(answer).to_have_attribute("data-status", "stopped")
    expect(answer.locator(".pager")).to_contain_text("2 of 2")
    assert phone.answer.locator(".prose").inner_text().startswith(kept.rsplit(None, 1)[0])
    expect(phone.meter).to_contain_text("2 of 9")

    good = answer.get_by_role("button", name="Good answer")
    good.click()
    expect(good).to_have_attribute("aria-pressed", "true")
    answer.get_by_role("button", name="Bad answer").click()
    expect(good).to_have_attribute("aria-pressed", "false")
    answer.get_by_label("What should it have said?").fill("That it counts in words.")
    answer.get_by_role("button", name="Report this correction").click()
    expect(answer).to_contain_text("Your correction is kept.")
    assert phone.findings() == []
    assert phone.sideways() == 0

    phone.questions.last.get_by_role("button", name="Delete question").click()
    expect(phone.questions.last).to_contain_text("You deleted this question.")
    page.locator(".toast").get_by_role("button", name="Undo").click()
    expect(phone.questions.last).to_contain_text("Tell me.")
    expect(page.locator(".toast")).to_have_count(0)
    answer.get_by_role("button", name="Delete answer").click()
    expect(answer).to_contain_text("You deleted this answer.")
    assert phone.findings() == []
    page.reload()
    expect(answer).to_contain_text("You deleted this answer.")
    assert phone.broken == []


def test_what_is_written_in_the_thread_outlives_what_is_done_with_another_message(member):
    """An edit, a correction and a question that waits are nowhere else."""
    page = member.page
    first = member.ask_and_read("First.", "echo").get_attribute("id")
    member.ask_and_read("Second.", "echo")
    page.locator(f"#{first}").get_by_role("button", name="Bad answer").click()
    correction = page.get_by_label("What should it have said?")
    correction.fill("That there is no first.")
    page.get_by_role("link", name="Edit question").last.click()
    edit = page.get_by_label("Edit your question")
    edit.fill("Second, but better.")
    page.context.set_offline(True)
    member.box.fill("Waits.")
    member.send_button.click()
    waiting = page.locator(".is-pending")
    expect(waiting.get_by_role("button", name="Send again")).to_be_visible()
    page.context.set_offline(False)

    page.get_by_role("button", name="Answer again").last.click()
    page.get_by_role("menuitem").first.click()

    expect(page.locator(".pager").last).to_contain_text("2 of 2")
    expect(waiting).to_contain_text("Waits.")
    expect(correction).to_have_value("That there is no first.")
    expect(edit).to_have_value("Second, but better.")
    expect(page.locator("[data-status=done]")).to_have_count(2, timeout=15_000)
    edit.press("Control+Enter")
    expect(member.questions.nth(1)).to_contain_text("Second, but better.")
    expect(edit).to_have_count(0)
    expect(page.locator("[data-status=done]")).to_have_count(2, timeout=15_000)
    page.get_by_role("button", name="Report this correction").click()
    expect(page.locator(f"#{first}")).to_contain_text("Your correction is kept.")
    waiting.get_by_role("button", name="Send again").click()
    expect(member.answer).to_contain_text("Waits.")
    expect(waiting).to_have_count(0)


def test_all_of_it_works_without_javascript(site, visitors):
    plain = visitors.open(site.person(limit=9), java_script_enabled=False)
    page = plain.page

    def until(text):
        for _ in range(150):
            if page.locator("#thread").get_by_text(text).count():
                return
            page.reload()
            page.wait_for_timeout(100)
        raise AssertionError(text)

    plain.box.fill("First.")
    plain.send_button.click()
    until("tokens")
    page.get_by_role("button", name="Answer again").click()
    until("2 of 2")
    until("tokens")
    page.get_by_role("button", name="Version before").click()
    expect(page.locator("#thread")).to_contain_text("1 of 2")
    page.get_by_role("link", name="Edit question").click()
    page.get_by_label("Edit your question").fill("Better.")
    page.get_by_role("button", name="Ask this").click()
    until("Better.")
    until("tokens")
    page.get_by_role("button", name="Bad answer").click()
    page.get_by_label("What should it have said?").fill("This.")
    page.get_by_role("button", name="Report this correction").click()
    expect(page.locator("#thread")).to_contain_text("Your correction is kept.")
    page.get_by_role("button", name="Delete question").click()
    expect(page.locator("#thread")).to_contain_text("You deleted this question.")
    page.get_by_role("button", name="Undo").click()
    expect(page.locator("#thread")).to_contain_text("Better.")


def test_a_mark_stands_where_memory_begins_while_one_asks_and_after_a_reload(site, visitors):
    """H8: three long questions do not fit into the model's window together with a fourth."""
    person = site.person()
    said = [(role, f"{role} {number} " + "word " * 11_000) for number in range(3) for role in ("user", "assistant")]
    chat = factories.make_conversation(person.brand, person.user, said=said)
    member = visitors.open(person, viewport=PHONE, color_scheme="dark")
    page = member.page
    page.goto(f"{member.origin}/c/{chat.pk}/")
    mark = page.locator("#memory-begins")
    expect(mark).to_have_count(0)
    member.ask_and_read("And now?", "echo")
    expect(mark).to_contain_text("Memory begins here")
    below, above = page.locator("#memory-begins + .msg"), page.locator(".msg:has(+ #memory-begins)")
    expect(below).to_contain_text("user 2")
    expect(above).to_contain_text("assistant 1")
    page.reload()
    expect(below).to_contain_text("user 2")
    mark.scroll_into_view_if_needed()
    assert member.findings() == []
    summarise = page.get_by_role("button", name="Summarise and go on")
    with page.expect_response(re.compile("/summarise/$")):
        summarise.dblclick()
    expect(member.questions.last).to_contain_text("Summarise our conversation so far")
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(member.answer).to_contain_text("so that we can go on from your summary")
    expect(mark).to_have_count(1)
    assert len(rows.of(person)) == 2, "a double click asks once"
    member.box.fill("What I was about to ask.")
    page.get_by_role("button", name="Start new with a summary").press("Enter")
    page.wait_for_url(re.compile(f"/c/(?!{chat.pk})"))
    expect(member.questions.last).to_contain_text("Summarise our chat “A chat”, so that we can go on here")
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(member.box).to_have_value("What I was about to ask.")
    expect(page.get_by_text("Begun with a summary of “A chat”.")).to_be_visible()
    assert (member.findings(), member.sideways()) == ([], 0)
    page.get_by_role("link", name="Open that chat").click()
    expect(page.get_by_text("A summary of this chat goes on in “A chat, continued”.")).to_be_visible()
    assert (member.findings(), member.sideways()) == ([], 0)
    page.evaluate(
        """htmx.swap({ text: '<li id="memory-begins" hx-swap-oob="delete"></li>', target: null, swap: "none" })"""
    )
    expect(mark).to_have_count(0)
    assert member.broken == []
