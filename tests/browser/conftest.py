"""One Chromium, one web process and one database for all journeys; each test has its own contexts and its own people."""

import os
from contextlib import ExitStack
from decimal import Decimal

import pytest
from playwright.sync_api import expect, sync_playwright

from tests import factories
from tests.browser.visitor import Cast, Visitors
from tests.conftest import CHROMIUM
from tests.quotas.proofs import prove
from tests.server import run_site

FLAGS = """--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
    --disable-component-update --disable-sync""".split()  # noqa: SIM905


def pytest_itemcollected(item):
    """One worker has a Chromium: where several have, on two cores, journeys wait for each other until they give up."""
    if not item.get_closest_marker("xdist_group"):
        item.add_marker(pytest.mark.xdist_group("browser"))


@pytest.fixture(scope="session")
def _running(django_db_setup, django_db_blocker, tmp_path_factory):
    mail = tmp_path_factory.mktemp("mail")
    with ExitStack() as at_end, django_db_blocker.unblock():
        site, web = at_end.enter_context(
            run_site("browser", DJANGO_SETTINGS_MODULE="tests.browser.settings", MAIL_DIR=str(mail))
        )
        with site.database():
            cast = make_cast(site)
        yield site, web, mail, cast


def make_cast(site):
    """`act` and `globex` with their people and looks; alice has chats, one of them with a title that is too long."""
    act = factories.make_brand("act", hue=162, chroma=Decimal("0.105"), zone="Europe/Amsterdam")
    globex = factories.make_brand("globex", hue=265, chroma=Decimal("0.130"), roundness=Decimal("0.5"))
    for brand in (act, globex):
        factories.make_prompt(brand, "Helpful")
        factories.make_prompt(brand, "Plain language", "Explain without jargon.")
    cast = Cast(act, globex, *(site.person(brand) for brand in (act, act, globex)))
    for title in ("A title that goes on and on, far beyond what any sidebar has room for", "Content calendar"):
        factories.make_conversation(act, cast.alice.user, title, said=[("user", "Well?"), ("assistant", "Well.")])
    return cast


@pytest.fixture(scope="package")
def chromium():
    """For this package only: while Playwright runs, its event loop is this thread's, and async tests could not run."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "1"  # the ORM sees that loop too; nothing of ours runs on it
        expect.set_options(timeout=20_000)
        yield browser
        del os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"]
        browser.close()


@pytest.fixture
def site(_running, django_db_blocker):
    """The running site; whatever a journey does to it, every invariant of the meter holds afterwards."""
    site = _running[0]
    with django_db_blocker.unblock(), site.database():
        site.upstream.reset()
        yield site
        prove(None)


@pytest.fixture
def cast(_running, site):
    return _running[3]


@pytest.fixture
def mail(_running):
    """The folder into which the site's mails fall."""
    return _running[2]


@pytest.fixture
def visitors(_running, site, chromium):
    """Opens browsers: `visitors.open(person)`. Whatever broke in a page without a test expecting it fails the test."""
    visitors = Visitors(chromium, site, _running[1].port)
    yield visitors
    visitors.close()


@pytest.fixture
def member(site, visitors):
    """A signed-in member of a brand of their own, on the page of a new chat."""
    return visitors.open(site.person())
