"""Send, watch, stop, come back: the life of an answer as a member sees it."""

import re

import pytest
from playwright.sync_api import expect

from conversations.models import Conversation
from lib.db import SERVICE, scope
from tests.browser.visitor import PHONE
from tests.conversations import rows
from tests.server import said

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_an_answer_streams_with_formatting_and_ends_with_a_receipt(site, visitors):
    """T1, T2: from the first question to the receipt, the sidebar and the meter, without a reload."""
    member = visitors.open(site.person(limit=15))
    expect(member.meter).to_contain_text("0 of 15")

    answer = member.ask("How do I say hello?", "markdown")

    expect(answer).to_have_attribute("aria-busy", "true")
    expect(answer.locator(".prose table").first).to_be_visible()
    expect(answer).to_have_attribute("aria-busy", "true")
    expect(answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(answer.locator(".prose h3").first).to_have_text("Answer")
    expect(answer.locator("strong").first).to_have_text("bold")
    expect(answer.locator(".code pre .n").first).to_have_text("print")
    plain, coloured = (
        answer.locator(f".code {what}").first.evaluate("e => getComputedStyle(e).color") for what in ("pre", ".n")
    )
    assert plain != coloured
    expect(answer.locator(".meta")).to_have_text(re.compile(r"^Markdown, \d{3} tokens, \d+\.\d s$"))
    expect(member.page.locator("#chats [aria-current]")).to_have_text("How do I say hello?")
    expect(member.page.locator("#chats .dot--live")).to_have_count(0)
    expect(member.meter).to_contain_text("1 of 15")
    expect(member.page.get_by_role("heading", level=1)).to_have_text("How do I say hello?")
    expect(member.page).to_have_title(re.compile("^How do I say hello"))
    expect(member.box).to_be_focused()
    assert re.fullmatch(r"/c/[0-9a-f-]{36}/", member.path)
    drawn = KEYS.sub("", answer.inner_html())
    member.page.reload()
    assert KEYS.sub("", answer.inner_html()) == drawn, "what was streamed is what is stored"
    expect(member.meter).to_contain_text("1 of 15")


DRAWN = """() => {
    window.drawn = [];
    window.longest = 0;
    new PerformanceObserver((list) => (longest = Math.max(longest, ...list.getEntries().map((one) => one.duration))))
        .observe({ type: "longtask" });
    new MutationObserver((changes) => drawn.push(...changes.flatMap(({ addedNodes }) => [...addedNodes])
        .filter((one) => one.nodeType === 1 && one.matches(".prose > :not(.open-block)"))))
        .observe(document.getElementById("thread"), { subtree: true, childList: true });
}"""
KEYS = re.compile(' aria-keyshortcuts="."')  # named when the page is opened


def test_blocks_that_stand_are_the_same_nodes_when_a_long_answer_has_ended(member):
    """UX 4, 3: the end of an answer draws what differs and nothing else, so that it is no long task (printed, not judged)."""
    member.page.evaluate(DRAWN)
    answer = member.ask("A book, please.", "book")
    expect(answer).to_have_attribute("data-status", "done", timeout=30_000)

    blocks = answer.locator(".prose > *").count()
    replaced = member.page.evaluate("drawn.filter((one) => !one.isConnected).length")
    expect(member.page.locator("#announce-answer > p")).to_have_count(blocks)
    print(f"{blocks} blocks, longest task {member.page.evaluate('longest'):.0f} ms")

    assert blocks > 100
    assert replaced == 0
    assert member.page.evaluate("drawn.length") <= blocks


def test_a_list_that_went_on_across_blank_lines_ends_as_it_is_stored(member):
    """What was drawn block by block is one list in the end; only that is replaced."""
    member.page.evaluate(DRAWN)
    parts = [
        "Before.",
        "1. one",
        "   more of it",
        "2. two",
        "[here][x] it is",
        "[x]: https://example.com/",
        "***",
        "> after",
    ]
    said = "\n\n".join([*parts, "The end."])
    answer = member.ask_and_read(said, "echo")

    expect(answer.locator(".prose > ol")).to_have_count(1)
    expect(answer.locator(".prose > ol > li")).to_have_count(2)
    expect(answer.get_by_role("link", name="here")).to_be_visible()
    standing = member.page.evaluate("drawn.filter((one) => one.isConnected).map((one) => one.textContent.trim())")
    assert {"Before.", "after"} <= set(standing)
    drawn = KEYS.sub("", answer.inner_html())
    member.page.reload()
    assert KEYS.sub("", answer.inner_html()) == drawn


def test_an_answer_ends_in_the_language_of_its_reader(site, visitors):
    """Its end is drawn while its stream runs, long after the request's own middleware is done."""
    member = visitors.open(site.person(), locale="de-DE")
    member.set_model("echo")
    box = member.page.locator("#composer")
    box.fill("Wie geht es?")
    box.press("Control+Enter")

    expect(member.answer).to_have_attribute("data-status", "done")
    expect(member.answer.locator("h2")).to_contain_text("hat geantwortet")
    expect(member.answer.locator(".meta")).to_contain_text(re.compile(r"Tokens, \d+,\d s$"))
    expect(member.page.locator("#composer-price")).to_have_text("1 Frage")


def test_stop_keeps_the_text_and_says_that_it_counts(site, member):
    answer = member.ask(model="long")
    member.watch("w0005")

    member.stop_button.click()

    expect(answer).to_have_attribute("data-status", "stopped")
    expect(answer).to_contain_text("w0005")
    expect(answer).to_contain_text("Stopped. It counts as one question.")
    expect(member.send_button).to_be_visible()
    expect(member.box).to_be_focused()
    (call,) = site.upstream.calls()
    assert call["sent_tokens"] < 600, "the vendor was told to stop"


def test_a_refresh_in_mid_stream_goes_on_without_a_gap(member):
    """H3: the answer belongs to the server, not to the page."""
    member.ask(model="steady")
    member.watch("w0010")

    member.page.reload()
    member.watch("w0020")
    expect(member.answer).to_have_attribute("aria-busy", "true")
    expect(member.stop_button).to_be_visible()

    expect(member.answer).to_have_attribute("data-status", "done", timeout=30_000)
    assert member.answer.locator(".prose").inner_text().strip() == said(160).strip()


def test_a_second_tab_on_the_same_answer_shows_the_same(visitors, member):
    member.ask(model="long")
    member.watch("w0010")

    second = visitors.beside(member)
    second.watch("w0030")
    second.stop_button.click()

    for tab in (member, second):
        expect(tab.answer).to_have_attribute("data-status", "stopped")
    assert second.answer.inner_text() == member.answer.inner_text()


def test_leaving_the_chat_does_not_end_the_answer_and_the_sidebar_shows_it_running(member):
    member.ask("Write on.", "steady")
    member.watch("w0005")

    member.page.get_by_role("link", name="New chat").click()
    running = member.page.locator("#chats").get_by_role("link", name=re.compile("^Write on"))
    expect(running.get_by_role("img", name="Answer in progress")).to_be_visible()
    running.click()

    expect(member.answer).to_have_attribute("data-status", "done", timeout=30_000)
    expect(member.answer).to_contain_text("w0160")


@pytest.mark.parametrize("gesture", ["double click", "enter twice"])
def test_a_question_sent_twice_in_a_hurry_is_one_question(gesture, site, visitors):
    """Q-13."""
    person = site.person()
    member = visitors.open(person)
    member.set_model("words")
    member.box.fill("Once.")

    if gesture == "double click":
        member.send_button.dblclick()
    else:
        member.box.press("Enter")
        member.box.press("Enter")

    expect(member.answer).to_have_attribute("data-status", "done")
    member.page.wait_for_timeout(300)
    expect(member.questions).to_have_count(1)
    assert len(rows.of(person)) == len(site.upstream.calls()) == 1


def test_a_form_sent_again_by_a_second_tab_is_the_same_question(site, visitors):
    """Q-13: a network retry and a duplicated tab carry the same Idempotency-Key."""
    person = site.person()
    member = visitors.open(person)
    key = member.page.locator("#composer-form [name=idempotency_key]").input_value()
    member.ask_and_read("Once.", "words")

    second = visitors.beside(member, "/c/")
    second.page.locator("#composer-form [name=idempotency_key]").evaluate("(field, key) => (field.value = key)", key)
    second.set_model("words")
    second.box.fill("Once.")
    second.send_button.click()

    expect(second.answer).to_contain_text("w0020")
    assert len(rows.of(person)) == len(site.upstream.calls()) == 1


def test_enter_while_an_input_method_composes_does_not_send(member):
    member.box.fill("にほん")
    press = """(box, how) => box.dispatchEvent(
        new KeyboardEvent("keydown", {key: "Enter", bubbles: true, cancelable: true, ...how}))"""

    member.box.evaluate(press, {"isComposing": True})
    member.box.evaluate(press, {"keyCode": 229})
    member.page.wait_for_timeout(200)

    expect(member.questions).to_have_count(0)
    expect(member.box).to_have_value("にほん")


def test_shift_enter_makes_a_line_and_enter_sends_both(member):
    member.set_model("echo")
    member.box.press_sequentially("one")
    member.box.press("Shift+Enter")
    member.box.press_sequentially("two")
    expect(member.box).to_have_value("one\ntwo")

    member.box.press("Enter")

    expect(member.questions.locator(".bubble")).to_have_text("one\ntwo")
    expect(member.answer).to_have_attribute("data-status", "done")


def test_on_a_phone_enter_makes_a_line(site, visitors):
    phone = visitors.open(site.person(), viewport=PHONE, has_touch=True, is_mobile=True)
    phone.box.tap()
    phone.box.press_sequentially("one")
    phone.box.press("Enter")

    expect(phone.box).to_have_value("one\n")
    expect(phone.questions).to_have_count(0)


def test_a_second_question_follows_in_the_same_chat_and_a_new_chat_begins_beside_it(member):
    member.ask_and_read("The first.", "echo")
    first = member.path
    member.ask_and_read("The second.", "echo")
    assert member.path == first
    expect(member.questions).to_have_count(2)

    member.page.get_by_role("link", name="New chat").click()
    expect(member.questions).to_have_count(0)
    expect(member.page.locator("#new-chat")).to_have_attribute("aria-current", "page")
    member.ask_and_read("Something else.", "echo")

    assert member.path != first
    expect(member.page.locator("#chats .nav-item")).to_have_text(["Something else.", "The first."])
    member.page.go_back()
    expect(member.questions).to_have_count(2 if member.path == first else 0)


def test_the_end_stays_in_view_and_a_reader_who_scrolled_up_is_not_dragged_down(member):
    """UX 4, 1: the view stays where it is, and "Latest" leads back."""
    below = "view => view.scrollHeight - view.clientHeight - view.scrollTop"
    for number in range(3):
        member.ask_and_read("\n".join(f"{number}: line {line}\n" for line in range(12)), "echo")
    member.ask(model="slow")
    member.watch("w0005")
    view = member.page.locator("#transcript")
    assert view.evaluate(below) < 2
    view.evaluate("view => view.scrollBy(0, -600)")
    line = member.questions.nth(2)
    before = line.bounding_box()["y"]

    member.watch("w0040")

    assert abs(line.bounding_box()["y"] - before) < 2
    member.page.get_by_role("button", name="Latest").click()
    expect(member.page.get_by_role("button", name="Latest")).to_be_hidden()
    member.watch("w0060")
    assert view.evaluate(below) < 2
    member.page.reload()
    assert view.evaluate(below) < 2, "it comes with its end in view, too"
    oldest = member.page.locator(".msg").first.get_attribute("id")
    member.go(f"{member.path}?message={oldest.removeprefix('message-')}#{oldest}")
    member.page.wait_for_timeout(300)
    expect(member.page.locator(f"#{oldest}")).to_be_in_viewport()
    expect(member.page.get_by_role("button", name="Latest")).to_be_visible()


def test_without_javascript_the_answer_is_there_after_a_refresh(site, visitors):
    plain = visitors.open(site.person(), java_script_enabled=False)
    plain.box.fill("Without a script?")
    plain.page.get_by_role("button", name="Send message").click()
    assert re.fullmatch(r"/c/[0-9a-f-]{36}/", plain.path)
    expect(plain.questions).to_have_text(re.compile("Without a script"))

    for _ in range(150):
        if plain.page.locator("[data-status=done]").count():
            break
        plain.page.get_by_role("link", name="Refresh to see more").click()
        plain.page.wait_for_timeout(100)

    expect(plain.answer).to_contain_text("w0020")
    expect(plain.answer.locator(".meta")).to_contain_text("tokens")


def test_without_javascript_a_running_answer_can_be_stopped(site, visitors):
    person = site.person()
    visitors.open(person).ask(model="long")
    plain = visitors.open(person, java_script_enabled=False)
    plain.page.locator("#chats .nav-item").first.click()

    plain.page.get_by_role("button", name="Stop", exact=True).click()
    for _ in range(100):
        if plain.page.locator("[data-status=stopped]").count():
            break
        plain.page.wait_for_timeout(200)
        plain.page.reload()

    expect(plain.answer).to_have_attribute("data-status", "stopped")


def test_a_better_title_shows_without_a_reload(site, visitors):
    member = visitors.open(site.person())
    member.ask_and_read("How do I bake bread?", "echo")
    heading, row = member.page.locator("#chat-title"), member.page.locator("#chats [aria-current]")
    expect(heading).to_have_text("How do I bake bread?")
    with scope(SERVICE):
        Conversation.objects.filter(pk=member.path.split("/")[2]).update(title="Baking bread")
    expect(heading).to_have_text("Baking bread", timeout=15_000)
    expect(row).to_have_text("Baking bread")
    expect(member.page).to_have_title(re.compile("^Baking bread · "))
    assert member.broken == []
