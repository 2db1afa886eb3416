"""Weight of the pages, and what the browser does while a long answer arrives.

    python -m benchmarks.pages [--quick]

The answer is read in Chromium from a real web process; the longest task of its main thread is what the reader can feel.
"""

import os
import sys

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")
os.environ.setdefault(
    "DJANGO_ALLOW_ASYNC_UNSAFE", "1"
)  # Playwright's loop is this thread's; nothing of ours runs on it

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.test import Client  # noqa: E402
from playwright.sync_api import Page, expect, sync_playwright  # noqa: E402

from benchmarks import stage  # noqa: E402
from benchmarks.table import Row  # noqa: E402
from lib.db import SERVICE, scope  # noqa: E402
from quotas import ledger  # noqa: E402
from tests import factories  # noqa: E402
from tests.browser.conftest import FLAGS  # noqa: E402
from tests.conftest import CHROMIUM  # noqa: E402
from tests.upstream import Upstream  # noqa: E402
from tests.weight import weighed  # noqa: E402

PAGES = {"landing": ("/", 12, 25, 10), "chat": ("/c/", 25, 25, 10), "history": ("/history/", 30, 15, 15)}
# Tasks of 50 ms and more, until all of the answer is said to screen readers too.
LONG_TASKS = """
window.longTasks = [];
new PerformanceObserver((list) => window.longTasks.push(...list.getEntries())).observe({ type: "longtask", buffered: true });
"""
ENDS = """() => void (window.ends = new Promise((done) => document.addEventListener("turn:end", () => {
    const count = (what) => document.querySelectorAll(what).length;
    const look = setInterval(() => {
        if (count("#announce-answer > p") < count(".msg:last-child > .prose > *")) return;
        clearInterval(look);
        window.longest = Math.max(0, ...window.longTasks.map((one) => one.duration));
        done();
    }, 100);
})))"""


def client_of(world: factories.World) -> Client:
    client = Client(HTTP_HOST="act.localhost")
    with scope(SERVICE):
        user = type(world.alice).objects.get(pk=world.alice.pk)
    client.force_login(user, backend="django.contrib.auth.backends.ModelBackend")
    return client


def weights(world: factories.World) -> list[Row]:
    settings.DB_INLINE = True
    member, rows = client_of(world), []
    for name, (path, html, js, css) in PAGES.items():
        client = Client(HTTP_HOST="act.localhost") if name == "landing" else member
        weight = weighed(client.get(path).content.decode())
        is_met = weight["html"] <= html and weight["js"] <= js and weight["css"] <= css
        rows.append(Row(f"weight of the {name} page, gzip: HTML, JS, CSS", f"{weight['html']:.1f}, {weight['js']:.1f}, "
                        f"{weight['css']:.1f} kB", f"≤ {html}, {js}, {css} kB", "", is_met))  # fmt: skip
    return rows


def paint(world: factories.World, upstream: Upstream, tokens: int) -> Row:
    model = factories.make_provider(
        "long",
        protocol="openai",
        model=f"m;tokens={tokens};md=1;delay_ms=1",
        max_tokens=2 * tokens,
        context_window=10 * tokens,
        position=0,
    )
    ledger.top_up(world.act, meter="tokens", amount=10**12, reason="benchmark")
    session = client_of(world).cookies["sessionid"].value
    with stage.web(upstream.openai_url) as web, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        context = browser.new_context()
        origin = f"http://act.localhost:{web.port}"
        context.add_cookies([{"name": "sessionid", "value": session, "url": origin}])
        page = context.new_page()
        page.add_init_script(LONG_TASKS)
        page.goto(f"{origin}/c/")
        longest = _longest(page, str(model.pk), tokens)
        browser.close()
    return Row(f"longest task of the page while an answer of {tokens:,} tokens arrives",
               f"{longest:.0f} ms" if longest else "< 50 ms", "≤ 50 ms", "", longest <= 50)  # fmt: skip


def _longest(page: Page, model: str, tokens: int) -> float:
    page.locator("input[name=provider]").evaluate("(field, value) => (field.value = value)", model)
    page.get_by_label("Message", exact=True).fill("Tell me all of it.")
    page.evaluate("window.longTasks.length = 0")
    page.evaluate(ENDS)
    page.get_by_role("button", name="Send message").click()
    page.evaluate("window.ends")  # a look at the page from outside would be a long task of its own
    expect(page.locator("#thread > .msg").last).to_have_attribute("data-status", "done")
    return float(page.evaluate("window.longest"))


def measure(*, quick: bool = False) -> list[Row]:
    with stage.database("bench_pages"), Upstream() as upstream:
        world = factories.make_world()
        rows = weights(world)
        if CHROMIUM:
            rows.append(paint(world, upstream, 2_000 if quick else 20_000))
        return rows


if __name__ == "__main__":
    from benchmarks.table import show

    show(measure(quick="--quick" in sys.argv))
