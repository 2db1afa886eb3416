"""When a model is left alone and for how long: the clock is the test's."""

import contextlib

import pytest

from lib.secret import Secret
from providers import breaker
from providers.errors import Busy, CutOff, Down, KeyRefused, Rejected, Resting, TimedOut
from tests.providers.conftest import KEY

ME = ("openai", "https://one.example", "big", KEY)
SIBLING = ("openai", "https://one.example", "small", KEY)
OTHER_KEY = ("openai", "https://one.example", "big", Secret("sk-somebody-else"))
ELSEWHERE = ("openai", "https://two.example", "big", KEY)
BAD = Down(vendor_status=500)
UNREACHABLE = Down()


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


@pytest.fixture(autouse=True)
def clock(settings, monkeypatch):
    settings.PROVIDER_BREAKER = {
        "failures": 3,
        "window_s": 60.0,
        "rest_s": 10.0,
        "longest_rest_s": 35.0,
        "longest_busy_s": 100.0,
    }
    clock = Clock()
    monkeypatch.setattr(breaker, "clock", clock)
    breaker.forget()
    yield clock
    breaker.forget()


def call(name=ME, error=None):
    """One call that ends with `error`, or answers."""
    with contextlib.ExitStack() as stack:
        attempt = stack.enter_context(breaker.Attempt(*name))
        if error is None:
            attempt.answered()
        else:
            stack.pop_all()
            attempt.__exit__(type(error), error, None)


def is_asked(name=ME):
    return breaker.resting(*name) is None


@pytest.mark.parametrize("error", [BAD, TimedOut("first token"), CutOff()])
def test_so_many_failures_in_a_row_and_the_model_rests_alone(clock, error):
    for _ in range(2):
        call(error=error)
    assert is_asked()
    call(error=error)

    assert not is_asked()
    assert all(is_asked(name) for name in (SIBLING, OTHER_KEY, ELSEWHERE))
    with pytest.raises(Resting) as refused:
        call()
    assert refused.value.retry_after == 10
    clock.now += 10
    assert is_asked()


def test_the_silence_of_a_model_that_was_told_to_think_says_nothing():
    for error in [TimedOut("first token")] * 10 + [BAD, BAD]:
        with contextlib.suppress(TimedOut, Down), breaker.Attempt(*ME, thinks=True):
            raise error
    assert is_asked()
    call(error=BAD)

    assert not is_asked()


@pytest.mark.parametrize("error", [UNREACHABLE, TimedOut("connect")])
def test_an_address_that_is_not_reached_rests_with_all_its_models(error):
    for name in (ME, SIBLING, OTHER_KEY):
        call(name, error)

    assert not any(is_asked(name) for name in (ME, SIBLING, OTHER_KEY))
    assert is_asked(ELSEWHERE)


def test_an_answer_in_between_or_a_long_time_forgets_what_failed(clock):
    for _ in range(5):
        call(error=BAD)
        call(error=BAD)
        call()
    for _ in range(5):
        call(error=BAD)
        clock.now += 31

    assert is_asked()


@pytest.mark.parametrize("error", [Rejected(vendor_status=400), KeyRefused(vendor_status=401)])
def test_a_refusal_is_an_answer(error):
    for _ in range(10):
        call(error=error)
    assert is_asked()
    call(error=BAD)
    call(error=BAD)
    call(error=error)
    call(error=BAD)

    assert is_asked()


def test_one_probe_at_a_time_and_what_comes_of_it(clock):
    for _ in range(3):
        call(error=BAD)
    clock.now += 10
    with breaker.Attempt(*ME), pytest.raises(Resting):  # while the probe is out
        call()
    with pytest.raises(RuntimeError), breaker.Attempt(*ME):
        raise RuntimeError  # the person left: no news, the next one may try
    assert is_asked()

    waits = []
    for _ in range(4):
        call(error=BAD)
        waits.append(breaker.resting(*ME).wait_s())
        clock.now += waits[-1]
    assert waits == [20, 35, 35, 35]

    call()
    assert is_asked()
    call(error=BAD)
    assert is_asked()  # all is forgotten


def test_nobody_waits_for_a_model_that_was_told_to_think(clock):
    """Its silence is allowed for minutes: as the probe it would keep a vendor closed that is well again."""
    for _ in range(3):
        call(error=BAD)
    clock.now += 10
    with breaker.Attempt(*ME, thinks=True):
        assert is_asked()
        with breaker.Attempt(*ME):
            assert not is_asked()  # that one is the probe
    with contextlib.suppress(Down), breaker.Attempt(*ME, thinks=True):
        raise BAD

    assert breaker.resting(*ME).wait_s() == 20  # what it hears counts as ever


def test_what_went_out_before_the_rest_says_nothing_new(clock):
    """A hundred calls that hang end at one moment: that is one trouble, not a hundred."""
    attempts = [breaker.Attempt(*ME) for _ in range(100)]
    for attempt in attempts:
        attempt.__enter__()
    for attempt in attempts:
        attempt.__exit__(TimedOut, TimedOut("first token"), None)

    assert breaker.resting(*ME).wait_s() == 10


def test_busy_waits_as_long_as_it_said_within_reason(clock):
    call(error=Busy(retry_after=7))
    assert breaker.resting(*ME).wait_s() == 7
    assert breaker.states() == {"resting": 0, "busy": 1}
    with pytest.raises(Busy) as refused:
        call()
    assert refused.value.retry_after == 7
    clock.now += 7
    call(error=Busy())  # does not say
    assert is_asked()
    call(error=Busy(retry_after=86_400))

    assert breaker.resting(*ME).wait_s() == 100
    assert all(is_asked(name) for name in (SIBLING, OTHER_KEY))


def test_a_failure_after_the_first_piece_is_the_answers_own_affair():
    for _ in range(5):
        attempt = breaker.Attempt(*ME)
        attempt.__enter__()
        attempt.answered()
        attempt.__exit__(CutOff, CutOff(), None)

    assert is_asked()
