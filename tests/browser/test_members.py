"""A brand's owner looks after its people, on a phone, in the dark and by keyboard."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from lib.db import SERVICE, scope
from tests.browser.visitor import DESKTOP, PHONE

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
SHOTS = os.environ.get("SHOTS")  # a folder: what a person would see, for people to look at


def look(member, name):
    if SHOTS:
        member.page.screenshot(path=Path(SHOTS, f"members-{name}.png"), full_page=True)


def test_an_owner_invites_changes_removes_and_takes_it_back(site, visitors):
    owner = site.person()
    other = site.person(owner.brand)
    with scope(SERVICE):
        Membership.objects.filter(user=owner.user).update(role="owner")
    member = visitors.open(owner, "/manage/members/", viewport=PHONE, color_scheme="dark")
    page, email = member.page, other.user.email
    assert (member.findings(), member.sideways()) == ([], 0)
    expect(page.get_by_text("None is open.")).to_be_visible()

    page.get_by_label("Invite by mail").fill("dora@example.com")
    page.get_by_label("Invite by mail").press("Enter")
    expect(page.get_by_role("status").filter(has_text="dora@example.com is invited")).to_be_visible()
    invited = page.locator("#invitations li")
    expect(invited).to_contain_text("dora@example.com")
    look(member, "phone-dark")
    page.get_by_role("button", name="Withdraw that of dora@example.com").press("Enter")
    expect(page.get_by_role("status").filter(has_text="Withdrawn")).to_be_visible()
    expect(invited).to_have_count(0)

    page.get_by_role("link", name=f"Change {email}").press("Enter")
    panel = page.locator("#member")
    panel.get_by_label("Admin:").check()
    assert (member.findings(), member.sideways()) == ([], 0)
    look(member, "chosen-phone-dark")
    panel.get_by_role("button", name="Save the role").press("Enter")
    expect(page.locator("li", has_text=email)).to_contain_text("Admin")
    page.set_viewport_size(DESKTOP)
    page.emulate_media(color_scheme="light")
    page.get_by_role("link", name=f"Change {email}").click()
    panel.get_by_role("button", name="Suspend").click()
    expect(page.locator("li", has_text=email)).to_contain_text("suspended")
    look(member, "desktop")
    page.get_by_role("link", name=f"Change {email}").click()
    look(member, "chosen-desktop")
    panel.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("status").filter(has_text=f"{email} is no longer a member.")).to_be_visible()
    assert (member.findings(), member.sideways()) == ([], 0)
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("status").filter(has_text="Taken back")).to_be_visible()
    expect(page.locator("li", has_text=email)).to_contain_text("suspended")
