"""The sender: one event loop that takes deliveries as their time comes and posts them, some hundred at once.

Any number of senders may run. Taking a delivery moves its time on, so nobody else takes it before this one must be dead;
then it is taken again, under the same id (W-16). An endpoint gets few at once, one while it fails, and a brand a bounded
share: who never answers keeps only their own deliveries waiting (W-08).
"""

import asyncio
import logging
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import UUID

import orjson
from django.conf import settings
from django.db import InterfaceError, OperationalError

from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import custom_headers, endpoints, outcomes, queueing, signing
from lib import clock, egress
from lib.db import SERVICE, db, scope, send
from lib.errors import Unavailable
from lib.sealed import CannotOpen
from lib.secret import Secret

AT_ONCE, OF_A_BRAND, OF_AN_ENDPOINT = 1000, 40, 4
IDLE_S, BUSY_S, AWAY_S = 0.5, 0.05, 2.0
GRACE_S = 3.0  # for what is under way when it is stopped; what is cut off then is sent again
NAME_THREADS = 64  # looking up a name blocks one, as long as a hostile name server likes
AWAY = (OperationalError, InterfaceError, Unavailable)
log = logging.getLogger(__name__)

TAKE = """
with recursive waiting as (
    (select webhook_id from events_webhookdelivery where status = 'pending' order by webhook_id limit 1)
    union all
    select (select d.webhook_id from events_webhookdelivery d where d.status = 'pending' and d.webhook_id > w.webhook_id
            order by d.webhook_id limit 1)
    from waiting w where w.webhook_id is not null
), busy as (
    select id, running from unnest(%(endpoints)s::uuid[], %(running)s::int[]) as b(id, running)
), may as (
    select w.id, w.brand_id,
           (case when w.failing_since is null then %(of_endpoint)s else 1 end) - coalesce(busy.running, 0) as room,
           %(of_brand)s - coalesce(sum(busy.running) over (partition by w.brand_id), 0) as room_of_brand
    from waiting join events_webhookendpoint w on w.id = waiting.webhook_id
    join accounts_brand b on b.id = w.brand_id left join busy on busy.id = w.id
    where w.is_active and b.is_active
), found as (
    select d.id, may.room_of_brand, row_number() over (partition by may.brand_id order by d.next_retry_at, d.id) as turn
    from may cross join lateral (
        select id, next_retry_at from events_webhookdelivery
        where webhook_id = may.id and status = 'pending' and next_retry_at <= now()
        order by next_retry_at, id limit greatest(may.room, 0) for update skip locked
    ) d
), taken as (
    select id from found where turn <= room_of_brand order by turn limit %(most)s
)
update events_webhookdelivery d
set next_retry_at = now() + %(lease)s::interval, attempt_count = d.attempt_count + 1
from taken where d.id = taken.id returning d.id
"""


def take(running: Counter[UUID], *, most: int) -> list[WebhookDelivery]:
    """Deliveries whose time has come, with their endpoints; nobody else takes them within the lease.

    running  how many this sender has under way, by endpoint
    """
    names = {
        "endpoints": list(running),
        "running": list(running.values()),
        "of_endpoint": OF_AN_ENDPOINT,
        "of_brand": OF_A_BRAND,
        "most": most,
        "lease": f"{settings.WEBHOOK_LIMITS['deadline_s'] * 2} seconds",
    }
    with scope(SERVICE):
        (rows,) = send((TAKE, names))
        if not rows:
            return []
        return list(WebhookDelivery.objects.filter(pk__in=[row.id for row in rows]).select_related("webhook"))


def request_of(delivery: WebhookDelivery, endpoint: WebhookEndpoint) -> tuple[bytes, dict[str, str]]:
    """Body and headers, signed now. Raises CannotOpen when the ring has lost its key."""
    now, body = clock.now(), orjson.dumps(delivery.event_data)
    secrets = [endpoint.secret, *(Secret(secret) for secret, _until in endpoints.replaced(endpoint, now))]
    return body, {
        **custom_headers.opened(endpoint.custom_headers),
        "Content-Type": "application/json",
        "User-Agent": egress.WEBHOOK_AGENT,
        **signing.headers(str(delivery.message_id), at=now, body=body, secrets=secrets),
    }


