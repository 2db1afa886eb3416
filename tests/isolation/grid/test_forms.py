"""What a form or a program's call may not decide: whose, at what price, how charged, and rows of others. I-05, I-06"""

from collections import Counter
from uuid import uuid4

import pytest
from django.db import transaction

from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from providers.models import SystemPrompt
from quotas.models import Entry, Hold
from tests.isolation import policy
from tests.isolation.grid.routes import ROUTES

EXTRA = {
    "brand": "globex", "brand_id": "BRAND", "owner_id": "CHARLIE", "user": "CHARLIE",
    "user_id": "CHARLIE", "id": "ID", "role": "assistant", "is_staff": "true", "plan": "pro", "limit": "999",
    "tokens_used": "0", "tokens": "0", "cost": "0", "cost_microusd": "0", "status": "failed", "is_charged": "true",
    "created_at": "2020-01-01", "message_count": "99", "conversation_id": "THEIRS", "agent_id": "ID", "content": "x",
}  # fmt: skip


VOLATILE = {
    "id", "created_at", "updated_at", "last_message_at", "turn_id", "conversation_id", "message_id", "heartbeat_at",
    "ended_at", "first_piece_at", "first_piece_ms", "sent", "response_time_ms", "reservation", "hold_id", "bucket_id",
    "request_id", "parent_id",
}  # fmt: skip


def stored(user):
    """What a send and its answer have stored, without what differs between any two."""
    found = {}
    with scope(SERVICE):
        for model in (Conversation, Message, Turn, Entry, Hold):
            rows = model.objects.filter(owner_id=user.pk).order_by("id").values()
            kept = [{name: value for name, value in row.items() if name not in VOLATILE} for row in rows]
            found[model.__name__] = sorted(kept, key=repr)
        found["created"] = all(row.created_at.year > 2020 for row in Message.objects.filter(owner_id=user.pk))
        found["holds of brands"] = Counter(Hold.objects.values_list("brand_id", flat=True))
    return found


@pytest.mark.parametrize("name", ["conversations:start", "conversations:send"])
def test_what_only_the_server_decides_is_not_taken_from_a_form(scene, name):
    """I-06: a send with every such field stores what a send without them stores."""
    route = next(route for route in ROUTES if route.name == name)
    values = {"BRAND": scene.world.globex.pk, "CHARLIE": scene.world.charlie.pk, "ID": uuid4()}
    values["THEIRS"] = scene.rows["their_conversation_id"]
    extra, results = {key: str(values.get(value, value)) for key, value in EXTRA.items()}, []
    for fields in ({}, extra):
        with transaction.atomic():
            answer = scene.browser("owner").post(scene.address(route), {**policy.QUESTION, **fields})
            assert answer.status_code == 303
            results.append(stored(scene.world.bob))
            transaction.set_rollback(True)

    assert results[0] == results[1]


@pytest.mark.parametrize("field", ["prompt", "provider"])
@pytest.mark.parametrize("of", ["globex", "nobody"])
def test_a_foreign_id_in_a_form_is_refused_and_holds_nothing(scene, field, of):
    """I-05: the prompt of another brand is as unknown as one that never was; nothing is stored, held or asked."""
    with scope(SERVICE):
        theirs = SystemPrompt.objects.get(brand=scene.world.globex).pk
    before = stored(scene.world.bob)

    answer = scene.browser("owner").post("/c/send/", {**policy.QUESTION, field: theirs if of == "globex" else uuid4()})

    assert answer.status_code == 404
    assert stored(scene.world.bob) == before


def test_a_program_names_a_model_and_nothing_else(scene):
    """I-05, I-06, Q-26: where to ask, with whose key, on whose bill and at what price are not the caller's to say."""
    extra = {
        "base_url": "http://127.0.0.1:1/", "api_base": "http://127.0.0.1:1/", "api_key": "sk-evil", "brand": "globex",
        "user": str(scene.world.charlie.pk), "owner_id": str(scene.world.charlie.pk), "usage": {"total_tokens": 0},
        "cost": 0, "conversation_id": str(scene.rows["their_conversation_id"]),
    }  # fmt: skip
    bodies = []
    for fields in ({}, extra):
        with transaction.atomic():
            answer = scene.browser("key").post(
                "/v1/chat/completions", {**policy.COMPLETION, **fields}, content_type="application/json"
            )
            bodies.append((answer.status_code, answer.json().get("usage")))
            with scope(SERVICE):
                assert set(Turn.objects.filter(conversation=None).values_list("owner_id", flat=True)) <= {
                    scene.world.bob.pk
                }
            transaction.set_rollback(True)

    assert bodies[0][0] == 200
    assert bodies[1] == bodies[0] or bodies[1][0] == 400
