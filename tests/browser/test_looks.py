"""Menus, keys, narrow and dark: what a member does beside asking, and whether everybody can (axe)."""

import re

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.visitor import PHONE

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]

CHAT = """A table and some code:

| Channel | Cost | Why it is worth the trouble, told at some length |
|---|---:|---|
| Listing | 10 | people search for it |

```python
def hello(name: str) -> str:  # a line that is much longer than the screen of any phone that was ever sold
    return f"hello {name}"
```

- one [link](https://example.com/a)
"""


def test_model_and_prompt_are_picked_by_mouse(site, visitors, cast):
    member = visitors.open(cast.bob)
    member.page.get_by_role("button", name="Model: ").click()
    member.page.get_by_role("option", name=re.compile("^Echo")).click()
    member.page.get_by_role("button", name="Prompt: ").click()
    member.page.get_by_role("option", name="Plain language").click()
    expect(member.page.get_by_role("button", name="Prompt: Plain language")).to_be_focused()

    member.ask_and_read("Say this.")

    expect(member.answer).to_contain_text("Say this.")
    expect(member.answer.locator(".meta")).to_contain_text("Echo")
    (call,) = site.upstream.calls()
    assert call["body"]["messages"][0] == {"role": "system", "content": "Explain without jargon."}
    member.page.reload()
    expect(member.page.get_by_role("button", name="Model: Echo")).to_be_visible()
    expect(member.page.get_by_role("button", name="Prompt: Plain language")).to_be_visible()


def test_from_sign_in_to_a_stopped_answer_by_keyboard_alone(cast, visitors):
    """UX 3 and 2: nothing needs a mouse, and the focus is always where one expects it."""
    visitor = visitors.open(brand=cast.act, path="/account/login/")
    keys = visitor.page.keyboard
    focused = "(document.activeElement.labels?.[0] ?? document.activeElement).textContent"

    def to(name):
        for _ in range(30):
            keys.press("Tab")
            if visitor.page.evaluate(focused).startswith(name):
                return
        raise AssertionError(f"the Tab key does not lead to {name}")

    to("Email")
    keys.type(cast.bob.user.email)
    to("Password")
    keys.type(factories.PASSWORD)
    keys.press("Enter")
    expect(visitor.box).to_be_focused()

    keys.type("By hand.")
    to("Model: ")
    keys.press("Enter")
    expect(visitor.page.get_by_role("searchbox", name="Search: Model")).to_be_focused()
    keys.type("slow")
    keys.press("ArrowDown")
    expect(visitor.page.get_by_role("option", name=re.compile("^Slow"))).to_have_count(2)
    expect(visitor.page.get_by_role("option", name=re.compile("^Slow")).first).to_be_focused()
    keys.press("Enter")
    expect(visitor.page.get_by_role("button", name="Model: Slow")).to_be_focused()
    keys.press("/")
    expect(visitor.box).to_be_focused()
    expect(visitor.box).to_have_value("By hand.")
    keys.press("Enter")
    visitor.watch("w0005")
    keys.press("Escape")
    expect(visitor.answer).to_have_attribute("data-status", "stopped")
    expect(visitor.box).to_be_focused()

    visitor.set_model("words")
    keys.type("And now to the end.")
    keys.press("Enter")
    expect(visitor.answer).to_have_attribute("data-status", "done")
    expect(visitor.page.locator("#announce-status")).to_have_text("Answer done")
    expect(visitor.page.locator("#announce-answer")).to_contain_text("w0020")


def test_menus_close_with_escape_and_give_the_focus_back(visitors, cast):
    member = visitors.open(cast.bob)
    opener = member.page.get_by_role("button", name="Model: ")
    chosen = opener.inner_text()
    opener.press("Enter")
    member.page.keyboard.press("End")
    member.page.keyboard.press("Escape")
    expect(opener).to_be_focused()
    expect(opener).to_have_text(chosen, use_inner_text=True)
    expect(opener).to_have_attribute("aria-expanded", "false")

    member.page.locator("#transcript").focus()
    member.page.keyboard.press("?")
    sheet = member.page.get_by_role("dialog", name="Keyboard shortcuts")
    expect(sheet).to_contain_text("Go to the message box")
    member.page.keyboard.press("Escape")
    expect(sheet).to_be_hidden()


def test_j_and_k_walk_the_messages_and_c_copies(member):
    member.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    member.ask_and_read("**Bold** words.", "echo")
    member.page.locator("#transcript").focus()

    member.page.keyboard.press("k")
    expect(member.answer).to_be_focused()
    member.page.keyboard.press("k")
    expect(member.questions.first).to_be_focused()
    member.page.keyboard.press("j")
    member.page.keyboard.press("c")

    expect(member.page.locator("#announce-status")).to_have_text("Copied")
    assert member.page.evaluate("navigator.clipboard.readText()") == "**Bold** words."
    html = "navigator.clipboard.read().then(([item]) => item.getType('text/html')).then((blob) => blob.text())"
    assert "<strong>Bold</strong>" in member.page.evaluate(html)


def test_dark_is_chosen_in_the_menu_and_stays(member):
    member.page.locator("[popovertarget=account-menu]").click()
    light = member.page.evaluate("getComputedStyle(document.body).backgroundColor")
    with member.page.expect_response("**/settings/change/"):
        member.page.get_by_text("Dark", exact=True).click()
    assert member.page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    member.page.reload()

    assert member.page.evaluate("getComputedStyle(document.body).backgroundColor") != light


