"""What goes wrong, and how it reads: the text is never lost, and every note says the way on."""

import re

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from tests import factories
from tests.browser.wire import Wire
from tests.conversations import rows
from tests.server import said

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.fixture
def wire(_running):
    with Wire(_running[1].port) as wire:
        yield wire


def test_a_lost_connection_is_caught_up_by_last_event_id(site, visitors, wire):
    """H4: what was seen is not sent again, what was missed is."""
    member = visitors.open(site.person(), port=wire.port)
    answer = member.ask(model="steady")
    member.watch("w0010")

    wire.cut()
    expect(answer).to_contain_text("Connection lost")
    wire.mend()

    expect(answer).to_have_attribute("data-status", "done", timeout=30_000)
    assert answer.locator(".prose").inner_text().strip() == said(160).strip()
    expect(answer).not_to_contain_text("Connection lost")
    assert wire.resumed_at[0] >= len(said(10))


def test_an_answer_that_ended_while_the_browser_was_away_is_there_when_it_is_back(site, visitors, wire):
    member = visitors.open(site.person(), port=wire.port)
    answer = member.ask(model="brisk")
    member.watch("w0005")
    wire.cut()
    try_now = answer.get_by_role("button", name="Try now")
    expect(try_now).to_be_visible()
    member.page.wait_for_timeout(1500)

    # In one go, because the browser may try again by itself as soon as it can.
    button = try_now.element_handle()
    wire.mend()
    button.evaluate("button => button.click()")

    expect(answer).to_have_attribute("data-status", "done")
    expect(answer).to_contain_text("w0040")


def test_a_question_that_never_arrived_is_kept_and_sent_once_on_retry(site, visitors, wire):
    """Q-13."""
    person = site.person()
    member = visitors.open(person, port=wire.port)
    member.set_model("words")
    member.box.fill("Do you hear me?")
    wire.cut()
    member.send_button.click()
    expect(member.questions).to_contain_text("Not sent: the server could not be reached. Your text is kept.")
    expect(member.box).to_have_value("")
    member.box.fill("The next thought.")
    with member.page.expect_event("requestfailed"):
        member.questions.get_by_role("button", name="Send again").click()
    member.page.evaluate("window.isSamePage = true")
    wire.mend()
    member.page.reload()
    assert not member.page.evaluate("window.isSamePage")
    expect(member.box).to_have_value("The next thought.")

    member.questions.get_by_role("button", name="Send again").click()

    expect(member.answer).to_have_attribute("data-status", "done")
    expect(member.questions).to_have_count(1)
    assert len(rows.of(person)) == 1


def test_what_is_written_offline_waits_in_order_also_over_a_reload_and_is_sent_after_asking(site, visitors):
    """UX "Offline": a queue per chat; Edit takes one back into the box; nothing is sent unasked."""
    person = site.person()
    member = visitors.open(person)
    member.set_model("echo")
    member.page.context.set_offline(True)
    expect(member.page.get_by_text("You are offline.")).to_be_visible()
    for text in ("First.", "Second.", "A slip."):
        member.box.fill(text)
        member.box.press("Enter")
    expect(member.questions).to_have_count(3)
    expect(member.questions.first).to_contain_text("Waits for the connection. Your text is kept.")
    member.questions.last.get_by_role("button", name="Edit").click()
    expect(member.box).to_have_value("A slip.")
    member.page.context.set_offline(False)
    member.page.reload()
    expect(member.box).to_have_value("A slip.")
    strip = member.page.locator("#composer-waiting")
    expect(strip).to_contain_text("Questions that wait here: 2.")
    assert rows.of(person) == []
    assert member.findings() == []

    strip.get_by_role("button", name="Send them").click()

    expect(member.answer).to_contain_text("Second.", timeout=15_000)
    expect(member.answer).to_have_attribute("data-status", "done")
    assert [text.strip() for text in member.questions.locator(".bubble").all_inner_texts()] == ["First.", "Second."]
    expect(strip).to_be_hidden()
    expect(member.box).to_have_value("A slip.")
    assert len({turn.conversation_id for turn in rows.of(person)}) == 1
    assert len(rows.of(person)) == 2