async def attempt(delivery: WebhookDelivery) -> outcomes.Outcome:
    """One POST. Whatever the receiver does, it ends with the deadline."""
    endpoint, began = delivery.webhook, time.monotonic()
    answer, excerpt = None, ""
    try:
        body, headers = request_of(delivery, endpoint)
        answer = await egress.post(
            endpoint.url, body=body, headers=headers, deadline_s=settings.WEBHOOK_LIMITS["deadline_s"]
        )
        excerpt = outcomes.excerpt(answer, [endpoint.secret, *custom_headers.opened(endpoint.custom_headers).values()])
    except egress.Unreachable:
        pass
    except CannotOpen:
        log.error("the secret of a webhook cannot be opened", extra={"reason": str(endpoint.pk)})
    ms = round((time.monotonic() - began) * 1000)
    return outcomes.Outcome(delivery, endpoint, answer, excerpt, ms)


class Sender:
    """Runs until stop()."""

    def __init__(self) -> None:
        self.running: Counter[UUID] = Counter()
        self.tasks: set[asyncio.Task[None]] = set()
        self.done: list[outcomes.Outcome] = []
        self._stopping = threading.Event()
        self._wake = asyncio.Event()

    def stop(self) -> None:
        """From any thread."""
        self._stopping.set()

    async def run(self) -> None:
        names = ThreadPoolExecutor(NAME_THREADS, "names")
        asyncio.get_running_loop().set_default_executor(names)
        while not self._stopping.is_set():
            pause_s = IDLE_S
            try:
                if await self.turn():
                    pause_s = 0
                elif self.tasks:
                    pause_s = BUSY_S
            except Exception:  # the database is away, or one statement fails: what is done is kept until it is written
                log.warning("webhooks wait", exc_info=True)
                pause_s = AWAY_S
            await self._rest(pause_s)
        if self.tasks:
            _, left = await asyncio.wait(self.tasks, timeout=GRACE_S)
            for task in left:
                task.cancel()
        await self._write_down()
        names.shutdown(wait=False, cancel_futures=True)

    async def _rest(self, pause_s: float) -> None:
        self._wake.clear()
        try:
            await asyncio.wait_for(self._wake.wait(), pause_s or 0.001)
        except TimeoutError:
            return
        await asyncio.sleep(BUSY_S)  # others that end now are written down with it

    async def turn(self) -> bool:
        """Queue, take, write down, once. True = there is more to do at once."""
        await self._write_down()
        queued, is_more = await db(queueing.queue_new, by_the_clock=True)
        room = AT_ONCE - len(self.tasks)
        taken = await db(take, Counter(self.running), most=room, by_the_clock=True) if room > 0 else []
        for delivery in taken:
            self.running[delivery.webhook_id] += 1
            task = asyncio.create_task(self._send(delivery))
            self.tasks.add(task)
            task.add_done_callback(self.tasks.discard)
        return bool(queued or is_more or taken)

    async def _send(self, delivery: WebhookDelivery) -> None:
        try:
            self.done.append(await attempt(delivery))
        except Exception:
            log.exception("a webhook could not be sent")  # its lease ends, and it is tried again
        finally:
            self.running[delivery.webhook_id] -= 1
            if not self.running[delivery.webhook_id]:
                del self.running[delivery.webhook_id]
            self._wake.set()

    async def _write_down(self) -> None:
        batch = self.done[:500]
        if not batch:
            return
        try:
            await db(outcomes.write_down, batch, by_the_clock=True)
        except AWAY:
            raise
        except Exception:
            log.exception("what came of webhooks could not be written down together")
            await self._write_each(batch)
        del self.done[: len(batch)]

    async def _write_each(self, batch: list[outcomes.Outcome]) -> None:
        """One that cannot be written must not keep the others from it: its lease ends, and it is tried again."""
        for one in batch:
            try:
                await db(outcomes.write_down, [one], by_the_clock=True)
            except AWAY:
                raise
            except Exception:
                log.exception(
                    "what came of a webhook could not be written down", extra={"reason": str(one.delivery.pk)}
                )


def in_a_thread() -> "tuple[Sender, threading.Thread]":
    """A sender of this process's own."""
    made: dict[str, Any] = {}
    ready = threading.Event()

    def work() -> None:
        async def main() -> None:
            made["sender"] = Sender()
            ready.set()
            await made["sender"].run()

        asyncio.run(main())

    thread = threading.Thread(target=work, name="webhooks", daemon=True)
    thread.start()
    ready.wait()
    return made["sender"], thread
