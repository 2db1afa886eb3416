"""What people are mailed, in a browser: chosen, stopped by a link, and looked after at the delivery desk."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from events import mail, notices
from events.delivery import blocked, stopping
from events.models import EmailLog
from lib.db import SERVICE, scope
from tests.browser.visitor import DESKTOP, PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
SHOTS = os.environ.get("SHOTS")  # a folder: what a person would see, for people to look at
LONG = "Your payment for a plan whose name goes on and on and on failed, and we could not charge it"


def look(member, name):
    assert member.findings() == [], name
    assert member.sideways() == 0, name
    if SHOTS:
        member.page.screenshot(path=Path(SHOTS, f"{name}.png"), full_page=True)


def filled(person):
    """Mails in every state, the last one of which was given up."""
    brand, user = person.brand, person.user
    with scope(SERVICE):
        Membership.objects.filter(user=user).update(role="owner")
    for status in EmailLog.Status.values:
        said = {"title": LONG if status == "bounced" else f"A mail that is {status}", "message": "Words", "path": ""}
        row = mail.send(brand.pk, user.email, "mail/notice", said, user_id=user.pk, email_type="billing_update")
        with scope(SERVICE):
            EmailLog.objects.filter(pk=row.pk).update(status=status, error="550 no such user" if "ed" in status else "")
    with scope(SERVICE):
        given_up = EmailLog.objects.get(brand=brand, user=user, status="failed")
        blocked.block(EmailLog.objects.get(brand=brand, user=user, status="bounced"), blocked.Reason.BOUNCED)
    return given_up


def test_what_is_mailed_is_chosen_stopped_and_looked_after(site, visitors):
    person = site.person()
    given_up = filled(person)
    member = visitors.open(person, "/settings/")
    page = member.page

    line = page.locator(".setting").filter(has_text="Plan and payments")
    line.get_by_label("By mail").select_option("daily")
    expect(line.locator(".said")).to_have_text("Saved")
    member.go("/settings/")
    expect(page.locator(".setting").filter(has_text="Plan and payments").get_by_label("By mail")).to_have_value("daily")
    look(member, "matrix")
    page.get_by_role("button", name="Send mails there again").click()
    expect(page.get_by_text("We send you mails again.")).to_be_visible()

    member.go("/manage/deliveries/")
    look(member, "deliveries")
    page.get_by_label("State").select_option("trouble")
    page.get_by_role("button", name="Show").click()
    expect(page.get_by_role("row")).to_have_count(5)
    page.get_by_role("link", name="A mail that is failed").click()
    look(member, "delivery")
    page.get_by_role("button", name="Send it again").click()
    expect(page.get_by_text("The mail is on its way again.")).to_be_visible()
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size(PHONE)
    look(member, "delivery-phone-dark")
    member.go("/manage/deliveries/")
    look(member, "deliveries-phone-dark")
    member.go("/settings/")
    look(member, "matrix-phone-dark")

    notices.tell(person.brand.pk, person.user.pk, "usage_limit", title="Nearly used up", message="Words")
    with scope(SERVICE):
        told = EmailLog.objects.select_related("brand").filter(user=person.user, email_type="usage_limit").get()
    stranger = visitors.open(brand=person.brand, path="/mail/stop/" + stopping.link(told).split("/mail/stop/")[1])
    look(stranger, "stop")
    stranger.page.get_by_role("button", name="Send me no more of them").click()
    expect(stranger.page.get_by_role("heading", name="You get no more of these")).to_be_visible()
    stranger.page.set_viewport_size(DESKTOP)
    look(stranger, "stopped")
    stranger.page.get_by_role("button", name="That was a mistake").click()
    expect(stranger.page.get_by_role("heading", name="You get them again")).to_be_visible()
    with scope(SERVICE):
        EmailLog.objects.filter(pk=given_up.pk).delete()
