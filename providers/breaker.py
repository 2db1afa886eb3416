"""Leaves alone what does not answer, so that nobody waits for it and nothing is held for it.

What fails together rests together. A call that reached nobody counts against the address, with all its models; one that
was answered badly or not in time counts against that model with that key alone: vendors lose single models far more often
than all at once, and what an own key is refused is nobody else's affair. Only the time before the first sign of life
counts, and not the silence of a model that was told to think: a member may tell it, and it rests for every brand.

In the memory of the process: asking costs two look-ups, and no process believes another's trouble to be its own.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from django.conf import settings
from django.utils.translation import gettext as _

from lib.secret import Secret
from providers.errors import Busy, Down, KeyRefused, ProviderError, Rejected, Resting, TimedOut, seconds
from providers.shapes import OwnKey

MOST_KNOWN = 10_000  # ways in trouble; each own key that fails is one
PROBE_S = 2.0  # when somebody is trying already, ask again after this

clock: Callable[[], float] = time.monotonic


@dataclass(frozen=True, slots=True)
class Rules:
    """settings.PROVIDER_BREAKER.

    failures        so many in a row, none older than window_s, and the rest begins
    rest_s          the first rest; each probe that fails doubles it, up to longest_rest_s
    longest_busy_s  of what a vendor's Retry-After may ask for
    """

    failures: int
    window_s: float
    rest_s: float
    longest_rest_s: float
    longest_busy_s: float


@dataclass(slots=True)
class Rest:
    """The trouble of one address or model; there is none of what is well.

    open until `until`; then one probe goes out, and the others wait for what comes of it
    """

    failed_at: deque[float] = field(default_factory=deque)
    rests: int = 0  # in a row
    until: float = 0.0
    is_busy: bool = False  # it told us itself when to come back
    is_probed: bool = False

    def wait_s(self) -> float:
        """Seconds until a call may go out; 0 = now."""
        left = self.until - clock()
        return left if left > 0 else PROBE_S if self.is_probed else 0.0

    def failed(self, rules: Rules) -> None:
        now = clock()
        if self.until > now:
            return  # it went out before the rest began, and says nothing new
        self.failed_at.append(now)
        while len(self.failed_at) > rules.failures or self.failed_at[0] < now - rules.window_s:
            self.failed_at.popleft()
        if self.rests or len(self.failed_at) == rules.failures:
            self.until = now + min(rules.rest_s * 2**self.rests, rules.longest_rest_s)
            self.rests = min(self.rests + 1, 16)


_resting: dict[Hashable, Rest] = {}


def _ways(protocol: str, base_url: str, model: str, key: Secret | None) -> tuple[Hashable, Hashable]:
    whose = key.mark if isinstance(key, OwnKey) else key  # what is remembered of a member's own key is not the key
    return (protocol, base_url), (protocol, base_url, model, whose)


def _trouble(way: Hashable) -> Rest:
    """The trouble of this way, to be added to. What has long been quiet leaves when there is too much of it."""
    if len(_resting) >= MOST_KNOWN and way not in _resting:
        for known, rest in list(_resting.items()):
            if rest.wait_s() <= 0:
                del _resting[known]
    return _resting.setdefault(way, Rest())


def is_any_trouble() -> bool:
    return bool(_resting)


def resting(protocol: str, base_url: str, model: str, key: Secret | None) -> Rest | None:
    """What keeps a call to this model from going out now, if anything does."""
    found = [rest for way in _ways(protocol, base_url, model, key) if (rest := _resting.get(way))]
    longest = max(found, key=Rest.wait_s, default=None)
    return longest if longest is not None and longest.wait_s() > 0 else None


def refusal(rest: Rest) -> ProviderError:
    wait_s = float(max(1, math.ceil(rest.wait_s())))
    kind: type[ProviderError]
    if rest.is_busy:
        kind, said = (
            Busy,
            _(
                "The provider is busy and is left alone for now, so nothing was asked. Try again in %(wait)s, or "
                "choose "
                "another model."
            ),
        )
    else:
        kind, said = (
            Resting,
            _(
                "The provider failed several times in a row and is left alone for now, so nothing was asked. Try "
                "again in "
                "%(wait)s, or choose another model."
            ),
        )
    return kind(said % {"wait": seconds(wait_s)}, retry_after=wait_s)


def states() -> dict[str, int]:
    """How many addresses and models rest now, by why: for whoever watches this process."""
    rests = [rest for rest in list(_resting.values()) if rest.until > clock()]
    busy = sum(rest.is_busy for rest in rests)
    return {"resting": len(rests) - busy, "busy": busy}


def forget() -> None:
    """Nothing failed yet; for tests."""
    _resting.clear()


class Attempt:
    """One call, from just before it goes out to its first piece, or its first thought.

    thinks  it may be silent for long, so that it was says nothing, and nobody waits for what comes of it
    Raises  Resting or Busy on the way in, when the call must not go out
    """

    def __init__(self, protocol: str, base_url: str, model: str, key: Secret | None, *, thinks: bool = False) -> None:
        self.name = (protocol, base_url, model, key)
        self.thinks = thinks
        self.address, self.model = _ways(*self.name)
        self.has_answered = False
        self.probed: list[Rest] = []  # those whose one probe this is
        rules: Mapping[str, Any] = settings.PROVIDER_BREAKER
        self.rules = Rules(**rules)

    def __enter__(self) -> Self:
        if rest := resting(*self.name):
            raise refusal(rest)
        for way in (self.address, self.model):
            if (rest := _resting.get(way)) and rest.rests and not self.thinks:
                rest.is_probed = True
                self.probed.append(rest)
        return self

    def answered(self) -> None:
        """The first sign of life is here: all is well, and what comes later is the answer's own affair."""
        self.has_answered = True
        _resting.pop(self.address, None)
        _resting.pop(self.model, None)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        for rest in self.probed:
            rest.is_probed = False  # whatever came of it; left early, the next one may try
        if isinstance(error, ProviderError) and not self.has_answered:
            self._failed(error)

    def _failed(self, error: ProviderError) -> None:
        if isinstance(error, KeyRefused | Rejected):
            self.answered()  # a refusal is an answer
        elif isinstance(error, Busy):
            self.answered()
            wait_s = min(error.retry_after or 0.0, self.rules.longest_busy_s)
            if wait_s:
                rest = _trouble(self.model)
                rest.until, rest.is_busy = clock() + wait_s, True
        elif is_unreachable(error):
            _trouble(self.address).failed(self.rules)
        elif self.thinks and isinstance(error, TimedOut):
            pass
        else:
            _resting.pop(self.address, None)
            _trouble(self.model).failed(self.rules)


def is_unreachable(error: ProviderError) -> bool:
    """Whether nobody was reached at all."""
    return (isinstance(error, TimedOut) and error.stage == "connect") or (
        type(error) is Down and not error.vendor_status
    )
