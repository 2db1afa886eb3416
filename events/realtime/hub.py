"""Those who listen at this process, found by what they listen to. Nothing here asks the database or waits.

What was not told yet is kept as ids of what happened, a bounded number of them for each listener: whoever reads too slowly,
or was away for too long, is told to read anew instead.
"""

import asyncio
import random
from collections import Counter, defaultdict, deque
from collections.abc import Iterable, Sequence
from typing import NamedTuple
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_lazy

from events.models import Event
from events.reading import Batch, Look, Place
from events.realtime.standing import Listener
from events.realtime.topics import Key, Table, Topic
from lib.errors import DomainError, Unavailable

KEEPALIVE_S = 15.0
UNHEARD_S = 30.0  # after that, whoever came and did not begin to read has gone
MOST_BEHIND = 500  # events that wait for one listener
KEYS_TOGETHER = 5  # times as many streams for all keys of a person, of whom each may make a hundred
RECONNECT_MS = (500, 5000)  # those whom a process sends away come back spread over this time


class TooManyStreams(DomainError):
    says = gettext_lazy(
        "Too many streams are open for you. Close one of them, or listen to several topics over one stream."
    )
    status, code = 429, "too_many_streams"


class News(NamedTuple):
    event: Event
    place: Place  # right behind it, for this listener
    topics: tuple[Topic, ...]

    @property
    def table(self) -> Table:
        return self.topics[0].table


class Subscription:
    """One open stream: what it has not been told yet, and how far it has come."""

    def __init__(self, listener: Listener) -> None:
        self.listener = listener
        self.topics: dict[Key, Topic] = {topic.key: topic for topic in listener.topics}
        self.news: deque[News] = deque()
        self.ended: deque[Topic] = deque()  # topics of which nothing more comes, to be told
        self.is_behind = False  # something was left out, so that all must be read anew
        self.is_over = False  # to go on at another process
        self.is_unwelcome = False
        self.seen: Look | None = None  # what it saw was told by resume(), or before
        self.has_begun = False
        self._loop = asyncio.get_running_loop()
        self.heard_at = self._loop.time()
        self._waiting: asyncio.Future[bool] | None = None

    @property
    def who(self) -> tuple[UUID, UUID, UUID | None]:
        who = self.listener.principal
        return who.brand_id, who.owner_id, who.key_id

    @property
    def person(self) -> UUID:
        return self.listener.principal.owner_id

    def put(self, news: News) -> None:
        if self.is_behind or self.is_unwelcome or (self.seen and _saw(self.seen, news.event)):
            return
        if len(self.news) == MOST_BEHIND:
            self.lose()
        else:
            self.news.append(news._replace(place=self.after(news.place)))
        self.wake()

    def resume(self, missed: Iterable[tuple[Event, Place]], seen: Look, tables: Sequence[Table]) -> None:
        """Tell first what was missed of what one look saw; what that look did not see comes, or has come, as news."""
        self.seen = seen
        later = [news._replace(place=self.after(news.place)) for news in self.news if not _saw(seen, news.event)]
        found = []
        for event, place in missed:
            for table in tables:
                if event.type in table.changes:
                    keys = [key for key in table.keys(event) if key in self.topics]
                    if keys:
                        found.append(News(event, place, tuple(self.topics[key] for key in keys)))
        self.news = deque([*found, *later])
        if len(self.news) > MOST_BEHIND:
            self.lose()

    def lose(self) -> None:
        """Something is left out, so what waits is no use either."""
        self.is_behind = True
        self.news.clear()
        self.wake()

    def end(self) -> None:
        """Send them away, to come anew."""
        self.is_over = True
        self.wake()

    def dismiss(self) -> None:
        """They may not listen any more, nor to what waits."""
        self.is_unwelcome = True
        self.news.clear()
        self.wake()

    def wake(self, *, is_news: bool = True) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(is_news)

    async def something(self) -> bool:
        """Wait until there is something to tell; False when a sign of life is due."""
        self.heard_at = self._loop.time()
        if self.news or self.ended or self.is_behind or self.is_over or self.is_unwelcome:
            return True
        self._waiting = self._loop.create_future()
        try:
            return await self._waiting
        finally:
            self._waiting = None

    def after(self, place: Place) -> Place:
        """A place of the process's own reading for this listener, to whom all that `seen` saw was told."""
        if self.seen is None or _rank(self.seen) <= _rank(place.since):
            return place
        if place.until is None or _rank(place.until) <= _rank(self.seen):
            return Place(self.seen)
        return place._replace(since=self.seen)