def test_on_a_phone_nothing_scrolls_sideways_and_the_drawer_holds_the_chats(cast, visitors):
    phone = visitors.open(cast.alice, viewport=PHONE, has_touch=True, is_mobile=True)
    expect(phone.page.locator("#sidebar")).to_be_hidden()
    phone.ask_and_read(CHAT, "echo")
    assert phone.sideways() == 0

    phone.page.get_by_role("button", name="Open chat list").tap()
    drawer = phone.page.get_by_role("navigation", name="Chats")
    expect(drawer).to_be_visible()
    title = drawer.get_by_role("link", name="A title that goes on and on").locator(".truncate")
    assert title.evaluate("e => e.scrollWidth > e.clientWidth && getComputedStyle(e).textOverflow") == "ellipsis"
    assert phone.sideways() == 0
    drawer.get_by_role("link", name="Content calendar", exact=True).tap()
    expect(phone.page.get_by_role("heading", level=1)).to_have_text("Content calendar")
    phone.page.get_by_role("button", name="Model: ").tap()
    expect(phone.page.get_by_role("listbox", name="Model")).to_be_in_viewport()
    assert phone.sideways() == 0
    small = """() => [...document.querySelectorAll("a, button, input:not([type=hidden])")].filter(e => e.checkVisibility())
        .map(e => [e.outerHTML.slice(0, 80), e.getBoundingClientRect()])
        .filter(([_, box]) => box.width && Math.min(box.width, box.height) < 24).map(([html]) => html)"""
    assert phone.page.evaluate(small) == []


def test_reduced_motion_stops_every_animation(site, visitors):
    still = visitors.open(site.person(), reduced_motion="reduce")
    still.ask(model="slow")
    still.watch("w0005")

    assert still.page.evaluate("document.getAnimations().length") == 0


LOOKS = {
    "desk": {"in_the_dark": True},
    "phone": {"viewport": PHONE, "has_touch": True, "is_mobile": True},
}


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_on_the_pages_of_a_stranger(look, cast, visitors):
    stranger = visitors.open(brand=cast.act, **LOOKS[look])
    for path in (
        "/",
        "/account/login/",
        "/account/signup/",
        "/account/password/reset/",
        "/account/confirm-email/",
        "/no/",
    ):
        stranger.go(path)
        assert stranger.findings() == [], path
        assert stranger.sideways() == 0, path
    stranger.go("/account/login/")
    stranger.page.get_by_label("Email").fill("nobody@example.com")
    stranger.page.get_by_label("Password").fill("wrong-password")
    stranger.page.get_by_role("button", name="Sign in").click()
    expect(stranger.page.get_by_role("alert")).to_be_visible()
    assert stranger.findings() == [], "refused"
    guest = visitors.open(cast.charlie, **LOOKS[look])
    for path in ("/account/logout/", "/account/password/change/"):
        guest.go(path)
        assert guest.findings() == [], path


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_in_a_chat_whatever_it_is_doing(look, site, visitors):
    """UX 3, 13: empty, writing, finished, stopped, failed, refused; menus, drawer and sheets open."""
    person = site.person(limit=4)
    factories.make_prompt(person.brand)
    member = visitors.open(person, **LOOKS[look])
    keys = member.page.keyboard

    def assert_clean(state):
        assert member.findings() == [], state
        assert member.sideways() == 0, state

    assert_clean("empty")
    for menu in ("pick-prompt", "pick-provider"):
        member.page.locator(f"[popovertarget={menu}]").click()
        assert_clean(menu)
        keys.press("Escape")
    if look == "phone":
        member.page.get_by_role("button", name="Open chat list").click()
        assert_clean("drawer")
    member.page.locator("[popovertarget=account-menu]").click()
    assert_clean("account")
    member.page.get_by_role("button", name=re.compile("^Keyboard shortcuts")).click()
    assert_clean("keys")
    keys.press("Escape")
    keys.press("Escape")
    keys.press("Escape")
    member.ask(model="long")
    member.watch("w0003")
    assert_clean("writing")
    member.stop_button.click()
    expect(member.answer).to_have_attribute("data-status", "stopped")
    assert_clean("stopped")
    member.ask_and_read(CHAT, "echo")
    assert_clean("finished")
    member.page.get_by_role("link", name="link", exact=True).click()
    assert_clean("link")
    keys.press("Escape")
    answer = member.ask(model="broken")
    expect(answer).to_have_attribute("data-status", "failed", timeout=15_000)
    assert_clean("failed")
    for _ in range(2):
        member.ask_and_read(model="words")
    member.box.fill("One too many.")
    member.send_button.click()
    expect(member.note).to_be_visible()
    assert_clean("refused")


def test_axe_finds_nothing_on_the_page_that_asks_to_join(cast, site, visitors):
    guest = visitors.open(brand=cast.act, path="/account/login/")
    guest.page.get_by_label("Email").fill(cast.charlie.user.email)
    guest.page.get_by_label("Password").fill(factories.PASSWORD)
    guest.page.get_by_role("button", name="Sign in").click()
    expect(guest.page.get_by_role("button", name="Join Act")).to_be_visible()

    assert guest.findings() == []


def test_axe_would_find_something(member):
    """The control."""
    member.page.locator("#thread").evaluate("e => (e.innerHTML = '<li><button></button></li>')")

    assert any(found.startswith("button-name") for found in member.findings())
