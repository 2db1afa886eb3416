"""/settings/keys/ at a real process: what is stored, what is refused, and that a key is never to be seen again (A-16)."""

import asyncio
import json
import os

import pytest
import redis
from django.db import connections
from django.test import Client

from lib.db import SERVICE, db, scope
from providers import key_checks
from providers.models import ProviderKey
from tests import factories
from tests.conversations.own import allow, give, row
from tests.conversations.rows import stored
from tests.server import CSRF, Browser

PAGE, CHANGE = "/settings/keys/", "/settings/keys/change/"
# Nothing of ours looks for this shape: what leaves it out leaves out every key.
CANARY = "CANARY4c1f9e7a2b0d77e5"
MIDDLE = "4c1f9e7a2b"


@pytest.fixture(scope="module")
def own(_running, django_db_blocker):
    """A process that says everything it can say."""
    site, _ = _running
    with django_db_blocker.unblock(), site.database(), site.serve(LOG_LEVEL="DEBUG", ACCESS_LOG="1") as web:
        yield web


@pytest.fixture
def web(own):
    return own


@pytest.fixture
async def holder(person, site):
    await db(allow, person)
    return person


@pytest.fixture
def browser(http, web, holder):
    return Browser(http, web, holder)


async def change(browser, do, vendor="openai", **fields):
    """The status, and the page that it leads to."""
    form = {"do": do, "vendor": vendor, "csrfmiddlewaretoken": CSRF, **fields}
    async with browser.post(CHANGE, data=form) as response:
        status, body = response.status, await response.text()
    if status == 303:
        async with browser.get(PAGE) as response:
            body = await response.text()
    return status, body


async def test_a_key_is_checked_stored_and_shown_by_its_end_only(site, browser, holder):
    async with browser.get(PAGE) as response:
        assert "Add your key at OpenAI" in await response.text()

    status, body = await change(browser, "store", key="sk-own-good-4321")

    assert status == 303
    assert "Key ending in <code>4321</code>" in body
    assert "sk-own-good" not in body
    assert [call["key"] for call in site.upstream.calls()] == ["sk-own-good-4321"]
    kept = await db(row, holder)
    assert (kept.status, kept.is_used, kept.secret.reveal()) == ("valid", True, "sk-own-good-4321")


async def test_a_key_that_its_vendor_refuses_is_not_stored(site, browser, holder):
    status, body = await change(browser, "store", key="sk-bad-own-4c1f9e7a2b")

    assert status == 422
    assert "OpenAI does not take this key, so it was not stored. It says: Incorrect API key" in body
    assert MIDDLE not in body
    assert await db(row, holder) is None


@pytest.mark.parametrize("key", ["sk-down-own-4c1f9e7a2b", "sk-busy-own-4c1f9e7a2b"])
async def test_a_key_that_could_not_be_checked_is_stored_only_if_one_says_so(site, browser, holder, key):
    status, body = await change(browser, "store", key=key)
    assert status == 422
    assert "Store it, even if it cannot be checked now" in body
    assert MIDDLE not in body
    assert await db(row, holder) is None

    status, body = await change(browser, "store", key=key, unchecked="on")
    assert status == 303
    assert "Not checked" in body
    assert (await db(row, holder)).status == "unchecked"


async def test_two_tabs_at_once_leave_one_key(site, browser, holder):
    answers = await asyncio.gather(*(change(browser, "store", key=f"sk-own-good-{n:04d}") for n in range(4)))

    assert {status for status, _ in answers} == {303}
    kept = await db(row, holder)
    assert kept.secret.reveal()[-4:] == kept.last_four


async def test_a_key_is_replaced_checked_again_switched_and_deleted(site, browser, holder):
    await change(browser, "store", key="sk-own-good-1111")
    await change(browser, "store", key="sk-own-good-2222")
    assert (await db(row, holder)).secret.reveal() == "sk-own-good-2222"

    site.upstream.revoke("sk-own-good-2222")
    status, body = await change(browser, "check")
    assert (status, "OpenAI refused this key, so its models are not asked." in body) == (303, True)
    assert (await db(row, holder)).status == "invalid"

    _, body = await change(browser, "off")
    assert "Switched off" in body
    assert (await db(row, holder)).is_used is False
    _, body = await change(browser, "on")
    assert "Switched off" not in body

    for _ in range(2):  # a double click
        status, body = await change(browser, "delete")
        assert status == 303
    assert "Add your key at OpenAI" in body
    assert await db(row, holder) is None
    status, _ = await change(browser, "check")
    assert status == 404


async def test_who_may_not_have_one_sends_it_to_nobody(site, browser, holder):
    await db(allow, holder, byok=False)

    status, body = await change(browser, "store", key="sk-own-good-4c1f9e7a2b")

    assert status == 403
    assert "Your plan does not include keys of your own" in body
    assert MIDDLE not in body
    assert site.upstream.calls() == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [({"do": "store", "key": ""}, 400), ({"do": "store", "key": "x" * 2000}, 400), ({"do": "nothing"}, 400),
     ({"do": "store", "vendor": "nobody", "key": "sk-own-good-4c1f9e7a2b"}, 400),
     ({"do": "store", "key": "sk-ant-own-4c1f9e7a2b"}, 400), ({"do": "store", "key": "sk-öwn-4c1f9e7a2b"}, 400),
     ({"do": "on"}, 404), ({"do": "check", "vendor": "anthropic"}, 404)],
)  # fmt: skip
async def test_nonsense_is_refused_in_words_and_sent_to_nobody(site, browser, holder, fields, status):
    told, body = await change(browser, **{"vendor": "openai", **fields})

    assert told == status
    assert MIDDLE not in body
    assert site.upstream.calls() == []
    assert await db(row, holder) is None


