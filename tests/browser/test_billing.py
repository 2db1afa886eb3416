"""Buying, as somebody at a browser does it: from the price to what one has, by keyboard, without scripts, on a phone."""

import re

import pytest
from playwright.sync_api import expect

from accounts.models import Membership
from events import notices
from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.models import UsageLog
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

PLAN = "/settings/plan/"


def pay(tab, card="works"):
    """On the stand-in's page: choose a card and pay with it."""
    expect(tab.page).to_have_url(re.compile("/stand-in/checkout/"))
    if card != "works":
        tab.page.locator(f"input[value={card}]").check()
    tab.page.get_by_role("button", name=re.compile("^(Pay|Store|Start)")).click()


def expect_done(tab):
    expect(tab.page.get_by_role("heading", level=1)).to_have_text("Done", timeout=20_000)


def subscribe(tab, plan="Basic"):
    tab.go("/pricing/")
    tab.page.get_by_role("button", name=f"Choose {plan}", exact=True).click()
    pay(tab)
    expect_done(tab)


def main_text(tab):
    return re.sub(r"\s+", " ", tab.page.locator("main").inner_text())


def test_a_pack_is_bought_by_keyboard_alone(site, visitors):
    """UX 3: from the price to what one has now, and no key but Tab and Enter."""
    member = visitors.open(site.person(), "/pricing/")
    keys = member.page.keyboard

    def to(name):
        for _ in range(40):
            keys.press("Tab")
            if member.page.evaluate("document.activeElement.textContent").strip().startswith(name):
                return
        raise AssertionError(f"the Tab key does not lead to {name}")

    to("200 questions, $5")
    keys.press("Enter")
    expect(member.page).to_have_url(re.compile("/stand-in/checkout/"))
    to("Pay $5")
    keys.press("Enter")
    expect_done(member)

    assert "200 questions left" in main_text(member)
    to("Plan and usage")
    keys.press("Enter")
    expect(member.page.get_by_role("heading", level=1)).to_have_text("Plan and usage")
    assert "Packs 200 questions left" in main_text(member).replace("3 ", "")


def test_without_scripts_a_card_that_is_declined_buys_nothing_and_another_one_does(site, visitors):
    member = visitors.open(site.person(), "/pricing/", java_script_enabled=False)
    member.page.get_by_role("button", name=re.compile("^200 questions")).click()

    pay(member, "declined")
    expect(member.page.get_by_role("alert")).to_contain_text("declined")
    member.page.get_by_role("button", name=re.compile("Cancel and go back")).or_(
        member.page.get_by_role("link", name=re.compile("Cancel and go back"))
    ).click()
    expect(member.page.locator("main")).to_contain_text("You left the payment page. Nothing was bought")
    member.go(PLAN)
    expect(member.page.locator("#packs")).to_contain_text("You have none.")

    member.go("/pricing/")
    member.page.get_by_role("button", name=re.compile("^200 questions")).click()
    pay(member)
    expect_done(member)
    member.go(PLAN)
    expect(member.page.locator("#packs")).to_contain_text("200 questions")


def test_a_plan_is_bought_moved_up_cancelled_and_kept(site, visitors):
    member = visitors.open(site.person(), "/pricing/")
    subscribe(member)
    member.go("/pricing/")
    member.page.get_by_role("link", name="Move up to Pro", exact=True).click()
    expect(member.page.locator("main")).to_contain_text("Begins")
    member.page.get_by_role("button", name=re.compile(r"^Pay \$[\d.]+ and change to Pro")).click()
    expect(member.page.locator("main")).to_contain_text("Pro is yours.")
    expect(member.page.locator("main")).to_contain_text("$29.99 a month")

    member.page.get_by_role("link", name="Cancel plan").click()
    member.page.get_by_role("button", name="Cancel my plan").click()
    expect(member.page.locator("input[name=reason]:invalid").first).to_be_attached()
    member.page.get_by_label("It costs too much").check()
    member.page.get_by_label("Anything else? (optional)").fill("Perhaps later.")
    member.page.get_by_role("button", name="Cancel my plan").click()
    expect(member.page.locator("main")).to_contain_text("Your plan is cancelled for the end of its period.")
    expect(member.page.locator("main")).to_contain_text("Ends on")

    member.page.get_by_role("button", name="Keep my plan").click()
    expect(member.page.locator("main")).to_contain_text("Your plan goes on.")
    expect(member.page.locator("main")).to_contain_text("Renews on")


