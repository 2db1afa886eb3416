"""A visitor becomes a member, at a real web process: many at once, in the middle of an answer, and when it dies."""

import asyncio
import contextlib
from datetime import timedelta

import aiohttp
from django.db.models import F
from django.http import HttpResponse

from accounts import brands, visitors
from accounts.models import Brand, IdempotencyRecord, Visitor
from conversations.engine import reaper
from conversations.models import Conversation, Message, PendingMessage, Turn
from lib.db import SERVICE, db, scope
from quotas.models import Bucket, UsageLog
from tests.conversations.rows import stored
from tests.server import CSRF, Browser, Person, eventually, said

FATAL = ("after_adoption", "after_claim", "after_pending_begun")  # the rest of a turn's life: test_crashes.py


def caps(brand, **allowed):
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(**allowed)
    brands.forget()


def count(queryset):
    with scope(SERVICE):
        return queryset.count()


async def first_question(http, web, brand, model, text="First?", cookie=""):
    """As a new private window sends it; the visitor's cookie and the chat's address."""
    nobody = Browser(http, web, Person(brand, None, f"csrftoken={CSRF}{cookie}", ""))
    form = {"text": text, "provider": str(model), "csrfmiddlewaretoken": CSRF}
    async with nobody.post("/c/send/", data=form) as response:
        await response.text()
        given = response.cookies.get(visitors.COOKIE)
        return response.status, given.value if given else "", response.headers.get("Location", "")


def at_the_limit(person):
    """A visitor with a chat and a message that waits, and the cookie that says so."""
    with scope(SERVICE):
        visitor = Visitor.objects.create(brand=person.brand)
        of_visitor = {"brand": person.brand, "owner_id": visitor.pk}
        chat = Conversation.objects.create(**of_visitor, owner_kind="visitor", visitor_id=visitor.pk, title="Chat")
        Message.objects.create(**of_visitor, conversation=chat, role="user", content="First?")
        PendingMessage.objects.create(
            **of_visitor, text="Second?", conversation_id=chat.pk, expires_at=chat.created_at + timedelta(days=7)
        )
    response = HttpResponse()
    visitors.remember(response, person.brand, visitor.pk)
    return chat, f"; {visitors.COOKIE}={response.cookies[visitors.COOKIE].value}"


def arriving(http, web, person, cookie):
    return Browser(http, web, Person(person.brand, person.user, person.cookies + cookie, ""))


async def test_windows_opened_at_once_get_no_more_than_the_network_may_ask(site, web, http):
    """S4: sixteen questions without a cookie, or with one that is made up, of which the network may ask five."""
    brand = await db(site.brand)
    await db(caps, brand, anonymous_per_network=5)

    cookies = ("", f"; {visitors.COOKIE}=0198c7d0000070008000000000000000:1abc:forged")
    asked = await asyncio.gather(
        *(first_question(http, web, brand, site.models["words"], cookie=cookies[number % 2]) for number in range(16))
    )

    assert sorted(status for status, _, _ in asked) == [303] * 5 + [402] * 11
    assert len({cookie for _, cookie, _ in asked}) == 16
    of_network = Bucket.objects.filter(brand=brand, account__kind="network", meter="queries")

    async def settled():
        return await db(count, of_network.filter(held=0, used=5))

    await eventually(settled)
    assert await db(count, PendingMessage.objects.filter(brand=brand)) == 11


async def test_whoever_comes_first_sends_it_and_all_land_in_the_same_chat(site, web, http, person):
    """Q-13: eight tabs arrive at once."""
    chat, cookie = await db(at_the_limit, person)
    browser = arriving(http, web, person, cookie)

    async def arrive():
        async with browser.get("/welcome/") as response:
            return response.status, response.headers["Location"]

    landed = await asyncio.gather(*(arrive() for _ in range(8)))

    assert set(landed) == {(302, f"/c/{chat.pk}/")}
    assert await db(count, Turn.objects.filter(brand=person.brand)) == 1
    assert await db(count, Message.objects.filter(brand=person.brand, role="user", owner_id=person.user.pk)) == 2


