"""Attaching files: by keyboard, by dropping and pasting; watched, sent with a question, refused in words, removed."""

import pytest
from django.db.models.functions import Now
from playwright.sync_api import expect

from conversations.models import Attachment, Message
from lib.db import SERVICE, scope
from tests.browser.visitor import PHONE
from tests.knowledge import papers

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

BROUGHT = """(text) => { const data = new DataTransfer();
    data.items.add(new File([text], "brought.csv", {type: "text/csv"})); return data; }"""
PASTE = """(box, clipboardData) =>
    box.dispatchEvent(new ClipboardEvent("paste", {clipboardData, bubbles: true, cancelable: true}))"""


def file(name, content, kind="text/plain"):
    return {"name": name, "mimeType": kind, "buffer": content}


def test_files_are_attached_watched_sent_along_and_removed(site, visitors):
    """F-05 in a file's name, F-15; the question waits where everybody sees it, and the draft keeps its files on a reload."""
    person = site.person()
    with scope(SERVICE):
        plan = Attachment.objects.create(
            brand=person.brand, owner_id=person.user.pk, name="floor-plan.pdf", kind="pdf", size_bytes=9, state="reading",
            pages=13, pages_read=8, changed_at=Now(),
        )  # fmt: skip
    member = visitors.open(person, viewport=PHONE)
    page = member.page
    chips = page.get_by_role("list", name="Attached files").get_by_role("listitem")
    expect(chips).to_contain_text(["Reading page 8 of 13"])
    expect(chips.get_by_role("progressbar")).to_have_attribute("aria-valuenow", "61")

    page.get_by_role("button", name="Attach files").focus()
    page.keyboard.press("Enter")
    field = page.get_by_label("Choose files")
    expect(page.locator("#attach")).to_contain_text("up to 10 files of 10 MB each. Pictures cannot be read.")
    assert member.findings() == []
    hostile = "<img src=x onerror=alert(1)>.md"
    field.set_input_files([
        file("cat.png", b"\x89PNG", "image/png"), file("cat.txt", b"GIF89a"), file(hostile, b"# Notes"),
        file("large.txt", b"x" * (10 * 1024**2 + 1)), file("letter.docx", papers.real_word()),
    ])  # fmt: skip
    expect(page.locator("#attach")).to_be_hidden()
    expect(chips.filter(has_text=hostile)).to_contain_text("7 bytes")
    expect(chips.filter(has_text="cat.png")).to_contain_text("Pictures cannot be read here.")
    expect(chips.filter(has_text="cat.txt")).to_contain_text("is a picture")
    expect(chips.filter(has_text="large.txt")).to_contain_text("Larger than 10 MB.")
    assert (member.findings(), member.sideways()) == ([], 0)
    for name in ("cat.png", "cat.txt", "large.txt"):
        page.get_by_role("button", name=f"Remove {name}").press("Enter")
    expect(chips).to_have_count(3)

    page.locator("main").dispatch_event("drop", {"dataTransfer": page.evaluate_handle(BROUGHT, "1;2")})
    member.box.evaluate(PASTE, page.evaluate_handle(BROUGHT, "3;4"))
    expect(chips.filter(has_text="brought.csv").filter(has_text="3 bytes")).to_have_count(2)
    page.reload()
    expect(chips).to_have_count(5)
    page.get_by_role("button", name="Remove brought.csv").first.click()
    expect(chips).to_have_count(4)

    member.set_model("words")
    member.box.fill("What do they say?")
    member.send_button.click()
    waiting = page.locator("#thread .waiting")
    expect(waiting).to_have_text("Reading floor-plan.pdf, page 8 of 13")
    with scope(SERVICE):
        Attachment.objects.filter(pk=plan.pk).update(state="ready", text="Two rooms.")
    expect(member.questions.last).to_contain_text("floor-plan.pdf")
    expect(member.answer).to_have_attribute("data-status", "done")
    expect(chips).to_have_count(0)
    assert (member.findings(), member.sideways()) == ([], 0)
    told = site.upstream.calls()[-1]["body"]["messages"][-1]["content"]
    assert [part in told for part in ("Two rooms.", "# Notes", "Hello\tworld", "What do they say?")] == [True] * 4

    page.reload()
    member.set_model("words")
    member.box.evaluate(PASTE, page.evaluate_handle(BROUGHT, "5;6"))  # the first that this page hears of files
    expect(chips).to_contain_text(["3 bytes"])
    underway = []
    page.route("**/attachments/", lambda route: underway.append(route))
    field.set_input_files([file("late.txt", b"Late.")])
    expect(chips.last).to_contain_text("Sending")
    member.box.fill("And this?")
    member.send_button.click()
    expect(page.locator("#announce-status")).to_contain_text("as soon as its files have arrived")
    assert member.questions.count() == 1
    underway[0].abort()
    expect(chips.last).to_contain_text("The server could not be reached.")
    assert (member.findings(), member.sideways()) == ([], 0)
    page.get_by_role("button", name="Try again: late.txt").press("Enter")
    expect(chips.last).to_contain_text("Sending")
    expect(page.get_by_role("button", name="Remove late.txt")).to_be_focused()
    member.send_button.click()
    first, again = (route.request.headers["idempotency-key"] for route in underway)
    assert first == again  # had it arrived, and nobody heard of it, it would not be there twice
    underway[1].continue_()
    expect(member.answer).to_have_attribute("data-status", "done")
    expect(member.questions.last).to_contain_text("late.txt")
    expect(chips).to_have_count(0)

    page.unroute("**/attachments/")
    member.box.evaluate(PASTE, page.evaluate_handle(BROUGHT, "7;8"))  # a question that is not sent keeps its files
    expect(chips).to_contain_text(["3 bytes"])
    page.route("**/send/", lambda route: route.abort())
    member.box.fill("Lost?")
    member.send_button.click()
    for _ in range(2):
        expect(member.questions.last).to_contain_text("brought.csv")
        expect(chips).to_have_count(0)  # and the next question has its own
        assert member.findings() == []
        page.reload()
    member.questions.get_by_role("button", name="Edit", exact=True).click()
    expect(chips).to_contain_text(["3 bytes"])
    expect(member.box).to_have_value("Lost?")
    page.unroute("**/send/")
    member.set_model("words")
    member.send_button.click()
    expect(member.questions.last).to_contain_text("brought.csv")
    expect(member.answer).to_have_attribute("data-status", "done")
    expect(chips).to_have_count(0)
    with scope(SERVICE):
        asked = Message.objects.filter(owner_id=person.user.pk, role="user").order_by("pk")
        assert [len(message.files) for message in asked] == [4, 2, 1]
        assert not Attachment.objects.filter(owner_id=person.user.pk).exists()
