"""Stripe's news at real processes that die, with real log-ins: nothing is lost, nothing counts twice."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from statistics import quantiles

import pytest
from django.conf import settings as site
from django.db import connections

from billing import applying, webhooks
from billing.models import BillingTransaction, Customer, StripeEvent
from billing.standin.delivery import signed
from lib.db import SERVICE, close_all, scope
from quotas.models import Pack
from tests.billing import shop
from tests.server import Web, free_port

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("stripe"), pytest.mark.timeout(300)]
BURST = int(os.environ.get("STRIPE_BURST", "60"))


def environment(**more):
    return {
        "DJANGO_SETTINGS_MODULE": "tests.billing.settings",
        "LIVE_DB": connections["owner"].settings_dict["NAME"],
        **more,
    }


@pytest.fixture
def serve():
    """A web process on this test's database, at which a FAULT may be named."""
    running = []

    def start(**more):
        web = Web(environment(**more), free_port())
        running.append(web)
        web.wait_ready()
        return web

    yield start
    for web in running:
        web.kill()


def post(web, event):
    """Status of one delivery; 0 when the process died instead of answering."""
    body = json.dumps(event).encode()
    header = signed(body, site.STRIPE_WEBHOOK_SECRET, at=int(time.time()))
    headers = {"Stripe-Signature": header, "Content-Type": "application/json", "Host": "act.localhost"}
    try:
        with urllib.request.urlopen(
            urllib.request.Request(f"{web.url}/stripe/webhook/", body, headers), timeout=60
        ) as answer:
            return answer.status
    except urllib.error.HTTPError as refused:
        return refused.code
    except OSError:
        return 0


def act_and_die(event_id, fault):
    """Act on an event in a process of its own, which the fault kills. Returns its exit code."""
    code = (
        f"import django; django.setup(); from billing.tasks import apply_stripe_event; apply_stripe_event({event_id!r})"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=site.BASE_DIR, env={**os.environ, **environment(FAULT=fault)}, check=False
    )
    return done.returncode


def in_thread(work, *args):
    try:
        return work(*args)
    finally:
        close_all()


def counts(brand, user):
    with scope(SERVICE):
        mine = {"brand": brand, "owner_id": user.pk}
        return Pack.objects.filter(**mine).count(), BillingTransaction.objects.filter(**mine).count()


def purchase(world):
    """A pack that was paid for, and the news of it."""
    shop.buy(world.act, world.bob, shop.make_offer(world.act))
    return next(one for one in shop.news() if one["type"] == "checkout.session.completed")


def test_an_event_delivered_twenty_times_at_once_is_stored_once_and_acted_on_once(live_world, serve):
    """S-04."""
    told, web = purchase(live_world), serve()

    with ThreadPoolExecutor(20) as crowd:
        statuses = list(crowd.map(post, [web] * 20, [told] * 20))
    with ThreadPoolExecutor(8) as crowd:
        outcomes = list(crowd.map(in_thread, [applying.apply_event] * 20, [told["id"]] * 20))

    assert statuses == [200] * 20
    assert set(outcomes) == {"applied"}
    assert counts(live_world.act, live_world.bob) == (1, 1)
    with scope(SERVICE):
        assert StripeEvent.objects.count() == 1
        assert Customer.objects.get(owner_id=live_world.bob.pk).revision == 1


def test_what_was_stored_before_a_crash_is_acted_on_once_afterwards(live_world, serve):
    """S-09: kill -9 after the commit, after Stripe was asked, and before what follows is committed."""
    told = purchase(live_world)
    doomed = serve(FAULT="stripe.stored")

    assert post(doomed, told) == 0, "nobody is told 200 by a process that died"
    with scope(SERVICE):
        assert StripeEvent.objects.get().outcome == ""
    for fault in ("stripe.looked", "stripe.written"):
        assert act_and_die(told["id"], fault) == -9
        assert counts(live_world.act, live_world.bob) == (0, 0)
    assert post(serve(), told) == 200, "Stripe sends again what nobody took"

    assert applying.apply_waiting(untouched=timedelta(seconds=-1)) == 1
    assert applying.apply_waiting(untouched=timedelta(seconds=-1)) == 0
    assert counts(live_world.act, live_world.bob) == (1, 1)


def test_all_events_of_a_life_at_once_and_twice_end_where_stripe_says(live_world):
    """S-04, S-05: every event of a life, all at once and twice, on real connections."""
    world = live_world
    shop.subscribe(world.act, world.bob, "basic")
    shop.buy(world.act, world.bob, shop.make_offer(world.act), key="pack")
    told = [one for one in shop.news() if one["type"] in applying.ACTED_ON]

    for one in told:
        webhooks.store(one)
    with ThreadPoolExecutor(6) as crowd:
        outcomes = list(crowd.map(in_thread, [applying.apply_event] * len(told) * 2, [one["id"] for one in told] * 2))

    assert set(outcomes) == {"applied"}
    assert shop.subscription_of(world.act, world.bob).plan.code == "basic"
    assert counts(world.act, world.bob) == (1, 2)


def test_a_burst_is_taken_and_answered(live_world, serve, capsys):
    """S-15: the time is printed and decides nothing; `STRIPE_BURST=200` is the catalogue's size."""
    web = serve()
    blank = {"object": "event", "type": "product.updated", "livemode": False, "created": 1_790_000_000}
    burst = [{**blank, "id": f"evt_burst_{number}", "data": {"object": {"id": "prod_1"}}} for number in range(BURST)]

    def timed(event):
        began = time.monotonic()
        return post(web, event), time.monotonic() - began

    with ThreadPoolExecutor(20) as crowd:
        answers = list(crowd.map(timed, burst))

    with capsys.disabled():
        p95 = quantiles((seconds for _, seconds in answers), n=20)[-1]
        print(f"\nburst of {BURST} Stripe events: p95 {p95 * 1000:.0f} ms")
    assert {status for status, _ in answers} == {200}
    with scope(SERVICE):
        assert StripeEvent.objects.count() == BURST
