"""What a model says, a member types or a chat is called runs nothing and tells nobody."""

import http.server
import threading

import pytest
from playwright.sync_api import expect

from tests import factories
from tests.browser.payloads import CANARY, PAYLOADS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]
BATCH = 16


class Canary(http.server.ThreadingHTTPServer):
    """Where every payload wants to go; what arrives is kept."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Listener)
        self.heard = []

    def sing(self, payload):
        return payload.replace(CANARY, f"127.0.0.1:{self.server_port}")


class Listener(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.heard.append(self.path)
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.end_headers()

    def log_message(self, *_):
        pass


@pytest.fixture
def canary():
    with Canary() as canary:
        threading.Thread(target=canary.serve_forever, daemon=True).start()
        yield canary
        canary.shutdown()


@pytest.fixture
def victim(site, visitors, canary):
    """A member whose browser enforces no policy, so that nothing but our own markup protects them."""
    victim = visitors.open(site.person(), bypass_csp=True)
    victim.dialogs, victim.strayed = [], []
    victim.page.on("dialog", lambda dialog: (victim.dialogs.append(dialog.message), dialog.dismiss()))
    victim.page.on("request", lambda it: it.url.startswith((victim.origin, "data:")) or victim.strayed.append(it.url))
    return victim


def assert_unharmed(victim, canary):
    victim.page.wait_for_timeout(200)
    assert (victim.dialogs, victim.strayed, canary.heard) == ([], [], [])
    assert victim.path.startswith("/c/"), "the page was led away"
    assert victim.page.evaluate("window.pwned") is None
    said = ".prose, .bubble, #chats, #chat-title"
    alive = "img, iframe, script, style, svg:not(.icon), object, embed, form, input, link, base, video, audio, math, [style]"
    assert victim.page.locator(said).locator(alive).count() == 0
    handlers = """sel => [...document.querySelectorAll(sel)].flatMap(e => [e, ...e.querySelectorAll("*")])
        .flatMap(e => e.getAttributeNames()).filter(name => name.startsWith("on") || name.startsWith("hx-"))"""
    assert set(victim.page.evaluate(handlers, said)) <= {"hx-swap-oob"}
    leads = """() => [...document.querySelectorAll(".prose a")].map(a => a.protocol + "|" + a.rel)"""
    safe = {f"{scheme}|nofollow noopener noreferrer" for scheme in ("http:", "https:", "mailto:")}
    assert set(victim.page.evaluate(leads)) <= safe


def test_there_are_enough_payloads_and_the_trap_would_spring(victim, canary):
    """The control: each of the three ways to notice harm does."""
    assert len(set(PAYLOADS)) >= 60

    victim.page.locator("#thread").evaluate("(e, html) => (e.innerHTML = html)", canary.sing(f"<img src=//{CANARY}/x>"))
    victim.page.locator("#thread").evaluate("(e, html) => (e.innerHTML = html)", "<img src=x onerror=alert(1)>")
    victim.page.wait_for_timeout(300)

    assert victim.dialogs == ["1"]
    assert canary.heard == ["/x"]
    assert len(victim.strayed) == 1


@pytest.mark.parametrize("first", range(0, len(PAYLOADS), BATCH))
def test_no_payload_runs_or_phones_home_whoever_says_it(first, victim, canary):
    """F-05, F-08: typed, said by the model while it streams, stored, and as the title of a chat."""
    payloads = [canary.sing(payload) for payload in PAYLOADS[first : first + BATCH]]
    victim.ask_and_read("\n\n".join(payloads), "echo")
    expect(victim.answer.locator(".prose")).not_to_be_empty()
    assert_unharmed(victim, canary)

    victim.page.reload()
    expect(victim.answer.locator(".prose")).not_to_be_empty()
    assert_unharmed(victim, canary)


def test_no_payload_runs_as_the_title_of_a_chat(site, visitors, canary, cast):
    """F-04, F-05."""
    person = site.person()
    for payload in PAYLOADS:
        chat = factories.make_conversation(person.brand, person.user, canary.sing(payload)[:200], said=[("user", "?")])
    victim = visitors.open(person, f"/c/{chat.pk}/", bypass_csp=True)
    victim.dialogs, victim.strayed = [], []
    victim.page.on("dialog", lambda dialog: (victim.dialogs.append(dialog.message), dialog.dismiss()))
    victim.page.on("request", lambda it: it.url.startswith(victim.origin) or victim.strayed.append(it.url))
    victim.page.reload()

    victim.page.get_by_role("link", name="Show more").click()
    expect(victim.page.locator("#chats [data-chat]")).to_have_count(len(PAYLOADS))
    assert_unharmed(victim, canary)
    victim.ask_and_read("Well?", "words")  # the list is swapped in anew when a chat begins
    victim.go("/c/")
    victim.ask_and_read(canary.sing(f"<img src=//{CANARY}/t onerror=alert(1)>"), "echo")
    assert_unharmed(victim, canary)


def test_an_injected_script_is_blocked_by_the_policy(member):
    """V-04: the second wall, where the first did not hold."""
    blocked = """() => new Promise(done => {
        addEventListener("securitypolicyviolation", event => done([event.effectiveDirective, event.disposition]));
        const script = document.createElement("script");
        script.textContent = "window.pwned = true";
        document.body.append(script);
    })"""

    assert member.page.evaluate(blocked) == ["script-src-elem", "enforce"]

    assert member.page.evaluate("window.pwned") is None
    assert all("violates" in text for text in member.broken)
    member.broken.clear()


def test_an_injected_image_reaches_nobody(member, canary):
    """V-04, F-08."""
    member.page.locator("#thread").evaluate("(e, html) => (e.innerHTML = html)", canary.sing(f"<img src=//{CANARY}/x>"))
    member.page.wait_for_timeout(300)

    assert canary.heard == []
    assert all("violates" in text for text in member.broken)
    member.broken.clear()


def test_the_policy_has_a_new_nonce_each_time_and_no_way_around_it(visitors, cast):
    """V-04."""
    member = visitors.open(cast.alice)
    policies = [member.page.goto(member.page.url).headers["content-security-policy"] for _ in range(2)]

    assert policies[0] != policies[1]
    for policy in policies:
        assert "unsafe" not in policy
        assert "object-src 'none'" in policy
        assert "base-uri 'none'" in policy
        assert "frame-ancestors 'none'" in policy


def test_a_link_shows_its_full_target_before_it_is_followed(member, canary):
    """F-08: words may say anything; the address does not."""
    address = canary.sing(f"http://{CANARY}/collect?said=" + "everything-" * 30)
    member.ask_and_read(f"[Your invoice]({address}) or https://example.com/plain", "echo")

    member.page.get_by_role("link", name="Your invoice", exact=True).click()
    sheet = member.page.get_by_role("dialog", name="This link leaves")
    expect(sheet).to_contain_text(address)
    assert canary.heard == []
    assert member.sideways() == 0
    sheet.get_by_role("button", name="Stay here").click()
    expect(sheet).to_be_hidden()
    assert canary.heard == []

    member.page.get_by_role("link", name="Your invoice", exact=True).press("Enter")
    with member.page.context.expect_page():
        sheet.get_by_role("link", name="Open in a new tab").click()
    member.page.wait_for_timeout(300)
    assert [path.split("?")[0] for path in canary.heard if path != "/favicon.ico"] == ["/collect"]
    expect(sheet).to_be_hidden()
