"""An API key as a member makes it, copies it, uses it and revokes it; and whether everybody can (axe)."""

from urllib.request import Request, urlopen

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from lib.db import SERVICE, scope
from tests import factories
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("look", LOOKS)
def test_a_key_is_made_copied_used_renewed_and_revoked(look, site, visitors):
    """A-07, A-17: who signed in a while ago confirms it first, and the form goes on where it was."""
    person = site.person()
    member = visitors.open(person, **LOOKS[look])
    page = member.page
    member.go("/settings/api-keys/")
    expect(page.get_by_role("article", name="tests", exact=True)).to_be_visible()
    page.get_by_text("Make a key", exact=True).press("Enter")
    assert member.findings() == [], "the form"
    page.get_by_label("Name").fill("Nightly report")
    page.get_by_role("button", name="Make the key").press("Enter")

    expect(page.get_by_role("heading", level=1)).to_have_text("Confirm it is you")
    page.get_by_label("Password").fill(factories.PASSWORD)
    page.get_by_role("button", name="Go on").press("Enter")

    expect(page.get_by_role("heading", name="Nightly report is made")).to_be_visible()
    made = page.get_by_label("The new key")
    expect(made).to_be_focused()
    text = made.input_value()
    assert member.findings() == [], "made"
    assert member.sideways() == 0
    call = Request(f"http://127.0.0.1:{visitors.port}/v1/models", headers={"Authorization": f"Bearer {text}"})
    with urlopen(call) as asked:
        assert asked.status == 200
    member.go("/settings/api-keys/")
    expect(made).to_have_count(0)
    key = page.get_by_role("article", name="Nightly report", exact=True)
    expect(key).to_contain_text("1 of 10,000 calls today")
    key.get_by_text("Renew: Nightly report").press("Enter")
    key.get_by_role("button", name="Make the new key").press("Enter")
    expect(made).not_to_have_value(text)
    expect(page.get_by_role("article", name="Nightly report", exact=True)).to_have_count(2)
    newest = page.get_by_role("article", name="Nightly report", exact=True).first
    newest.get_by_text("Revoke: Nightly report").press("Enter")
    expect(newest).to_contain_text("This cannot be taken back.")
    assert member.findings() == [], "asked"
    newest.get_by_role("button", name="Revoke this key for good").press("Enter")
    expect(page.get_by_role("status").filter(has_text="is revoked")).to_be_visible()
    assert member.findings() == [], "revoked"
    assert member.sideways() == 0

    with site.database(), scope(SERVICE):
        Membership.objects.filter(user=person.user).update(role="admin")
    member.go("/manage/api-keys/")
    expect(page.get_by_role("article", name="Nightly report", exact=True)).to_have_count(2)
    expect(page.get_by_role("article").first).to_contain_text(person.user.email)
    assert member.findings() == [], "of the brand"
    assert member.sideways() == 0