def test_when_the_questions_are_used_up_the_text_is_kept_and_the_reset_is_named(site, visitors):
    """P1: refused before anything is held."""
    person = site.person(limit=1)
    member = visitors.open(person)
    member.ask_and_read("The only one.", "words")
    expect(member.meter).to_contain_text("Nothing left. Starts again at midnight.")

    member.box.fill("One more?")
    member.send_button.click()

    expect(member.note).to_contain_text("The one question of your plan is used. New ones come on")
    expect(member.note).to_contain_text("nothing was charged")
    expect(member.note.get_by_role("button", name="Send again")).to_be_hidden()
    expect(member.box).to_have_value("One more?")
    expect(member.questions).to_have_count(1)
    assert len(rows.of(person)) == 1


@pytest.mark.parametrize("model", ["broken", "key-refused", "busy", "hang-first"])
def test_a_provider_that_is_down_costs_nothing_and_another_model_answers(model, site, visitors):
    member = visitors.open(site.person(limit=5))

    answer = member.ask("Are you there?", model)

    expect(answer).to_have_attribute("data-status", "failed", timeout=15_000)
    expect(answer).to_contain_text("Nothing had arrived, so it is not counted.")
    expect(member.meter).to_contain_text("0 of 5")
    expect(member.questions).to_contain_text("Are you there?")
    member.set_model("echo")
    answer.get_by_role("button", name="Ask again").click()
    expect(member.questions).to_have_count(1)
    expect(member.answer.locator(".pager")).to_contain_text("2 of 2")
    expect(member.answer).to_have_attribute("data-status", "done")
    expect(member.answer).to_contain_text("Are you there?")
    expect(member.meter).to_contain_text("1 of 5")


def test_an_answer_cut_off_in_the_middle_keeps_its_text_and_says_that_it_counts(member):
    answer = member.ask(model="cut-middle")

    expect(answer).to_have_attribute("data-status", "failed", timeout=15_000)
    expect(answer).to_contain_text("w0005")
    expect(answer).to_contain_text("The text so far is kept. It counts as one question.")


def test_a_session_that_ended_in_another_tab_is_begun_anew_over_the_page_and_the_question_goes_on_once(
    site, visitors, member
):
    """UX "Session over", Q-13, WCAG 2.2.1: a wrong password is asked again; somebody else never sees the draft."""
    second = visitors.beside(member)
    second.page.get_by_role("button", name=re.compile("^P")).last.click()
    second.page.get_by_role("button", name="Sign out").click()
    second.page.wait_for_url("**/")
    member.set_model("words")
    member.box.fill("Still mine.")
    member.send_button.click()

    sheet = member.page.get_by_role("dialog", name="Your session")
    expect(sheet).to_contain_text("Your session is over.")
    expect(sheet.get_by_label("Email")).to_be_focused()
    assert member.findings() == []
    person = next(one for one in visitors.people if one.cookies)
    for password in ("wrong-password", factories.PASSWORD):
        sheet.get_by_label("Email").fill(person.user.email)
        sheet.get_by_label("Password").fill(password)
        sheet.get_by_role("button", name="Sign in").click()
        if password == "wrong-password":
            expect(sheet.get_by_role("alert").or_(sheet.locator(".field-error")).first).to_be_visible()

    expect(sheet).to_be_hidden()
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)
    expect(member.questions).to_have_text(re.compile("Still mine."))
    assert len(rows.of(person)) == 1


