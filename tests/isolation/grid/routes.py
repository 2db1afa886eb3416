"""The routes of the product, from its URLconf, and which methods of each an actor asks."""

import os
from dataclasses import dataclass

from django.urls import get_resolver

from tests.isolation import policy


@dataclass(frozen=True)
class Route:
    name: str
    template: str
    access: str | None

    @property
    def is_admin(self):
        return self.template.startswith("admin/")

    @property
    def has_row(self):
        return "uuid:" in self.template and not self.is_admin


def routes(resolver=None, before="", namespace=""):
    for found in (resolver or get_resolver()).url_patterns:
        template = before + str(found.pattern)
        if hasattr(found, "url_patterns"):
            yield from routes(found, template, namespace + (f"{found.namespace}:" if found.namespace else ""))
        else:
            name = namespace + found.name if found.name else template
            yield Route(name, template, getattr(found.callback, "access", None))


ROUTES = list(routes())


WHOLE = bool(os.environ.get("GRID_WHOLE"))  # every cell


def either(route, actor):
    """GET or POST: another one for each actor, so that every route is asked both."""
    return ("GET", "POST")[(policy.ACTORS.index(actor) + ROUTES.index(route)) % 2]


def is_shut(route, actor, rule):
    """Whether one door keeps this one out of here, before it looks at the method; anonymous asks for all such."""
    if route.is_admin:
        return actor not in policy.STAFF and actor != "anonymous"
    if actor.startswith("visitor"):
        return not isinstance(rule, policy.Asker)
    if actor in policy.STRANGERS - {"other_brand"}:
        return isinstance(rule, policy.Member | policy.Admin | policy.Asker)
    return actor in policy.NOBODY - {"anonymous"} and not isinstance(rule, policy.Key | policy.Api | policy.Apis)


def methods(route, actor):
    """What the route takes; of the others, which nobody may, another one for each actor, so that some ask all.

    Where one door keeps him out: GET or POST; at the door of the staff's pages, every fourth actor for each page.
    GRID_WHOLE=1 asks everything of everybody.
    """
    rule, turn = policy.of(route.name, route.template), policy.ACTORS.index(actor) + ROUTES.index(route)
    if WHOLE:
        return policy.METHODS
    if is_shut(route, actor, rule):
        return [either(route, actor)] if not route.is_admin or turn % 8 in (0, 3) else []
    if route.is_admin:
        return ["GET"] if actor == "staff_with_grant" else ["GET", "POST"]  # a grant lets read; no other is looked at
    taken = getattr(rule, "methods", None) or {"GET", "POST"}
    refused = [method for method in policy.METHODS if method not in taken]
    return [method for method in policy.METHODS if method in {refused[turn % len(refused)], *taken}]
