"""Work in the background, with a real worker, beat and queue that die. O-02, O-13."""

import json
import os
import socket
import tempfile
import time
from pathlib import Path

import pytest
from celery import current_app
from django.core.cache import cache
from django.db import connections
from kombu.exceptions import OperationalError

from chatsite.embedded.valkey import Valkey
from conversations.tasks import reap_turns
from events import mail, postman
from events.models import Alarm, DeadLetter, EmailLog
from lib.db import SERVICE, scope
from lib.logs import request_id
from tests import factories
from tests.forked import Forked
from tests.house import doomed

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.xdist_group("worker"), pytest.mark.timeout(240)]


class Worker:
    """A worker with beat, as `make run` starts it, on this test's database and queue; impatient where production waits."""

    def __init__(self, folder: Path, url: str, *options: str) -> None:
        self.log = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - for as long as the process
        env = {
            "DJANGO_SETTINGS_MODULE": "tests.house.settings",
            "LIVE_DB": connections["owner"].settings_dict["NAME"],
            "REDIS_URL": url,
            "DONE_DIR": str(folder),
            "LOG_JSON": "1",
        }
        command = ["-A", "chatsite", "worker", "-P", "threads", "-c", "2", "--without-gossip", "--without-mingle"]
        include = ["-I", "tests.house.doomed", *options]
        self.process = Forked(
            "celery", "--quiet", *command, *include, env={**os.environ, **env}, log=self.log.name, own_group=True
        )

    def lines(self) -> list[dict]:
        self.log.seek(0)
        return [json.loads(line) for line in self.log.read().splitlines() if line.startswith("{")]

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()


@pytest.fixture
def valkey(tmp_path):
    server = Valkey(tmp_path / "valkey")
    server.start()
    yield server
    server.stop()


@pytest.fixture
def queue(valkey, settings, tmp_path, monkeypatch):
    """This process queues for real, on a queue of its own."""
    monkeypatch.setattr(doomed, "DONE", tmp_path)
    app = current_app._get_current_object()
    before = {name: getattr(app.conf, name) for name in ("broker_url", "broker_write_url", "task_always_eager")}
    app.conf.update(broker_url=valkey.url(), broker_write_url=valkey.url(), task_always_eager=False)
    app.set_default()
    _forget_pools(app)
    yield app
    app.conf.update(before)
    _forget_pools(app)


def _forget_pools(app) -> None:
    app._pool = app.amqp._producer_pool = None


@pytest.fixture
def start(valkey, tmp_path):
    workers = []

    def start(*options):
        workers.append(Worker(tmp_path, valkey.url(), *options))
        return workers[-1]

    yield start
    for worker in workers:
        worker.process.kill_group()


def wait(claim, worker, seconds=60):
    until = time.monotonic() + seconds
    while not (found := claim()):
        assert time.monotonic() < until, worker.said()[-5000:]
        time.sleep(0.1)
    return found


def runs(folder, name):
    path = folder / name
    return path.read_text().splitlines() if path.exists() else []


def letters():
    with scope(SERVICE):
        return list(DeadLetter.objects.order_by("created_at"))


def test_poison_is_retried_and_laid_down_while_others_flow_and_a_lost_worker_s_task_comes_back(queue, start, tmp_path):
    """O-13: capped retries with growing pauses, a dead letter, one id throughout; nothing secret in the lines (A-16)."""
    request_id.set("request-4711")
    doomed.poison.delay("poison")
    doomed.slow.delay("slow")
    request_id.set("")
    first = start()
    wait(lambda: runs(tmp_path, "slow"), first)
    first.process.kill_group()  # in the middle of it, and perhaps of the poison

    second = start()
    for number in range(20):
        doomed.fine.delay(f"fine-{number}")
    wait(lambda: all(runs(tmp_path, f"fine-{number}") for number in range(20)), second)
    wait(lambda: runs(tmp_path, "slow.ended"), second)
    (letter,) = wait(letters, second)

    tries = runs(tmp_path, "poison")
    assert 1 + 2 <= len(tries) <= 2 * (1 + 2)  # two repeats (tests.house.settings); again what the first worker had
    assert set(tries) == {"request-4711"} == set(runs(tmp_path, "slow"))
    assert (letter.task, letter.args, letter.reason) == ("tests.house.doomed.poison", ["poison"], "failed")
    assert letter.request_id == "request-4711"
    assert "canary0123" not in second.said() + letter.error
    told = [line for line in second.lines() if line.get("request_id") == "request-4711"]
    assert {"task", "dead letter"} <= {line["event"] for line in told}


