"""Which call of the API does what. A call is method, path, the SDK's own type of its parameters, and what it honours."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from billing.standin.parameters import read
from billing.standin.refusals import Refusal
from billing.standin.store import Body

PAGING = "limit starting_after ending_before created"


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: re.Pattern[str]
    params: Any
    honours: frozenset[str]
    work: Callable[..., Body]

    def answer(self, path: str, encoded: str) -> tuple[Body, list[str]]:
        """The body, and what of it to expand."""
        match = self.path.fullmatch(path)
        assert match is not None
        values = read(encoded, self.params, self.honours)
        expand = values.pop("expand", [])
        return self.work(values, *match.groups()), expand


ROUTES: list[Route] = []


def route(
    method: str, path: str, params: Any, honours: str = ""
) -> Callable[[Callable[..., Body]], Callable[..., Body]]:
    """Declare a call: `{}` in the path is an id, which follows the parameters as an argument.

    honours  names of parameters that the work does something with, nested ones with dots; `expand` always
    """

    def declare(work: Callable[..., Body]) -> Callable[..., Body]:
        pattern = re.compile(re.escape(path).replace(r"\{\}", r"([^/]+)"))
        ROUTES.append(Route(method, pattern, params, frozenset(honours.split()), work))
        return work

    return declare


def find(method: str, path: str) -> Route:
    for one in ROUTES:
        if one.method == method and one.path.fullmatch(path):
            return one
    raise Refusal(
        f"Unrecognized request URL ({method}: {path}). The local stand-in for Stripe does what chatsite asks of it; "
        "teach it (billing/standin), or do without.",
        status=404,
        code="stand_in_cannot",
    )
