"""What a question costs before it is sent, and what can be done when nothing is left; and whether everybody can (axe)."""

import os
import re

import pytest
from playwright.sync_api import expect

from lib.db import SERVICE, scope
from quotas import ledger
from quotas.models import Account
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

FEATURES = {
    "overage_allowed": True,
    "overage_price_microusd": 25_000,
    "overage_cap_microusd": 10_000_000,
    "is_billable": True,
    "byok_allowed": True,
}


def on_plan(person, limit, *, is_on):
    grants = [ledger.Grant("queries", "day", limit)]
    ledger.entitle(person.brand, kind="user", owner_id=person.user.pk, grants=grants, features=FEATURES)
    with scope(SERVICE):
        Account.objects.filter(owner_id=person.user.pk).update(overage_on=is_on)


@pytest.mark.parametrize("look", LOOKS)
def test_the_price_stands_by_the_button_and_the_last_question_leads_to_three_ways_on(look, site, visitors):
    """UX "Limit reached": the draft is kept; wait, allow extra, own key. Amber from four fifths on."""
    person = site.person()
    on_plan(person, 1, is_on=True)
    member = visitors.open(person, **LOOKS[look])
    price = member.page.locator("#composer-price")
    expect(price).to_have_text("1 question")
    member.ask_and_read(model="words")
    expect(price).to_have_text("$0.025 of your $10.00")
    member.ask_and_read(model="words")
    expect(member.answer).to_contain_text("$0.025 beyond your plan")
    assert member.findings() == [], "paid"

    on_plan(person, 1, is_on=False)
    member.box.fill("Keep this draft.")
    member.send_button.click()
    expect(member.note).to_contain_text("The one question of your plan is used.")
    expect(member.box).to_have_value("Keep this draft.")
    for name, path in {
        "Use my key": "/settings/keys/",
        "Allow extra, $0.025 each": "/settings/plan/",
        "See plans and packs": "/pricing/",
    }.items():
        expect(member.note.get_by_role("link", name=name)).to_have_attribute("href", re.compile(f"^{path}"))
    assert member.findings() == [], "refused"
    assert member.sideways() == 0
    member.page.reload()
    expect(member.note).to_contain_text("The one question of your plan is used.")
    expect(price).to_have_text("")
    assert member.findings() == [], "nothing left"
    if folder := os.environ.get("SCREENSHOTS"):
        member.page.screenshot(path=f"{folder}/limit-{look}.png")
