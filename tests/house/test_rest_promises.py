"""What every operation of /api/v1/ promises, one by one: a repeat does nothing twice, and a tag names what was seen."""

import json
from types import SimpleNamespace
from uuid import uuid4

import pytest
from django.db import connection, transaction

from accounts import keys
from accounts.rest.fields import ShownOnce
from chatsite.api_docs.description import description, followed
from chatsite.api_keys.rest import Key
from chatsite.isolation.catalogue import walled
from conversations.models import Turn
from events import notices
from events.models import WebhookDelivery
from events.webhooks import endpoints
from events.webhooks.rest import Webhook
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.ids import uuid7
from tests.factories import make_conversation
from tests.isolation.grid.scene import Browser

# POSTs that hear no Idempotency-Key. Each sets something to what it may be already, and changes nothing where it is.
NEEDS_NO_KEY = {
    "stopAnswer": "what is stopped stays stopped",
    "archiveConversation": "what is archived stays so",
    "unarchiveConversation": "and what is not, too",
    "readAllNotifications": "what is read stays read",
    "readNotification": "what is read stays read",
}
# GETs of no list that have no tag.
NO_SINGLE_OBJECT = {
    "listUsage": "a list, in an envelope",
    "getConversationStats": "says when it was counted, which is another moment each time",
}
SECRETS = {name for shape in (Key, Webhook) for name, field in shape().fields.items() if isinstance(field, ShownOnce)}


@pytest.fixture
def scene(world, monkeypatch):
    """Alice with a key for everything, and one row of each kind that an address may name."""
    monkeypatch.setattr(endpoints.egress, "vet_url", lambda url: None)  # asks the network's DNS
    scopes = [*keys.SCOPES, *keys.BRAND_SCOPES]
    admin = Principal("app_brand", world.act.pk, world.alice.pk)
    chat = make_conversation(world.act, world.alice, "Towers", said=[("user", "How tall?"), ("assistant", "Eleven.")])
    hook, _ = endpoints.make(admin, endpoints.Wanted(name="Desk", url="https://hooks.example.com/", events=["*"]))
    with scope(SERVICE):
        _, text = keys.create(
            world.act, world.alice, name="all", scopes=scopes, is_brands=True, per_minute=keys.MOST_PER_MINUTE
        )
        _, own = keys.create(world.act, world.alice, name="own", scopes=scopes, per_minute=keys.MOST_PER_MINUTE)
        key, _ = keys.create(world.act, world.alice, name="other", scopes=["chat"], per_minute=5, per_day=5)
        brands, _ = keys.create(world.act, world.alice, name="brand's", scopes=["chat"], is_brands=True, per_minute=5)
        turn = Turn.objects.create(
            brand=world.act, owner_id=world.alice.pk, conversation=chat, provider_id=world.demo.pk, status="done",
            heartbeat_at=clock.now(), message_id=chat.messages.get(role="assistant").pk,
        )  # fmt: skip
        delivery = WebhookDelivery.objects.create(
            brand=world.act, webhook=hook, message_id=uuid7(), event_type="webhook.test", event_data={}, status="failed"
        )
        notice = notices.tell(world.act.pk, world.alice.pk, "system", title="A notice", message="Words")
    ids = {
        "conversation_id": chat.pk, "turn_id": turn.pk, "webhook_id": hook.pk, "delivery_id": delivery.pk,
        "notice_id": notice.pk, "slug": "act",
    }  # fmt: skip
    browser = Browser(headers={"host": "act.localhost"})

    def ask(operation, body=None, **headers):
        is_brands = "Brand" in operation.id
        here = {**ids, "key_id": brands.pk if is_brands else key.pk}
        path = operation.path.format(**here)
        query = f"?at={clock.now():%Y-%m-%dT%H:%M:%SZ}" if operation.id == "getReplay" else ""
        told = (
            json.dumps(operation.example if body is None else body).encode() if operation.example is not None else b""
        )
        kind = {"content_type": "application/json"} if told else {}
        sent = {"authorization": f"Bearer {text if is_brands else own}", **headers}
        return browser.generic(operation.method, path + query, told, **kind, headers=sent)

    return SimpleNamespace(ask=ask, ids=ids)


