"""Taking a chat home and bringing it back, and giving a copy away, on a phone and by keyboard alone."""

import json

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


def test_a_chat_goes_home_comes_back_and_is_shared(site, visitors, tmp_path):
    """C13 and sharing, in the browser: files are stored, a link is read by a stranger, and taken back it shows nothing."""
    person = site.person()
    said = [("user", "Which boats?"), ("assistant", "**Ferries**.\n\n```py\nboats = 1\n```")]
    chat = factories.make_conversation(person.brand, person.user, "Harbour", said=said)
    reader = visitors.open(person, viewport=PHONE)
    page = reader.page
    reader.go(f"/c/{chat.pk}/")
    opener = page.get_by_role("button", name="Share or export this chat")
    kinds = (("PDF", b"%PDF", ".pdf"), ("Markdown", b"---\ntitle", ".md"), ("JSON", b"{", ".json"))
    for kind, begins, suffix in kinds:
        opener.press("Enter")
        with page.expect_download() as waiting:
            page.get_by_role("link", name=f"Export as {kind}").press("Enter")
        waiting.value.save_as(tmp_path / kind)
        assert waiting.value.suggested_filename.endswith(f"Harbour{suffix}")
        assert (tmp_path / kind).read_bytes().startswith(begins)
        page.keyboard.press("Escape")
    opener.press("Enter")
    assert reader.findings() == []
    page.get_by_role("link", name="Share a copy by a link").press("Enter")

    page.get_by_label("for 7 days").check()
    page.get_by_role("button", name="Make a link").press("Enter")
    link = page.get_by_label("Link of Harbour").input_value()
    expect(page.get_by_role("button", name="Copy link")).to_be_visible()
    assert reader.findings() == []
    stranger = page.context.browser.new_context(viewport=PHONE, color_scheme="dark").new_page()
    assert stranger.goto(link).status == 200
    expect(stranger.get_by_role("heading", name="Harbour")).to_be_visible()
    expect(stranger.get_by_text("Ferries")).to_be_visible()
    assert stranger.get_by_role("button").count() == 0
    assert stranger.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    assert stranger.context.cookies() == []

    reader.go("/settings/data/")
    assert reader.findings() == []
    file = json.loads((tmp_path / "JSON").read_text())
    for each in (file["chats"][0], *file["chats"][0]["messages"]):
        each["id"] = each["id"][:-4] + "ffff"
        each.pop("parent_id", None)
    file["chats"][0].pop("origin_id")
    (tmp_path / "other.json").write_text(json.dumps(file))
    for name, told in (
        ("JSON", "1 was here already"),
        ("other.json", "1 chat was imported"),
        ("other.json", "1 was here"),
    ):
        page.get_by_label("File").set_input_files(
            {"name": "x.json", "mimeType": "", "buffer": (tmp_path / name).read_bytes()}
        )
        page.get_by_role("button", name="Import").press("Enter")
        expect(page.get_by_text(told)).to_be_visible()
    page.get_by_role("button", name="Take the link back").press("Enter")
    expect(page.get_by_text("No link of yours is open")).to_be_visible()
    assert stranger.goto(link).status == 404
    expect(stranger.get_by_role("heading", name="Nothing is shared here")).to_be_visible()
    stranger.context.close()
