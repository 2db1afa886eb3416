"""Signing up, in and out; other people's chats; pages that are not there."""

import re

import pytest
from playwright.sync_api import expect

from tests import factories

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
LINK = re.compile(r"https?://\S+/account/confirm-email/\S+")


def sign_in(visitor, email):
    visitor.page.get_by_label("Email").fill(email)
    visitor.page.get_by_label("Password").fill(factories.PASSWORD)
    visitor.page.get_by_role("button", name="Sign in").click()


def test_a_stranger_signs_up_confirms_the_mail_and_chats(cast, mail, visitors):
    """T1, H1: from the landing page to the first answer."""
    new = visitors.open(brand=cast.act)
    new.page.get_by_role("link", name="Sign in").click()
    new.page.get_by_role("main").get_by_role("link", name="Create").click()
    new.page.get_by_label("Email").fill("newcomer@example.com")
    new.page.get_by_label("Password").fill("a-quiet-green-lamp")
    new.page.get_by_role("button", name="Create account").click()
    expect(new.box).to_be_visible()
    expect(new.meter).to_contain_text("0 of 10")

    (letter,) = [text for text in (path.read_text() for path in mail.iterdir()) if "To: newcomer@example.com" in text]
    assert "Subject: Confirm your address" in letter
    assert "Welcome to Act." in letter
    link = LINK.search(letter)[0]
    assert link.startswith(new.origin)
    new.page.goto(link)
    expect(new.page.get_by_text("Is newcomer@example.com yours?")).to_be_visible()
    new.page.get_by_role("button", name="Yes, confirm it").click()

    new.go("/c/")
    new.ask_and_read("What can you do?", "words")
    expect(new.meter).to_contain_text("1 of 10")


def test_a_member_signs_in_after_a_wrong_password_and_signs_out(cast, visitors):
    visitor = visitors.open(brand=cast.act, path="/c/")
    visitor.page.get_by_label("Email").fill(cast.bob.user.email)
    visitor.page.get_by_label("Password").fill("not-this-one")
    visitor.page.get_by_role("button", name="Sign in").click()
    expect(visitor.page.get_by_role("alert")).to_contain_text("not correct")

    sign_in(visitor, cast.bob.user.email)
    expect(visitor.box).to_be_visible()
    assert visitor.path == "/c/"
    visitor.page.locator("[popovertarget=account-menu]").click()
    visitor.page.get_by_role("button", name="Sign out").click()

    expect(visitor.page.get_by_role("link", name="Sign in")).to_be_visible()
    visitor.go("/c/")
    assert visitor.path.startswith("/account/login/")


def test_a_draft_outlives_signing_out_and_is_nobody_else_s(site, visitors):
    person, other = site.person(), None
    other = site.person(person.brand)
    member = visitors.open(person)
    for who, left, found in (
        (person, "A secret half thought.", ""),
        (other, "", ""),
        (person, "", "A secret half thought."),
    ):
        if who is not person or not left:
            member.go("/account/login/")
            member.page.get_by_label("Email").fill(who.user.email)
            member.page.get_by_label("Password").fill(factories.PASSWORD)
            member.page.get_by_role("button", name="Sign in").click()
        expect(member.box).to_have_value(found)
        if left:
            member.box.fill(left)
        member.page.locator("[popovertarget=account-menu]").click()
        member.page.get_by_role("button", name="Sign out").click()
        expect(member.page.get_by_role("link", name="Sign in").first).to_be_visible()


def test_charlie_of_globex_sees_nothing_of_act(cast, visitors):
    """I-01: not through the address, not through the own site, not by signing in on act."""
    alice = visitors.open(cast.alice)
    alice.ask_and_read("The secret of act.", "echo")
    chat = alice.path

    charlie = visitors.open(cast.charlie)
    expect(charlie.page.locator("#chats")).not_to_contain_text("secret")
    assert charlie.go(chat) == 404
    expect(charlie.page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    expect(charlie.page.get_by_text("This chat is not here (any more).")).to_be_visible()

    on_act = visitors.open(brand=cast.act, path=chat)
    sign_in(on_act, cast.charlie.user.email)
    expect(on_act.page.get_by_role("heading", level=1)).to_have_text("Join Act")
    assert "secret" not in on_act.page.content()


def test_bob_does_not_see_alices_chat_on_their_own_brand(cast, visitors):
    alice = visitors.open(cast.alice)
    alice.ask_and_read("Only mine.", "echo")

    bob = visitors.open(cast.bob)

    assert bob.go(alice.path) == 404
    expect(bob.page.get_by_role("heading", level=1)).to_have_text("There is nothing here")


def test_somebody_with_an_account_joins_a_second_brand(cast, site, visitors):
    member = site.person(cast.globex)
    guest = visitors.open(brand=cast.act, path="/c/")
    sign_in(guest, member.user.email)
    guest.page.get_by_role("button", name="Join Act").click()

    expect(guest.box).to_be_visible()
    expect(guest.page.locator("#chats")).to_contain_text("Your plan keeps no list of chats")


def test_pages_that_are_not_there_say_so_with_a_way_on(cast, visitors):
    visitor = visitors.open(brand=cast.act, path="/nothing/here/")
    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("There is nothing here")
    expect(visitor.page.locator("code")).to_have_text(re.compile("^[0-9a-f]{32}$"))
    visitor.page.get_by_role("link", name="Go to the start").click()
    assert visitor.path == "/"

    visitor.page.goto(visitor.origin.replace("act.", "unknown."))
    expect(visitor.page.get_by_text("No brand lives at unknown.localhost.")).to_be_visible()


def test_a_form_with_a_stale_token_is_refused_in_words(cast, visitors):
    visitor = visitors.open(brand=cast.act, path="/account/login/")
    visitor.page.context.clear_cookies()
    sign_in(visitor, cast.bob.user.email)

    expect(visitor.page.get_by_role("heading", level=1)).to_have_text("This page was open too long")