def test_a_task_that_kills_each_worker_is_laid_down(queue, start, tmp_path):
    """O-13: when two workers have died of it (production: three), the next one lays it down unread."""
    doomed.murder.delay("murder")
    deaths = 0
    worker = start()
    while not (laid := letters()):
        if worker.process.poll() is not None:
            deaths += 1
            assert deaths < 6, worker.said()[-3000:]
            worker = start()
        time.sleep(0.1)

    assert [(letter.task, letter.reason) for letter in laid] == [("tests.house.doomed.murder", "killed")]
    assert len(runs(tmp_path, "murder")) == deaths == 2
    doomed.fine.delay("fine")
    wait(lambda: runs(tmp_path, "fine"), worker)


def test_a_mail_with_its_link_reaches_the_worker_and_leaves_no_trace_of_the_link(queue, start, valkey, settings):
    """Written here, sent there: the order by the row, the link by Redis, as in production."""
    redis = {"BACKEND": "lib.cache.RedisElseMemory", "LOCATION": valkey.url(), "KEY_PREFIX": "chatsite"}
    settings.CACHES = {"default": redis}
    link = {"password_reset_url": "http://act.localhost/canary0123"}
    brand = factories.make_brand("act")
    row = mail.send(brand.pk, "dora@example.com", "account/email/password_reset_key", {}, secrets=link)
    assert cache.get(postman.secrets_of(row.pk)) == link

    def fate():
        with scope(SERVICE):
            return EmailLog.objects.exclude(status="queued").values_list("status", "error").first()

    worker = start()

    assert wait(fate, worker) == ("sent", "")
    assert wait(lambda: cache.get(postman.secrets_of(row.pk)) is None, worker)
    assert "canary0123" not in worker.said()
    assert not letters()


def test_a_count_of_deliveries_that_redis_lost_in_between_stops_no_task(settings, tmp_path, monkeypatch):
    """O-02: it is one, as far as anybody knows"""
    monkeypatch.setattr(doomed, "DONE", tmp_path)
    settings.CACHES = {"default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"}}  # add() keeps nothing
    doomed.fine.push_request(id="again", called_directly=False, is_eager=False, delivery_info={"redelivered": True})
    try:
        doomed.fine("again")
    finally:
        doomed.fine.pop_request()
    assert runs(tmp_path, "again")


def test_a_queue_that_is_away_delays_nobody_and_loses_nothing(queue, start, valkey, tmp_path, settings):
    """O-02: what is queued meanwhile is kept and sent later; worker and beat come back by themselves."""
    worker = start("-B", "-s", str(tmp_path / "beat"))

    def looked_at():
        with scope(SERVICE):
            found = Alarm.objects.filter(pk="queue_backlog").first()
            return found and found.checked_at

    before = wait(looked_at, worker)
    valkey.stop()
    began = time.monotonic()
    assert doomed.fine.delay("late") is None
    assert time.monotonic() - began < 20  # not hung; what it takes is bounded by settings
    assert [(letter.task, letter.reason) for letter in letters()] == [("tests.house.doomed.fine", "unsent")]
    valkey.start()

    wait(lambda: runs(tmp_path, "late"), worker)  # the worker's own look around sent it
    wait(lambda: looked_at() > before, worker)
    assert worker.process.poll() is None
    assert [letter.sent_again_at is not None for letter in letters()] == [True]


@pytest.mark.parametrize("broker", ["refuses", "hangs"])
def test_a_broker_that_does_not_answer_hangs_no_request(queue, broker, settings):
    """O-02: a port where nothing listens, and one that takes the connection and then says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if broker == "refuses":
            listener.close()
        queue.conf.update(broker_url=f"redis://127.0.0.1:{port}/0", broker_write_url=f"redis://127.0.0.1:{port}/0")
        _forget_pools(queue)
        began = time.monotonic()
        assert doomed.fine.delay("unsent") is None
        took = time.monotonic() - began

    assert took < 30  # far from the timings that Celery has of its own, which is for ever
    assert [letter.reason for letter in letters()] == ["unsent"]
    with pytest.raises(OperationalError):
        reap_turns.apply_async()  # beat's: the next tick is its repeat