async def test_an_answer_goes_on_while_its_chat_goes_over_and_costs_the_member_nothing(site, web, http, person):
    """The turn was begun as a visitor's: its text comes to the member's chat, its bill stays where it was."""
    _, given, chat = await first_question(http, web, person.brand, site.models["brisk"])
    browser = arriving(http, web, person, f"; {visitors.COOKIE}={given}")

    async with browser.get("/welcome/") as response:
        assert response.headers["Location"] == chat
    (turn,) = await db(lambda: _rows(Turn.objects.filter(brand=person.brand)))
    seen = await browser.read(turn.pk)

    assert seen.text == said(40)
    ended, answer = await db(stored, turn.pk)
    assert (ended.status, ended.owner_id, answer.owner_id) == ("done", person.user.pk, person.user.pk)
    mine = Bucket.objects.filter(brand=person.brand, owner_id=person.user.pk, meter="queries", used__gt=0)
    assert await db(count, mine) == 0
    assert await db(count, UsageLog.objects.filter(brand=person.brand, owner_id=person.user.pk)) == 0
    stranger = Browser(http, web, Person(person.brand, None, f"csrftoken={CSRF}; {visitors.COOKIE}={given}", ""))
    for address in (chat, f"/turns/{turn.pk}/stream"):
        async with stranger.get(address) as response:
            assert response.headers["Location"].startswith("/account/login/"), address


def _rows(queryset):
    with scope(SERVICE):
        return list(queryset)


def _a_minute_later(person):
    """A claim whose process died is taken over then, and the reaper has given back what was never begun."""
    with scope(SERVICE):
        IdempotencyRecord.objects.filter(brand=person.brand).update(created_at=F("created_at") - timedelta(seconds=61))


async def test_a_process_that_dies_while_it_takes_somebody_over_sends_it_once(site, web, http, settings):
    """kill -9 at each boundary; who comes again lands in the chat, or finds the text in its composer, and sends it once."""
    settings.TURN_LOST_AFTER_S = 1.0

    async def dies(point):
        person = await db(site.person)
        chat, cookie = await db(at_the_limit, person)
        with await asyncio.to_thread(_serving, site, point) as doomed, contextlib.suppress(aiohttp.ClientError):
            async with arriving(http, doomed, person, cookie).get("/welcome/"):
                raise AssertionError(f"{point}: the process lives")
        again = arriving(http, web, person, cookie)
        async with again.get("/welcome/") as response:
            assert (response.status, response.headers["Location"]) == (302, f"/c/{chat.pk}/"), point
        asked = Message.objects.filter(brand=person.brand, role="user", content="Second?", owner_id=person.user.pk)
        if not await db(count, asked):  # nobody knows yet that the one who claimed it is dead
            async with Browser(http, web, person).get(f"/c/{chat.pk}/") as response:
                assert "Second?</textarea>" in await response.text(), point
            await db(_a_minute_later, person)
            async with again.get("/welcome/") as response:
                assert response.headers["Location"] == f"/c/{chat.pk}/", point
        assert await db(count, asked) == 1, point

        async def over():
            await db(reaper.reap)
            return not await db(count, Turn.objects.filter(brand=person.brand, status__in=("pending", "streaming")))

        await eventually(over, seconds=30, every=0.5)
        assert await db(count, PendingMessage.objects.filter(brand=person.brand, sent_at=None)) == 0, point

    await asyncio.gather(*(dies(point) for point in FATAL))


def _serving(site, point):
    """A process to be killed, started in a thread, so that several start at once."""
    stack = contextlib.ExitStack()
    doomed = stack.enter_context(site.serve(FAULT=point))

    @contextlib.contextmanager
    def served():
        with stack:
            yield doomed

    return served()
