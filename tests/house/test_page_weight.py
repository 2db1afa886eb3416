"""UX 5: what a browser must fetch before a page works. Bytes, not times; kB of 1,024."""

import pytest

from tests import factories
from tests.weight import weighed


@pytest.mark.parametrize(
    ("path", "most"),
    [
        ("chat", {"html": 25, "js": 25, "css": 10}),
        ("/c/", {"html": 25, "js": 25, "css": 10}),
        ("/history/", {"html": 30, "js": 15, "css": 15}),
        ("/search/?q=well", {"html": 30, "js": 20, "css": 15}),
        ("/", {"html": 12, "js": 25, "css": 10}),  # the composer is the page, so it costs what a chat costs
        ("/pricing/", {"html": 12, "js": 5, "css": 15}),
        ("/api/docs/", {"html": 60, "js": 5, "css": 15}),  # every operation, with three programs each
    ],
)
def test_a_page_weighs_no_more_than_its_budget(world, client, path, most):
    chat = factories.make_conversation(
        world.act, world.alice, said=[("user", "Well?"), ("assistant", "Well. " * 200)] * 20
    )
    if path not in ("/", "/pricing/", "/api/docs/"):
        client.force_login(world.alice, backend="django.contrib.auth.backends.ModelBackend")

    response = client.get(f"/c/{chat.pk}/" if path == "chat" else path, headers={"host": "act.localhost"})

    assert response.status_code == 200
    weight = weighed(response.content.decode())
    assert all(weight[kind] <= limit for kind, limit in most.items()), {k: round(v, 2) for k, v in weight.items()}
    assert weight["css"] > 1