def _saw(look: Look, event: Event) -> bool:
    return event.xid < look.coming and event.xid not in look.running


def _rank(look: Look) -> tuple[int, int]:
    """A later look at the same database sees more."""
    return look.coming, -len(look.running)


class Hub:
    """All of a process."""

    def __init__(self) -> None:
        self.open: set[Subscription] = set()
        self.place: Place | None = None  # behind all that was handed out; None while nobody looks
        self._by_key: defaultdict[Key, set[Subscription]] = defaultdict(set)
        self._each = Counter[tuple[UUID, UUID, UUID | None]]()
        self._person = Counter[UUID]()  # on every brand
        self._is_draining = False

    def accept(self) -> None:
        """Refuse, while this process ends, what another one can do."""
        if self._is_draining:
            raise Unavailable("This server is restarting. Ask again in a moment.", retry_after=random.randint(1, 5))  # noqa: S311

    def add(self, subscription: Subscription) -> None:
        """Raises  TooManyStreams, Unavailable"""
        self.accept()
        each = settings.REALTIME_STREAMS["each"]
        if self._each[subscription.who] >= each or self._person[subscription.person] >= each * KEYS_TOGETHER:
            raise TooManyStreams(retry_after=30)
        if len(self.open) >= settings.REALTIME_STREAMS["process"]:
            raise Unavailable("Too many streams are open at this server. Ask again in a moment.", retry_after=10)
        self._each[subscription.who] += 1
        self._person[subscription.person] += 1
        self.open.add(subscription)
        for key in subscription.topics:
            self._by_key[key].add(subscription)

    def remove(self, subscription: Subscription) -> None:
        """A second time changes nothing."""
        if subscription in self.open:
            self.open.remove(subscription)
            self._each -= Counter([subscription.who])
            self._person -= Counter([subscription.person])
            for key in list(subscription.topics):
                self._forget(subscription, key)

    def end_topic(self, subscription: Subscription, key: Key) -> None:
        """Nothing more comes of it. A stream without topics is over."""
        topic = subscription.topics[key]
        self._forget(subscription, key)
        subscription.ended.append(topic)
        subscription.listener.topics.remove(topic)
        subscription.wake()

    def hand_out(self, batch: Batch, tables: Sequence[Table]) -> None:
        """Put news to whom they concern."""
        for event in batch.events:
            for table in tables:
                if event.type in table.changes:
                    self._tell(event, table, batch.at(event))
                if event.type in table.ends:
                    key = (event.brand_id, table.name, event.subject_id)
                    for subscription in list(self._by_key.get(key, ())):
                        self.end_topic(subscription, key)
        self.place = batch.place

    def let_go(self) -> None:
        """This process ends: everybody goes on elsewhere, and nobody comes."""
        self._is_draining = True
        for subscription in self.open:
            subscription.end()

    def look_after(self) -> None:
        """Once in a while: signs of life, and those who never began to read."""
        now = asyncio.get_running_loop().time()
        for subscription in list(self.open):
            silent_s = now - subscription.heard_at
            if not subscription.has_begun and silent_s > UNHEARD_S:
                self.remove(subscription)
            elif silent_s > KEEPALIVE_S:
                subscription.wake(is_news=False)

    def _tell(self, event: Event, table: Table, place: Place) -> None:
        concerned: dict[Subscription, list[Topic]] = {}
        for key in table.keys(event):
            for subscription in self._by_key.get(key, ()):
                concerned.setdefault(subscription, []).append(subscription.topics[key])
        for subscription, topics in concerned.items():
            subscription.put(News(event, place, tuple(topics)))

    def _forget(self, subscription: Subscription, key: Key) -> None:
        del subscription.topics[key]
        self._by_key[key].discard(subscription)
        if not self._by_key[key]:
            del self._by_key[key]


hub = Hub()