def operations(*methods):
    described = description()
    for path, said in described["paths"].items():
        for method in methods:
            if method in said:
                one = said[method]
                content = one.get("requestBody", {}).get("content", {}).get("application/json", {})
                headers = {row["name"] for row in one.get("parameters", []) if row["in"] == "header"}
                answer = next(each for status, each in one["responses"].items() if status < "300")
                schema = followed(described, answer).get("content", {}).get("application/json", {}).get("schema", {})
                yield SimpleNamespace(
                    id=one["operationId"],
                    method=method.upper(),
                    path=path,
                    headers=headers,
                    statuses=set(one["responses"]),
                    is_list=schema.get("type") == "array",
                    example=next((row["value"] for row in content.get("examples", {}).values()), None),
                    takes_body=bool(content),
                )


def everything():
    """What stands in every table of a brand's, as a digest of each."""
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("set local role app_service")
        names = [table.name for table in walled(cursor).values()]
        cursor.execute("set local role none")
    each = " union all ".join(
        f"select '{name}', md5(coalesce(string_agg(t::text, '|' order by t::text), '')) from \"{name}\" t"
        for name in names
    )
    with scope(SERVICE), connection.cursor() as cursor:
        cursor.execute(each)
        return dict(cursor.fetchall())


def without_secrets(body):
    return {name: value for name, value in body.items() if name not in SECRETS}


def test_no_post_does_anything_twice(scene):
    """Q-12, for every POST there is: the same request with the same Idempotency-Key is told the same, and writes nothing."""
    posts = list(operations("post"))
    assert {post.id for post in posts if "Idempotency-Key" not in post.headers} == set(NEEDS_NO_KEY)
    for post in posts:
        key = {"idempotency-key": "once"} if post.id not in NEEDS_NO_KEY else {}
        with transaction.atomic():
            before = everything()
            first = scene.ask(post, **key)
            between = everything()
            again = scene.ask(post, **key)
            after = everything()
            assert 200 <= first.status_code < 300, (post.id, first.content)
            assert again.status_code == first.status_code, (post.id, again.content)
            changed = {name for name in after if after[name] != between[name]}
            assert changed == set(), (post.id, changed)
            if key:
                assert between != before, post.id
                assert again.json() == without_secrets(first.json()), post.id
                if post.takes_body:
                    other = {**post.example, next(iter(post.example)): "another"}
                    assert scene.ask(post, other, **key).status_code in (400, 422), post.id
            transaction.set_rollback(True)


def test_every_single_object_has_a_tag_and_nothing_that_was_changed_since_is_overwritten(scene):
    """If-None-Match tells nothing twice; If-Match refuses, and then nothing was done."""
    gets = list(operations("get"))
    assert {one.id for one in gets if not one.is_list and "If-None-Match" not in one.headers} == set(NO_SINGLE_OBJECT)
    for get in gets:
        if "If-None-Match" not in get.headers:
            continue
        first = scene.ask(get)
        assert first.status_code == 200, (get.id, first.content)
        tag = first.headers["ETag"]
        same = scene.ask(get, **{"if-none-match": f'"other", W/{tag}'})
        assert (same.status_code, same.content, same.headers["ETag"]) == (304, b"", tag), get.id
        assert scene.ask(get, **{"if-none-match": f'"{uuid4().hex}"'}).status_code == 200
        assert "304" in get.statuses

    changes = [one for one in operations("patch", "delete", "post") if "If-Match" in one.headers]
    assert {one.id for one in operations("patch", "delete")} <= {one.id for one in changes}
    for change in changes:
        before = everything()
        refused = scene.ask(change, **{"if-match": '"0-0"'})
        assert (refused.status_code, refused.json()["code"]) == (412, "changed_meanwhile"), (change.id, refused.content)
        assert everything() == before, change.id
        assert "412" in change.statuses
        read = next(get for get in gets if change.path.startswith(get.path) and "If-None-Match" in get.headers)
        with transaction.atomic():
            tag = scene.ask(read).headers["ETag"]
            assert scene.ask(change, **{"if-match": tag}).status_code < 300, change.id
            transaction.set_rollback(True)