def test_the_yearly_price_is_shown_without_a_script(cast, visitors):
    stranger = visitors.open(brand=cast.act, path="/pricing/", java_script_enabled=False)
    if stranger.page.get_by_label(re.compile("^Yearly")).count():
        stranger.page.get_by_text(re.compile("^Yearly")).click()
        expect(stranger.page.get_by_text("a year").first).to_be_visible()
        expect(stranger.page.get_by_text("a month", exact=True).first).to_be_hidden()


def fill(person):
    """Someone with a history: uses from every pocket, a pack, notices."""
    brand, user = person.brand, person.user
    with scope(SERVICE):
        for pocket in ("plan", "pack", "overage", "own_key") * 6:
            UsageLog.objects.create(
                brand=brand, owner_id=user.pk, usage_type="message", reservation=uuid7(), pocket=pocket, model="demo",
                counted_against_quota=pocket in ("plan", "pack"), overage=pocket == "overage", byok=pocket == "own_key",
                total_cost_microusd=25_000 if pocket == "overage" else 0, total_tokens=1200,
            )  # fmt: skip
        Membership.objects.filter(brand=brand, user=user).update(role="admin")
    ledger.grant_pack(
        brand, user.pk, meter="queries", amount=200, name="200 questions", price_microusd=5_000_000,
        source=f"test:{user.pk}", reason="test",
    )  # fmt: skip
    notices.notify(
        brand.pk, user.pk, "usage_limit", title="Nearly used up", message="12 of 15 questions are used.",
        priority="urgent", action_url="/pricing/", action_label="See plans",
    )  # fmt: skip
    return person


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_wherever_money_is_shown(look, cast, site, visitors):
    """UX 3, 13: prices, plan and usage empty and full, refused, changing, cancelling, waiting, the bell, the brand's page."""
    stranger = visitors.open(brand=cast.act, path="/pricing/", **LOOKS[look])
    assert stranger.findings() == []
    assert stranger.sideways() == 0

    person = site.person()
    member = visitors.open(person, PLAN, **LOOKS[look])

    def assert_clean(state):
        assert member.findings() == [], state
        assert member.sideways() == 0, state

    assert_clean("plan, nothing yet")
    member.go("/notifications/")
    assert_clean("no notices")
    subscribe(member)
    assert_clean("done")
    fill(person)
    for path in ("/pricing/", PLAN, "/notifications/", "/manage/plan/", "/settings/plan/cancel/"):
        assert member.go(path) == 200, path
        assert_clean(path)
    member.page.get_by_role("button", name="Cancel my plan").click()
    assert_clean("cancel, no reason")
    assert member.go("/settings/plan/change/?plan=pro&cycle=month") == 200
    assert_clean("change")
    member.go(PLAN)
    for table in member.page.get_by_text("Show as table").all():
        table.click()
    member.page.get_by_label(re.compile("^At most in a month")).fill("a lot")
    member.page.get_by_role("button", name="Save").click()
    expect(member.page.locator("#overage-cap-error")).to_be_visible()
    expect(member.page.get_by_label(re.compile("^At most in a month"))).to_have_value("a lot")
    assert_clean("cap refused")


def test_the_bell_counts_down_and_leads_on(site, visitors):
    person = fill(site.person())
    member = visitors.open(person, PLAN)
    expect(member.page.get_by_role("link", name="Notifications, 1 not read")).to_be_visible()

    member.page.get_by_role("link", name="Notifications, 1 not read").click()
    member.page.get_by_role("button", name=re.compile("^See plans")).click()

    expect(member.page).to_have_url(re.compile("/pricing/$"))
    expect(member.page.get_by_role("link", name="Notifications, 0 not read")).to_be_visible()
