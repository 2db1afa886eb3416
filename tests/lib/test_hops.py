"""Q-34: one crowd's queue is not another's."""

import threading
from concurrent.futures import Future

import pytest

from lib import hops
from lib.errors import Unavailable
from lib.hops import Hops


class Gate:
    """Work that stands still until it is let go, and says who came through in which order."""

    def __init__(self, threads: int) -> None:
        self.hops, self.open = Hops(threads), threading.Event()
        self.began: list[str] = []

    def submit(self, who: str, name: str = "") -> "Future[str]":
        token = hops.crowd.set(who)
        try:
            return self.hops.submit(lambda: self._pass(name or who))
        finally:
            hops.crowd.reset(token)

    def _pass(self, name: str) -> str:
        self.began.append(name)
        assert self.open.wait(10)
        return name


def test_one_crowd_never_has_all_the_threads():
    gate = Gate(6)
    loud = [gate.submit("loud") for _ in range(50)]
    quiet = gate.submit("quiet")
    for _ in range(200):
        if quiet.running():
            break
        threading.Event().wait(0.01)

    assert quiet.running(), "it stood in line behind fifty others"
    assert sum(one.running() for one in loud) == 4
    gate.open.set()
    assert [one.result(10) for one in loud] == ["loud"] * 50


def test_who_waits_is_served_in_turn_one_of_each_crowd():
    gate = Gate(1)
    first = gate.submit("a", "a0")
    waiting = [gate.submit(who, f"{who}{number}") for who in "ab" for number in (1, 2, 3)] + [gate.submit("c", "c1")]
    gate.open.set()
    for one in [first, *waiting]:
        one.result(10)
    assert gate.began == ["a0", "a1", "b1", "c1", "a2", "b2", "a3", "b3"]


def test_only_the_crowd_that_fills_the_line_is_sent_away():
    gate = Gate(3)
    loud = [gate.submit("loud") for _ in range(2 + hops.MOST_WAITING)]

    with pytest.raises(Unavailable):
        gate.submit("loud")
    quiet = [gate.submit("quiet") for _ in range(20)]

    with pytest.raises(Unavailable):
        gate.submit("loud")
    gate.open.set()
    assert {one.result(10) for one in loud + quiet} == {"loud", "quiet"}
    assert gate.submit("loud").result(10) == "loud"


def test_an_error_reaches_who_asked_and_what_nobody_wants_any_more_is_not_done():
    gate = Gate(1)
    standing = gate.submit("a")
    unwanted = gate.submit("a", "unwanted")
    wrong = gate.hops.submit(lambda: 1 // 0)
    assert unwanted.cancel()
    gate.open.set()

    assert standing.result(10) == "a"
    with pytest.raises(ZeroDivisionError):
        wrong.result(10)
    assert gate.submit("a", "after").result(10) == "after"
    assert "unwanted" not in gate.began
