"""F-02: every operation of the description is asked as it says, and as it forbids (schemathesis): no 5xx, no crash, and each
answer is one that the description promises. SOAK_SCHEMA sets how many requests of each operation and kind (2).
"""

import json
import os
from urllib.parse import urlencode

import pytest
import schemathesis
from django.db import transaction
from hypothesis import HealthCheck, Phase, given, settings
from jsonschema import Draft202012Validator
from schemathesis.generation import GenerationMode

from accounts import keys
from chatsite.api_docs.description import description, followed
from events.models import WebhookDelivery
from events.webhooks import endpoints
from lib.db import SERVICE, Principal, scope
from lib.ids import uuid7
from quotas.models import Hold
from tests.factories import make_conversation
from tests.isolation.grid.scene import Browser

EXAMPLES = int(os.environ.get("SOAK_SCHEMA", "2"))
SAID = [("user", "How tall is it?"), ("assistant", "Eleven metres.")]


def sent(client, headers, case):
    """One generated case, as it goes over the wire."""
    query = urlencode([(name, one) for name, value in (case.query or {}).items() for one in listed(value)])
    body = (
        b"" if isinstance(case.body, type(schemathesis.core.NOT_SET)) else json.dumps(case.body, default=str).encode()
    )
    given_headers = {name: str(value) for name, value in (case.headers or {}).items() if name.lower() not in WE_SEND}
    kind = {"content_type": "application/json"} if body else {}
    return client.generic(
        case.method, f"{case.formatted_path}?{query}", body, **kind, headers={**given_headers, **headers}
    )


WE_SEND = {"authorization", "x-api-key", "host", "content-type", "cookie", "accept"}


def listed(value):
    return value if isinstance(value, list) else [value]


def check(described, operation, answer):
    status = str(answer.status_code)
    assert answer.status_code < 500, answer.content
    promised = operation.definition.raw["responses"]
    assert status in promised, (operation.label, status, answer.content)
    if answer.headers.get("Content-Type") == "application/json" and answer.content:
        schema = followed(described, promised[status])["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": described["components"]}).validate(json.loads(answer.content))


@pytest.mark.timeout(0 if EXAMPLES > 3 else 120)
def test_whatever_is_asked_is_answered_as_described(world, monkeypatch):
    monkeypatch.setattr(endpoints.egress, "vet_url", lambda url: None)  # asks the network's DNS
    described = description()
    schema = schemathesis.openapi.from_dict(json.loads(json.dumps(described)))
    chat = make_conversation(world.act, world.alice, "Towers", said=SAID)
    admin = Principal("app_brand", world.act.pk, world.alice.pk)
    hook, _ = endpoints.make(admin, endpoints.Wanted(name="Desk", url="https://hooks.example.com/", events=["*"]))
    with scope(SERVICE):
        delivery = WebhookDelivery.objects.create(
            brand=world.act, webhook=hook, message_id=uuid7(), event_type="webhook.test", event_data={}, status="failed"
        )
        all_scopes = [*keys.SCOPES, *keys.BRAND_SCOPES]
        key, text = keys.create(
            world.act, world.alice, name="all", scopes=all_scopes, is_brands=True, per_minute=keys.MOST_PER_MINUTE
        )
    headers = {"authorization": f"Bearer {text}", "host": "act.localhost"}
    real = {
        "conversation_id": str(chat.pk), "slug": "act", "webhook_id": str(hook.pk), "delivery_id": str(delivery.pk),
        "key_id": str(key.pk),
    }  # fmt: skip
    count = 0
    for found in schema.get_all_operations():
        operation = found.ok()
        for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
            here = {name: value for name, value in real.items() if f"{{{name}}}" in operation.path}
            fixed = {"path_parameters": here} if here and mode is GenerationMode.POSITIVE else {}

            @settings(
                max_examples=EXAMPLES, deadline=None, database=None, phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
            )  # fmt: skip
            @given(operation.as_strategy(generation_mode=mode, **fixed))
            def ask(case):
                nonlocal count
                count += 1
                with transaction.atomic():
                    check(described, case.operation, sent(Browser(), headers, case))
                    transaction.set_rollback(True)

            ask()

    assert count > EXAMPLES * len(list(schema.get_all_operations()))
    with scope(SERVICE):
        assert not Hold.objects.exists()