def test_an_edit_outlives_the_end_of_the_session_and_another_tab_s_answer(site, visitors, member):
    """UX "Session over": the text is nowhere else."""
    person = next(one for one in visitors.people if one.cookies)
    member.ask_and_read("As it was.", "echo")
    member.page.get_by_role("link", name="Edit question").click()
    edit = member.page.locator("form.edit textarea")
    edit.fill("As it should be.")
    second = visitors.beside(member, member.path)
    second.ask_and_read("Meanwhile.", "echo")
    member.page.bring_to_front()
    member.page.wait_for_timeout(500)
    expect(edit).to_have_value("As it should be.")
    second.page.get_by_role("button", name=re.compile("^P")).last.click()
    second.page.get_by_role("button", name="Sign out").click()
    second.page.wait_for_url("**/")

    member.page.bring_to_front()
    edit.press("Control+Enter")
    sheet = member.page.get_by_role("dialog", name="Your session")
    sheet.get_by_label("Email").fill(person.user.email)
    sheet.get_by_label("Password").fill(factories.PASSWORD)
    sheet.get_by_role("button", name="Sign in").click()

    expect(sheet).to_be_hidden()
    expect(member.questions.first).to_contain_text("As it should be.")
    expect(member.answer).to_have_attribute("data-status", "done", timeout=15_000)


def test_settings_of_a_chat_outlive_the_end_of_the_session_a_stale_token_and_a_refusal(site, visitors, member):
    """UX "Session over": the instructions are nowhere else."""
    person = next(one for one in visitors.people if one.cookies)
    member.ask_and_read("One.", "echo")
    chat = Conversation.objects.filter(owner_id=person.user.pk)
    settings = member.page.get_by_role("button", name="Settings of this chat")
    field, save = member.page.get_by_label("Instructions"), member.page.get_by_role("button", name="Save")
    saved = member.page.get_by_role("status").filter(has_text="Saved")
    sheet = member.page.get_by_role("dialog", name="Your session")
    second = visitors.beside(member, "/c/")

    def sign_out():
        second.page.get_by_role("button", name=re.compile("^P")).last.click()
        second.page.get_by_role("button", name="Sign out").click()
        second.page.wait_for_url("**/")

    def sign_in(form):
        form.get_by_label("Email").fill(person.user.email)
        form.get_by_label("Password").fill(factories.PASSWORD)
        form.get_by_role("button", name="Sign in").click()

    sign_out()
    settings.click()
    field.fill("In verse.")
    save.click()
    sign_in(sheet)
    expect(sheet).to_be_hidden()
    settings.click()
    expect(saved).to_be_visible()
    expect(field).to_have_value("In verse.")
    with scope(SERVICE):
        assert chat.get().system_prompt == "In verse."

    second.go("/c/")
    sign_out()
    second.go("/account/login/")
    sign_in(second.page)
    second.page.wait_for_url("**/c/")
    field.fill("In prose.")
    with member.page.expect_response(lambda answer: answer.url.endswith("/options/") and answer.ok):
        save.click()
    expect(saved).to_be_visible()
    expect(field).to_have_value("In prose.")

    with scope(SERVICE):
        chat.update(deleted_at=timezone.now())
    field.fill("In rhyme.")
    save.click()
    expect(member.note).to_contain_text("This chat is not here")
    expect(field).to_have_value("In rhyme.")


def test_text_that_is_too_long_is_refused_in_words(member):
    text = "many words " * 9_100 + "end"
    member.box.fill(text)
    member.send_button.click()

    expect(member.note).to_contain_text("longer than 100,000 characters")
    expect(member.box).to_have_value(text)


def test_an_answer_that_is_gone_says_so_and_is_not_asked_for_for_ever(site, visitors, wire):
    """It was deleted while the connection was lost; the box is free again."""
    person = site.person()
    member = visitors.open(person, port=wire.port)
    member.ask(model="long")
    member.watch("w0005")
    wire.cut()
    expect(member.page.get_by_text("Connection lost")).to_be_visible()
    with scope(SERVICE):
        Turn.objects.filter(owner_id=person.user.pk).update(message_id=None, conversation=None)
        Message.objects.filter(owner_id=person.user.pk).delete()
        Conversation.objects.filter(owner_id=person.user.pk).delete()
    wire.mend()

    expect(member.page.locator("#thread").get_by_text("This answer is not here (any more).")).to_be_visible(
        timeout=15_000
    )
    expect(member.page.locator("chat-stream")).to_have_count(0)
    expect(member.send_button).to_be_visible()
