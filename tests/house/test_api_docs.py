"""/api/docs/: every operation, and a key for an hour."""

import json
import re

from django.test import Client

from accounts.models import ApiKey
from lib.db import SERVICE, scope
from tests import factories
from tests.house.test_api_description import operations


def test_the_page_shows_every_operation_and_gives_a_member_a_key_for_an_hour(world):
    """The key asks the demo model only; the one before is over; nobody who is not signed in gets one."""
    stranger, member = (Client(headers={"host": "act.localhost"}) for _ in range(2))
    member.post("/account/login/", {"login": world.bob.email, "password": factories.PASSWORD})
    page = stranger.get("/api/docs/").content.decode()
    for _, operation in operations():
        assert f'id="{operation["operationId"]}"' in page
    assert "sk_…" in page
    assert "/api/docs/key/" not in page

    texts = [re.findall(r"sk_[0-9a-f]{12}_[\w-]{43}", member.post("/api/docs/key/").content.decode()) for _ in range(2)]
    with scope(SERVICE):
        rows = list(ApiKey.objects.filter(brand=world.act, user=world.bob).order_by("created_at"))

    assert [len(set(found)) for found in texts] == [1, 1]
    assert [row.is_active for row in rows] == [False, True]
    assert rows[1].allowed_models == ["demo", "demo-embedding"]
    assert (rows[1].expires_at - rows[1].created_at).total_seconds() <= 3601
    assert stranger.post("/api/docs/key/").status_code == 302

    def asks(text, model):
        headers = {"authorization": f"Bearer {text}"}
        body = json.dumps({"model": model, "messages": [{"role": "user", "content": "Hello"}]})
        return Client().post("/v1/chat/completions", body, content_type="application/json", headers=headers)

    assert asks(texts[0][0], "demo").status_code == 401
    assert asks(texts[1][0], "other").status_code in (403, 404)
