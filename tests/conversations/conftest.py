from contextlib import ExitStack

import aiohttp
import pytest

from lib.db import db
from tests.quotas.proofs import prove
from tests.server import Browser, run_site


@pytest.fixture(scope="session")
def _running(django_db_setup, django_db_blocker):
    with ExitStack() as at_end:
        with django_db_blocker.unblock():
            running = at_end.enter_context(run_site())
        yield running


@pytest.fixture
def site(_running, django_db_blocker):
    """The running site; whatever a test does to it, every invariant of the meter holds afterwards."""
    site, _ = _running
    with django_db_blocker.unblock(), site.database():
        site.upstream.reset()
        yield site
        prove(None)


@pytest.fixture
def web(_running):
    return _running[1]


@pytest.fixture
async def http():
    """One session that keeps no cookies and any number of connections."""
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=100)
    async with aiohttp.ClientSession(
        connector=connector, cookie_jar=aiohttp.DummyCookieJar(), timeout=timeout
    ) as session:
        yield session


@pytest.fixture
async def person(site):
    return await db(site.person)


@pytest.fixture
def browser(http, web, person):
    return Browser(http, web, person)