async def test_nobody_finds_out_here_which_of_many_keys_works(site, browser, holder):
    answers = [await change(browser, "store", key=f"sk-bad-own-{n:08d}") for n in range(key_checks.PER_MINUTE * 2 + 1)]

    statuses = [status for status, _ in answers]
    assert 429 in statuses
    assert len(site.upstream.calls()) <= key_checks.PER_MINUTE * 2  # a minute may have turned meanwhile


async def test_one_members_key_is_nobody_elses(site, http, web, browser, holder):
    await change(browser, "store", key="sk-own-good-4321")
    other = await db(site.person, holder.brand)
    await db(allow, other)

    async with Browser(http, web, other).get(PAGE) as response:
        assert "ending in <code>4321<" not in await response.text()
    assert (await change(Browser(http, web, other), "delete"))[0] == 303
    assert await db(row, holder) is not None


# The canary


def admin_pages(person):
    """What staff see of a key, and of the log of what its member did."""
    staff = factories.make_user(f"staff-{person.user.pk}@example.com", is_staff=True, is_superuser=True)
    client = Client(SERVER_NAME=person.brand.domain)
    client.force_login(staff, backend="django.contrib.auth.backends.ModelBackend")
    key = row(person)
    paths = [
        "/admin/providers/providerkey/",
        f"/admin/providers/providerkey/{key.pk}/change/",
        "/admin/events/activity/",
    ]
    pages = [client.get(path) for path in [*paths, f"/admin/providers/providerkey/{key.pk}/history/"]]
    assert {page.status_code for page in pages} == {200}
    return [page.content.decode() for page in pages]


def whole_database():
    """Every row of every table as text; bytes as hexadecimal digits."""
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute("select quote_ident(tablename) from pg_tables where schemaname = 'public'")
        for (table,) in cursor.fetchall():
            cursor.execute(f"select t::text from {table} t")
            for (line,) in cursor.fetchall():
                yield table, line


def whole_redis():
    with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
        for name in client.scan_iter(count=1000):
            yield repr(name) + repr(client.dump(name))


async def test_a_canary_in_a_members_key_is_found_nowhere_but_at_its_vendor(site, browser, holder, web):
    """A-16: saved, checked, asked with, refused, looked at by staff, and told in errors."""
    said = []
    for do, fields in [("store", {"key": CANARY}), ("check", {}), ("off", {}), ("on", {})]:
        said += [(await change(browser, do, **fields))[1]]
    said += [(await change(browser, "store", vendor="nobody", key=CANARY))[1]]
    for _ in range(2):  # answered, and then refused while it is asked
        found = await browser.ask("Hello?", model=site.models["words"])
        seen = await browser.read(found.turn_id)
        said += [found.body, seen.text, seen.done, seen.gone, repr(await db(stored, found.turn_id))]
        site.upstream.revoke(CANARY)
    said += [(await browser.ask("Hello?", model=site.models["words"])).body]
    async with browser.get(f"/c/{found.conversation_id}/") as response:
        said += [await response.text()]
    async with browser.session.post(
        f"{web.url}/v1/chat/completions",
        json={"model": "words", "messages": [{"role": "user", "content": "Hello?"}]},
        headers={"Authorization": f"Bearer {holder.key}"},
    ) as response:
        assert response.status == 403
        said += [await response.text(), json.dumps(dict(response.headers))]
    for path in (PAGE, "/c/", "/nowhere/"):
        async with browser.get(path) as response:
            said += [await response.text(), repr(response.headers)]
    said += await db(admin_pages, holder)
    assert (await db(row, holder)).status == "invalid"

    assert any(call.get("key") == CANARY for call in site.upstream.calls())
    shown = [text for text in said if MIDDLE in text]
    assert shown == []
    assert MIDDLE not in web.logged()
    assert "Traceback" not in web.logged()
    hexed = CANARY.encode().hex()[4:-4]
    assert [table for table, line in await db(lambda: list(whole_database())) if MIDDLE in line or hexed in line] == []
    assert [entry for entry in whole_redis() if MIDDLE in entry] == []


def test_the_dump_would_have_found_it(site):
    """The canary's cage has no hole: a key that stood somewhere open would be seen."""
    person = site.person()
    allow(person)
    give(person, "sk-own-good-1234")
    with scope(SERVICE):
        ProviderKey.objects.filter(owner_id=person.user.pk).update(vendor_message=CANARY)
    assert [table for table, line in whole_database() if MIDDLE in line] == ["providers_providerkey"]
    with scope(SERVICE):
        ProviderKey.objects.filter(owner_id=person.user.pk).update(vendor_message="")
