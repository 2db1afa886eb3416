"""O-12: the clock of one machine is ten minutes off. What counts, ends and sorts goes by the database's time."""

import asyncio
import contextlib
import os
import tempfile
from datetime import UTC, datetime, timedelta

import pytest
from django.db import connections

from conversations.engine import reaper
from conversations.models import Message, Turn
from lib import clock
from lib.db import SERVICE, db, scope
from quotas import ledger
from quotas.models import Bucket
from tests.conversations import rows
from tests.forked import Forked
from tests.server import Browser, eventually, said

OFF_S = 600


def database_now():
    with connections["service"].cursor() as cursor:
        cursor.execute("select clock_timestamp()")
        return cursor.fetchone()[0]


def reap_elsewhere(site, shift_s: float, how: str = "once") -> None:
    """As a worker on the machine with the odd clock does."""
    env = {
        "DJANGO_SETTINGS_MODULE": "tests.conversations.settings",
        "LIVE_DB": site.name,
        "CLOCK_SHIFT_S": str(shift_s),
    }
    with tempfile.NamedTemporaryFile("r") as log:
        worker = Forked("tests.conversations.reaping", how, env={**os.environ, **env}, log=log.name)
        assert worker.wait(60) == 0, log.read()


@pytest.mark.parametrize("shift_s", [OFF_S, -OFF_S])
async def test_a_window_does_not_open_again_where_the_clock_says_so(site, http, person, web, shift_s):
    """A month that began five minutes ago, or ends in five: the odd machine believes in the one before or after."""

    def one_question_a_month() -> None:
        edge = timedelta(minutes=5) if shift_s > 0 else -timedelta(minutes=5)
        ledger.entitle(
            person.brand,
            kind="user",
            owner_id=person.user.pk,
            grants=[ledger.Grant("queries", "month", 1)],
            anchor_at=database_now() + edge - timedelta(days=62),
        )

    await db(one_question_a_month)
    with site.serve(CLOCK_SHIFT_S=str(shift_s)) as odd:
        first = await Browser(http, odd, person).ask("One?", site.models["words"])
        await Browser(http, odd, person).read(first.turn_id)
        second = [await Browser(http, each, person).ask("Two?", site.models["words"]) for each in (odd, web)]

    assert first.status == 200
    assert [asked.status for asked in second] == [402, 402]

    def windows():
        with scope(SERVICE):
            mine = Bucket.objects.filter(owner_id=person.user.pk, meter="queries", window="month")
            return list(mine.values_list("opens_at", "closes_at"))

    ((opens_at, closes_at),) = await db(windows)
    assert opens_at <= await db(database_now) < closes_at


@pytest.mark.parametrize("shift_s", [OFF_S, -OFF_S])
async def test_the_reaper_ends_dead_turns_and_only_those_whoever_s_clock_is_off(site, http, person, settings, shift_s):
    """Q-10: a live turn of the odd machine lives, and a dead one is ended by an odd worker, with a sane duration."""
    settings.TURN_LOST_AFTER_S = 3.0
    with site.serve(CLOCK_SHIFT_S=str(shift_s)) as odd:
        browser = Browser(http, odd, person)
        asked = await browser.ask("Still there?", site.models["idle"])
        await db(reaper.reap)  # at once: before the first heartbeat, when only what begin() wrote stands there
        await asyncio.to_thread(reap_elsewhere, site, shift_s)
        await asyncio.to_thread(reap_elsewhere, site, -shift_s)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(browser.read(asked.turn_id), 3)
        turn, _ = await db(rows.stored, asked.turn_id)
        assert turn.status == "streaming"
        assert abs(turn.created_at - await db(database_now)) < timedelta(seconds=60)

    def grow_old() -> None:
        with scope(SERVICE):
            Turn.objects.filter(pk=asked.turn_id).update(heartbeat_at=database_now() - timedelta(seconds=16))

    await db(grow_old)
    await asyncio.to_thread(reap_elsewhere, site, shift_s, "until somebody was ended")
    turn, answer = await db(rows.stored, asked.turn_id)
    assert turn.status == "interrupted"
    assert 0 <= answer.response_time_ms < 60_000 + 30_000
    assert (await db(rows.charged, asked.turn_id))["queries"] == 1


async def test_a_chat_keeps_its_order_across_machines(site, http, person, web):
    """Ids sort by the database's time, so the question asked last stands last."""
    with site.serve(CLOCK_SHIFT_S=str(OFF_S)) as odd:
        first = await Browser(http, odd, person).ask("First?", site.models["words"])
        await Browser(http, odd, person).read(first.turn_id)
        browser = Browser(http, web, person)
        second = await browser.ask("Second?", site.models["words"], conversation_id=first.conversation_id)
        await browser.read(second.turn_id)

    def in_order():
        with scope(SERVICE):
            return list(
                Message.objects.filter(conversation_id=first.conversation_id)
                .order_by("id")
                .values_list("content", flat=True)
            )

    async def ended():
        return (await db(in_order))[-1] == said(20)

    await eventually(ended)
    assert await db(in_order) == ["First?", said(20), "Second?", said(20)]


@pytest.mark.django_db(transaction=True)
def test_the_clock_follows_the_database_and_says_how_far_off_this_machine_is(monkeypatch):
    monkeypatch.setattr(clock, "_known", None)
    monkeypatch.setattr("time.time_ns", lambda: int((datetime.now(UTC).timestamp() + OFF_S) * 1e9))
    assert abs(clock.now() - datetime.now(UTC)) > timedelta(seconds=OFF_S - 5), (
        "until it is told, it knows its own only"
    )

    connections["service"].close()
    now = database_now()

    assert abs(clock.now() - now) < timedelta(seconds=1)
    assert abs(clock.ahead_s() - OFF_S) < 1
