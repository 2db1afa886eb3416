"""A person at a browser, by what they do: ask, pick, stop, read."""

from dataclasses import dataclass, field
from pathlib import Path

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Locator, Page, expect

from accounts.models import Brand
from tests.server import Person, Site

DESKTOP = {"width": 1280, "height": 800}
PHONE = {"width": 360, "height": 740}
AXE = Path(__file__).parents[1] / "vendor" / "axe.min.js"
OF_COLOURS = {"type": "rule", "values": ["color-contrast", "link-in-text-block"]}
FADED = """() => Promise.allSettled(document.getAnimations()
    .filter(one => one.effect.getComputedTiming().endTime < Infinity).map(one => one.finished))"""
# What Chromium and htmx log of a refusal or a lost connection; the page says it in words.
NOISE = ("Failed to load resource", "htmx: htmx:error: Failed to fetch")


@dataclass
class Cast:
    """alice and bob of act; charlie of globex must see none of theirs."""

    act: Brand
    globex: Brand
    alice: Person
    bob: Person
    charlie: Person


@dataclass
class Visitor:
    """One tab."""

    page: Page
    origin: str
    site: Site
    in_the_dark: bool = False  # findings() looks at the dark colours too
    broken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("pageerror", lambda error: self.broken.append(str(error)))
        self.page.on("console", self._note)

    def _note(self, said: ConsoleMessage) -> None:
        if said.type == "error" and not said.text.startswith(NOISE):
            self.broken.append(said.text)

    def go(self, path: str) -> int:
        response = self.page.goto(self.origin + path)
        return response.status if response else 0

    @property
    def path(self) -> str:
        return self.page.url.removeprefix(self.origin)

    @property
    def box(self) -> Locator:
        return self.page.get_by_label("Message", exact=True)

    @property
    def answer(self) -> Locator:
        return self.page.locator("#thread > .msg:not(.msg--user)").last

    @property
    def questions(self) -> Locator:
        return self.page.locator("#thread > .msg--user")

    @property
    def send_button(self) -> Locator:
        return self.page.get_by_role("button", name="Send message")

    @property
    def stop_button(self) -> Locator:
        return self.page.get_by_role("button", name="Stop answer")

    @property
    def note(self) -> Locator:
        return self.page.locator("#composer-note")

    @property
    def meter(self) -> Locator:
        return self.page.locator("#quota")

    def set_model(self, identifier: str) -> None:
        """Choose a model without the menu, which has a journey of its own."""
        model = str(self.site.models[identifier])
        self.page.locator("input[name=provider]").evaluate("(field, value) => (field.value = value)", model)

    def ask(self, text: str = "Tell me.", model: str = "") -> Locator:
        """Send a question; the answer that is then being written."""
        if model:
            self.set_model(model)
        before = self.questions.count()
        self.box.fill(text)
        self.send_button.click()
        expect(self.page.locator("#thread > .msg--user[id]")).to_have_count(before + 1)
        return self.answer

    def ask_and_read(self, text: str = "Tell me.", model: str = "") -> Locator:
        answer = self.ask(text, model)
        expect(answer).to_have_attribute("data-status", "done", timeout=15_000)
        return answer

    def watch(self, words: str) -> None:
        """Wait until the answer has come as far as these words."""
        expect(self.answer).to_contain_text(words, timeout=15_000)

    def findings(self) -> list[str]:
        """What axe finds wrong with the page as it stands, once what fades has faded."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(AXE.read_text())
        found = self._axe()
        if self.in_the_dark:  # nothing but colours is another there: light-dark() in the style sheets
            self.page.emulate_media(color_scheme="dark")
            found += [f"in the dark: {one}" for one in self._axe(runOnly=OF_COLOURS)]
            self.page.emulate_media(color_scheme="light")
        return found

    def _axe(self, **options: object) -> list[str]:
        self.page.evaluate(FADED)
        run = "async (options) => (await axe.run({resultTypes: ['violations'], ...options})).violations"
        return [
            f"{one['id']}: {node['html'][:160]}" for one in self.page.evaluate(run, options) for node in one["nodes"]
        ]

    def sideways(self) -> int:
        """How many pixels the page can be scrolled sideways."""
        return self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")


class Visitors:
    """Opens browsers on the site and closes them."""

    def __init__(self, chromium: Browser, site: Site, port: int) -> None:
        self.chromium, self.site, self.port = chromium, site, port
        self.contexts: list[BrowserContext] = []
        self.tabs: list[Visitor] = []
        self.people: list[Person] = []

    def open(
        self,
        person: Person | None = None,
        path: str | None = None,
        *,
        brand: Brand | None = None,
        port: int = 0,
        in_the_dark: bool = False,
        **context,
    ) -> Visitor:
        """A person, or with a brand alone a stranger, at a path of that brand's site."""
        brand = brand or (person.brand if person else None)
        assert brand
        origin = f"http://{brand.domain}:{port or self.port}"
        opened = self.chromium.new_context(**{"viewport": DESKTOP, "locale": "en-GB", **context})
        self.contexts.append(opened)
        if person:
            self.people.append(person)
            pairs = (pair.split("=", 1) for pair in person.cookies.split("; "))
            opened.add_cookies([{"name": name, "value": value, "url": origin} for name, value in pairs])
        visitor = self.tab(Visitor(opened.new_page(), origin, self.site, in_the_dark))
        visitor.go(path if path is not None else "/c/" if person else "/")
        return visitor

    def beside(self, other: Visitor, path: str | None = None) -> Visitor:
        """A second tab in the same browser, by default on the same page."""
        visitor = self.tab(Visitor(other.page.context.new_page(), other.origin, self.site))
        visitor.go(other.path if path is None else path)
        return visitor

    def tab(self, visitor: Visitor) -> Visitor:
        self.tabs.append(visitor)
        return visitor

    def close(self) -> None:
        for context in self.contexts:
            context.close()
        broken = [what for tab in self.tabs for what in tab.broken]
        assert not broken, broken
