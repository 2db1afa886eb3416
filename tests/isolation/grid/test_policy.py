"""Every route of the URLconf has a rule in policy.py and says of itself what stands there: one that nobody declared fails."""

from collections import Counter

from tests.isolation import policy
from tests.isolation.grid.routes import ROUTES

ALLAUTH = ("account_", "mfa_", "socialaccount_", "google_", "github_")


def test_every_route_is_declared_and_says_of_itself_what_the_policy_says():
    """I-01"""
    undeclared = [route.name for route in ROUTES if policy.of(route.name, route.template) is None]
    silent = [route.name for route in ROUTES if route.access is None and route.name in policy.ROUTES]
    differing = [
        route.name
        for route in ROUTES
        if route.access and not isinstance(policy.of(route.name, route.template), policy.DECLARED[route.access])
    ]

    assert undeclared == []
    assert [name for name in silent if not name.startswith(ALLAUTH)] == []  # allauth's views cannot say it
    assert differing == []


def test_the_policy_names_no_route_that_is_gone():
    names = {route.name for route in ROUTES}

    assert set(policy.ROUTES) | set(policy.DESKS) <= names
    assert {f"admin:{page}_changelist" for page in policy.PAGES} <= names


def test_the_grid_is_whole():
    """I-01: the figure. 100 % of routes × methods × actors have a rule."""
    cells = Counter(
        policy.of(route.name, route.template) is not None
        for route in ROUTES
        for _ in policy.METHODS
        for _ in policy.ACTORS
    )

    size = f"{len(ROUTES)} routes × {len(policy.METHODS)} methods × {len(policy.ACTORS)} actors"
    print(f"{cells[True]} of {cells.total()} cells: {size}")
    assert cells[False] == 0
