"""GET /api/v1/realtime?topics=…: the one address for everything that can be listened to (docs/realtime.md).

Members and visitors in a browser, and programs with a key. A stream holds no connection and no thread: who is asking is found
in one hop, and what is told is read in one hop, as the listener, when there is something to tell.
"""

import asyncio
import random
import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any
from uuid import UUID

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import app_tokens
from accounts.access import View, asker_of, asking, declare, key_holder
from events.reading import Place
from events.realtime import standing, topics
from events.realtime.following import AGAIN_S, AWAY, follower, missed
from events.realtime.hub import RECONNECT_MS, News, Subscription, hub
from events.realtime.standing import Listener
from events.realtime.topics import Table, Topic
from lib.db import Principal, db, scope
from lib.errors import Forbidden, Invalid, NotAuthenticated, NotFound, WrongMethod
from lib.sse import EventStream, frame, retry

PLACE = re.compile(r"\d{1,18}(\.\d{1,18})*(_\d{1,18}(\.\d{1,18})*_\d{1,18})?", re.ASCII)
LONGEST_PLACE = 8000  # with hundreds of transactions that were open at that moment
USUAL_RETRY_MS = 2000
AT_ONCE = 50  # events that are told in one hop
NO_MORE = "There is nothing to hear of this (any more)."
SIGNED_OUT = "You may not listen here any more: sign in again, or use a key that is in force."


def door(*tables: Table) -> View:
    """A view for these tables."""

    async def listen(request: HttpRequest) -> HttpResponseBase:
        if request.method != "GET":
            raise WrongMethod("GET")
        hub.accept()
        place = _place(request.headers.get("Last-Event-ID") or request.GET.get("after", ""))
        listener, gone = await db(_arrive, request, tables)
        subscription = Subscription(listener)
        hub.add(subscription)
        return EventStream(_frames(subscription, tables, place, gone))

    return declare(listen, "api")


def _place(given: str) -> Place | None:
    if given and not (len(given) < LONGEST_PLACE and PLACE.fullmatch(given)):
        raise Invalid("Last-Event-ID must be the id of an event of this stream.")
    return Place.parse(given) if given else None


def _arrive(request: HttpRequest, tables: Sequence[Table]) -> tuple[Listener, list[str]]:
    """Who is asking, and what they may hear of what they asked for; names of topics of which there is nothing for them.

    Raises  NotFound when that is all they asked for
    """
    has_key = bool({"Authorization", "X-Api-Key"} & request.headers.keys())
    principal = key_holder(request, *{table.needs for table in tables}) if has_key else asker_of(request)
    with asking(principal), scope(principal):
        pass
    found: list[Topic] = []
    gone: list[str] = []
    for table, parent_id in topics.asked(tables, request.GET.get("topics", "")):
        if not principal.may(table.needs):
            raise Forbidden(f"This API key lacks the scope {table.needs}.")
        if principal.role == "app_visitor" and not table.is_for_visitors:
            raise NotAuthenticated(f"Sign in to listen to {table.name}.")
        try:
            found.append(Topic(table, _reader(request, table, principal, parent_id), parent_id))
        except NotFound:
            gone.append(f"{table.name}:{parent_id}")
    if not found:
        raise NotFound(NO_MORE)
    listener = Listener(principal, found, session=_session(request, principal))
    if standing.unwelcome([listener]):
        raise NotAuthenticated(SIGNED_OUT)
    return listener, gone


def _session(request: HttpRequest, principal: Principal) -> str:
    """The session that this credential lives no longer than; "" = it is a key, or a visitor's cookie."""
    if principal.role != "app_user" or principal.key_id:
        return ""
    authorization = request.headers.get("Authorization", "")
    return app_tokens.session_of(authorization) if authorization else request.session.session_key or ""


def _reader(request: HttpRequest, table: Table, principal: Principal, parent_id: UUID | None) -> Principal:
    return table.hears(request, principal, parent_id) if parent_id and table.hears else principal


async def _frames(
    subscription: Subscription, tables: Sequence[Table], place: Place | None, gone: Sequence[str]
) -> AsyncGenerator[bytes, None]:
    subscription.has_begun = True
    try:
        yield retry(USUAL_RETRY_MS)
        await follower.follow(tables)
        if place is not None:
            await _catch_up(subscription, tables, place)
        yield frame("ready", {"topics": _names(subscription)}, _here(subscription))
        for name in gone:
            yield _gone(name)
        async for frames in _as_it_comes(subscription):
            yield frames
    finally:
        hub.remove(subscription)


async def _as_it_comes(subscription: Subscription) -> AsyncGenerator[bytes, None]:
    while True:
        if subscription.is_unwelcome:
            yield frame("gone", {"detail": SIGNED_OUT})
            return
        if subscription.is_over:
            yield retry(random.randint(*RECONNECT_MS))  # noqa: S311 - spread, not secret
            return
        if subscription.is_behind:
            subscription.is_behind = False
            yield frame("reload", {"topics": _names(subscription)}, _here(subscription))
        elif subscription.news:
            some = [subscription.news.popleft() for _ in range(min(AT_ONCE, len(subscription.news)))]
            if frames := await _told(subscription, some):
                yield frames
        elif subscription.ended:
            yield _gone(subscription.ended.popleft().name)
            if not subscription.topics and not subscription.ended:
                return
        elif not await subscription.something():
            yield frame(id=_here(subscription))


async def _catch_up(subscription: Subscription, tables: Sequence[Table], place: Place) -> None:
    """Put what was missed before what comes; too much of it, or too long ago, and all must be read anew."""
    while not (subscription.is_over or subscription.is_unwelcome):
        try:
            found = await db(missed, place, subscription.listener, tables)
        except AWAY:
            await asyncio.sleep(AGAIN_S)
            continue
        if found is None:
            subscription.lose()
        else:
            subscription.resume(*found, tables)
        return


async def _told(subscription: Subscription, some: Sequence[News]) -> bytes:
    """Frames of these events, the rows as this listener sees them now. Waits for a database that is away."""
    while not subscription.is_unwelcome:
        try:
            found = await db(_read, some)
        except AWAY:
            await asyncio.sleep(AGAIN_S)
        except NotFound:  # no standing on the brand any more
            subscription.dismiss()
        else:
            return b"".join(
                frame("", found[news.event.pk] | {"topics": [one.name for one in news.topics]}, news.place)
                for news in some
                if news.event.pk in found
            )
    return b""


def _read(some: Sequence[News]) -> dict[UUID, Any]:
    """One scope for each role that this listener reads as."""
    found: dict[UUID, Any] = {}
    for role in {news.topics[0].principal.role for news in some}:
        mine = [news for news in some if news.topics[0].principal.role == role]
        found |= topics.told(mine[0].topics[0].principal, [(news.table, news.event) for news in mine])
    return found


def _here(subscription: Subscription) -> str:
    """The id to go on from when nothing waits to be told; "" while something does."""
    return "" if subscription.news or hub.place is None else str(subscription.after(hub.place))


def _names(subscription: Subscription) -> list[str]:
    return [topic.name for topic in subscription.topics.values()]


def _gone(name: str) -> bytes:
    return frame("gone", {"topic": name, "detail": NO_MORE})
