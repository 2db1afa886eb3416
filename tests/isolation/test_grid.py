"""Every route × every method × everybody, made from the URLconf: a route that nobody declared fails.

Each cell runs in a transaction that is rolled back, so that the cells know nothing of each other.
"""

import json
import logging
import os
import re
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import uuid4

import pytest
from allauth.account.models import EmailAddress
from asgiref.sync import async_to_sync, sync_to_async
from django.contrib.auth.models import Group
from django.core.cache import cache
from django.db import connection, transaction
from django.http import HttpResponse
from django.test import Client
from django.urls import get_resolver
from django.utils import timezone

from accounts import keys, visitors
from accounts.models import ApiKey, Membership, SupportGrant, User, Visitor
from agents.models import Agent
from billing.models import (
    BillingTransaction,
    CreditPackOffer,
    Customer,
    OverageReport,
    Plan,
    StripeEvent,
    Subscription,
    SubscriptionHistory,
)
from chatsite.isolation.catalogue import walled
from conversations.engine.live import hub
from conversations.models import Attachment, BrandTemplate, Conversation, Export, Message, Share, Turn
from events import activity, notices
from events.models import (
    Activity,
    Alarm,
    BlockedAddress,
    DeadLetter,
    EmailLog,
    Event,
    Notification,
    WebhookDelivery,
    WebhookEndpoint,
)
from lib.db import SERVICE, scope
from lib.ids import uuid7
from providers.models import Fallback, Place, ProviderKey, SystemPrompt
from quotas import ledger
from quotas.models import Account, Bucket, Entry, Hold, Pack
from tests import factories
from tests.isolation import policy

ALLAUTH = ("account_", "mfa_", "socialaccount_", "google_", "github_")
pytestmark = pytest.mark.timeout(600)  # one actor is hundreds of requests, on a busy machine too
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{32}")
SPOOFED = {
    "x-forwarded-host": "globex.localhost", "x-forwarded-for": "127.0.0.1", "x-forwarded-user": "alice@example.com",
    "x-forwarded-proto": "https", "x-brand-id": "globex", "x-http-method-override": "DELETE", "x-request-from": "internal",
    "x-original-url": "/admin/", "x-rewrite-url": "/admin/", "remote-user": "alice@example.com", "x-user-id": "1",
    "x-api-key": "sk_0123456789ab_" + "a" * 43, "x-real-ip": "127.0.0.1", "forwarded": "host=globex.localhost",
}  # fmt: skip


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
ROWS = [
    Membership,
    ApiKey,
    Activity,
    EmailLog,
    Event,
    Notification,
    WebhookEndpoint,
    WebhookDelivery,
    Agent,
    BrandTemplate,
    Fallback,
    Place,
    SystemPrompt,
    Plan,
    Subscription,
    SubscriptionHistory,
    BillingTransaction,
    CreditPackOffer,
    Customer,
    OverageReport,
    ProviderKey,
    Account,
    Pack,
    Bucket,
    Entry,
    Hold,
]


class Browser(Client):
    """Leaves a request only when the answers it began are written: their work is on this test's one connection."""

    def generic(self, method, *args, **kwargs):
        if method != "POST":
            return super().generic(method, *args, **kwargs)  # begins no answer
        ask = sync_to_async(super().generic, thread_sensitive=True)

        async def to_the_end():
            response = await ask(method, *args, **kwargs)
            for live in hub.unfinished():
                await live.ending
            return response

        return async_to_sync(to_the_end)()


@dataclass
class Scene:
    """Bob's rows in act, charlie's in globex, and everybody who comes to ask for them."""

    world: factories.World
    rows: dict = field(default_factory=dict)
    people: dict = field(default_factory=dict)
    visitors: dict = field(default_factory=dict)  # the id and the cookie
    keys: dict = field(default_factory=dict)

    def address(self, route, **rows):
        rows = {**self.rows, **rows}
        model = re.match(r"admin/(\w+)/(\w+)/", route.template)
        rows["object_id"] = rows["row_id"] = rows.get(f"{model[1]}_{model[2]}", uuid4()) if model else uuid4()
        template = re.sub(r"\(\?P<app_label>[^)]*\)", "accounts", route.template)
        template = re.sub(r"<(?:\w+:)?(\w+)>", lambda found: f"<{found[1]}>", template)
        template = re.sub(r"\(\?P(<\w+>)(?:[^()[]|\[[^]]*\])*\)", r"\1", template)
        return "/" + re.sub(r"<(\w+)>", lambda found: str(rows[found[1]]), template).replace("^", "").rstrip("$")

    def browser(self, actor):
        client = Browser(headers={"host": "globex.localhost" if actor == "other_brand_at_home" else "act.localhost"})
        client.raise_request_exception = False
        if actor in self.keys:
            client.defaults["HTTP_AUTHORIZATION"] = f"Bearer {self.keys[actor]}"
        elif actor in self.people:
            client.cookies["sessionid"] = self.people[actor][1]
        elif actor in self.visitors:
            client.cookies[visitors.COOKIE] = self.visitors[actor][1]
        return client

    def user(self, actor):
        return self.people[actor][0] if actor in self.people else None

    def row_ids(self, actor):
        """Visitors ask for the chat of one of them, everybody else for bob's."""
        return self.rows["of_visitor"] if actor in self.visitors else {}

    def newcomers(self):
        """Who came in this request: anybody may ask, and what is stored then is of somebody who was not there before."""
        known = {pk for pk, _ in self.visitors.values()}
        beside = Account.objects.filter(kind__in=("network", "visitors")).values_list("owner_id", flat=True)
        with scope(SERVICE):
            return {*Visitor.objects.exclude(pk__in=known).values_list("pk", flat=True), *beside}


def make_visitor(brand):
    with scope(SERVICE):
        visitor = Visitor.objects.create(brand=brand)
    response = HttpResponse()
    visitors.remember(response, brand, visitor.pk)
    return visitor.pk, response.cookies[visitors.COOKIE].value


def make_talk(brand, user, word):
    return talk_in(factories.make_conversation(brand, user, f"{word} title"), word)


def talk_in(conversation, word):
    brand, owner_id, question_id = conversation.brand, conversation.owner_id, uuid7()
    with scope(SERVICE):
        turn = Turn(
            brand=brand, owner_id=owner_id, conversation=conversation, provider_id=uuid7(), status=Turn.Status.DONE,
            heartbeat_at=timezone.now(), message_id=uuid7(), sent={"asked": {"store": True}},
        )  # fmt: skip
        common = {"brand": brand, "owner_id": owner_id, "conversation": conversation, "turn_id": turn.pk}
        Message.objects.create(pk=question_id, role="user", content=f"{word} question", **common)
        Message.objects.create(pk=turn.message_id, role="assistant", content=f"{word} answer", **common)
        turn.save()
    return conversation, turn


@pytest.fixture
def scene(world, caplog):
    caplog.set_level(logging.CRITICAL)  # thousands of refusals are what is wanted here
    for user, word in ((world.alice, "canary-alice"), (world.bob, "canary-bob")):
        conversation, turn = make_talk(world.act, user, word)
    with scope(SERVICE):  # bob's plan keeps no history, so his admins see only what is pinned
        Conversation.objects.filter(pk=conversation.pk).update(pinned_at=timezone.now())
    theirs, their_turn = make_talk(world.globex, world.charlie, "canary-charlie")
    made = Scene(world)
    made.visitors = {actor: make_visitor(world.act) for actor in ("visitor", "visitor_other")}
    visitor_id = made.visitors["visitor"][0]
    with scope(SERVICE):
        visited = Conversation.objects.create(
            brand=world.act,
            owner_id=visitor_id,
            owner_kind="visitor",
            visitor_id=visitor_id,
            title="canary-visitor title",
        )
    _, visited_turn = talk_in(visited, "canary-visitor")
    dora, eve, frank = (factories.make_user(f"{name}@example.com") for name in ("dora", "eve", "frank"))
    helper, granted = (factories.make_user(f"{name}@example.com", is_staff=True) for name in ("helper", "granted"))
    for user in (dora, eve, frank):
        factories.make_member(world.act, user)
    signed_in = {
        "owner": world.bob, "same_brand": dora, "brand_admin": world.alice, "other_brand": world.charlie,
        "other_brand_at_home": world.charlie, "removed": eve, "suspended": frank, "staff": world.staff,
        "staff_with_grant": granted, "helper": helper,
    }  # fmt: skip
    for actor, user in signed_in.items():
        client = Client()
        client.force_login(user)
        made.people[actor] = user, client.cookies["sessionid"].value
    with scope(SERVICE):
        holders = {
            "key": (world.act, world.bob), "key_wrong_scope": (world.act, world.bob), "key_revoked": (world.act, world.bob),
            "key_other_brand": (world.globex, world.charlie), "key_of_removed": (world.act, eve),
            "key_of_suspended": (world.act, frank),
        }  # fmt: skip
        for actor, (brand, user) in holders.items():
            scopes = ["conversations:read", "conversations:write"]
            if actor != "key_wrong_scope":
                scopes += ["chat", "messages:record"]
            key, made.keys[actor] = keys.create(brand, user, name=actor, scopes=scopes, per_minute=keys.MOST_PER_MINUTE)
            if actor == "key_revoked":
                ApiKey.objects.filter(pk=key.pk).update(is_active=False)
        bobs_key, _ = keys.create(world.act, world.bob, name="his own", scopes=["chat"])
        Membership.objects.filter(user=eve).delete()
        User.objects.filter(pk=frank.pk).update(is_active=False)
        User.objects.filter(pk=granted.pk).update(is_superuser=True)
        grant = SupportGrant.objects.create(
            brand=world.act, staff=granted, reason="ticket", expires_at=timezone.now() + timedelta(days=1)
        )
        SystemPrompt.objects.filter(brand=world.act).update(prompt_text="canary-prompt")
        SystemPrompt.objects.filter(brand=world.globex).update(name="canary-globex", prompt_text="canary-globex")
        for brand in (world.act, world.globex):
            Fallback.objects.create(brand=brand, provider=world.demo)
            Place.objects.create(brand=brand, provider=world.demo)
            BrandTemplate.objects.create(brand=brand, title="Plan", text="Plan my {day}.")
        Agent.objects.create(
            brand=world.act, owner_id=world.bob.pk, slug="a", name="A", ai_model="demo", system_prompt="canary-prompt"
        )
        activity.record(world.act.pk, "key.created", actor_id=world.alice.pk, resource=("api_key", key.pk))
        ledger.reserve(
            world.act, asker=("user", world.bob.pk), amounts={"queries": 1, "tokens": 9}, reservation=uuid7()
        )
        bobs = {"brand": world.act, "owner_id": world.bob.pk}
        Customer.objects.create(**bobs, provider="stand_in", stripe_customer_id="cus_1")
        OverageReport.objects.create(**bobs, entry_id=uuid7(), amount_microusd=1, used_at=timezone.now())
        hook = WebhookEndpoint(brand=world.act, name="A hook", url="https://example.com/", events=["*"])
        hook.secret = "whsec_canary-hook"
        hook.save(force_insert=True)
        delivery = WebhookDelivery.objects.create(
            brand=world.act, webhook=hook, message_id=uuid7(), event_type="webhook.test", event_data={}, status="failed"
        )
        ProviderKey.objects.create(**bobs, vendor="openai", secret="canary-own-key", last_four="-key", status="valid")
        BillingTransaction.objects.create(
            **bobs, type="one_time", status="paid", description="A pack", amount_microusd=5_000_000,
            total_amount_microusd=5_000_000, currency="USD", payment_provider="stand_in", payment_id="pi_1",
            provider_transaction_id="cs_1", happened_at=timezone.now(),
        )  # fmt: skip
        used = uuid7()
        ledger.reserve(world.act, asker=("user", world.bob.pk), amounts={"queries": 1}, reservation=used)
        ledger.settle(used, amounts={"queries": 1})
        ledger.grant_pack(
            world.act,
            world.bob.pk,
            meter="queries",
            amount=5,
            name="5",
            price_microusd=0,
            source="staff:1",
            reason="kind",
        )
        attachment = Attachment.objects.create(
            **bobs, name="canary-bob.txt", kind="text", size_bytes=1, state="ready", text="x", changed_at=timezone.now()
        )
        question, visitors_question = (
            Message.objects.get(conversation=chat, role="user") for chat in (conversation, visited)
        )
        notice = notices.tell(world.act.pk, world.bob.pk, "system", title="A notice", message="Words")
        export = Export.objects.create(**bobs, kind="chats", form="json", chats=[], total=0, moved_at=timezone.now())
        share = Share.objects.create(
            **bobs, conversation=conversation, token_hash="0", title="canary-bob", snapshot={"messages": []}
        )
        first = {model: model.objects.filter(brand=world.act).first() for model in ROWS}
        first[Account] = Account.objects.get(brand=world.act, owner_id=world.bob.pk)
        first[Entry] = Entry.objects.filter(brand=world.act, kind="use", used_delta__gt=0).first()
        first[Group] = Group.objects.create(name="helpers")
        first[Alarm] = Alarm.objects.create(name="dead_letters", checked_at=timezone.now())
        first[BlockedAddress] = BlockedAddress.objects.create(
            address="gone@example.com", reason="bounced", blocked_at=timezone.now()
        )
        first[DeadLetter] = DeadLetter.objects.create(task="billing.tasks.push_plan", reason="failed")
        first[StripeEvent] = StripeEvent.objects.create(
            pk="evt_1", type="invoice.paid", livemode=False, created=timezone.now(), received_at=timezone.now(), body={}
        )
        first[EmailAddress] = EmailAddress.objects.create(user=world.bob, email=world.bob.email)
        brand_account = Account.objects.get(brand=world.act, kind="brand")
    made.rows = {
        "export_id": export.pk, "share_id": share.pk, "token": "0" * 40,
        "mail_id": first[EmailLog].pk, "provider": "postmark",
        "line_id": first[Activity].pk,
        "webhook_id": hook.pk, "delivery_id": delivery.pk, "key_id": bobs_key.pk,
        "notice_id": notice.pk, "attachment_id": attachment.pk, "brand_id": world.act.pk, "plan_id": first[Plan].pk,
        "message_id": turn.message_id, "question_id": question.pk,
        "conversation_id": conversation.pk, "turn_id": turn.pk, "response_id": f"resp_{turn.pk.hex}",
        "name": "0" * 32,
        "identifier": "demo", "key": "MQ:abc:def", "uidb36": "1", "session_id": "cs_test_guessed", "invoice_id": "in_guessed",
        "slug": "act", "app_label": "accounts", "url": "nothing-here", "content_type_id": 1,
        "accounts_brand": world.act.pk, "accounts_user": world.bob.pk, "accounts_supportgrant": grant.pk,
        "conversations_conversation": conversation.pk, "conversations_message": turn.message_id,
        "conversations_turn": turn.pk,
        "providers_aiprovider": world.demo.pk, "account_id": brand_account.pk,
        **{model._meta.label_lower.replace(".", "_"): row.pk for model, row in first.items()},
        "their_conversation_id": theirs.pk, "their_turn_id": their_turn.pk,
        "of_visitor": {
            "conversation_id": visited.pk, "turn_id": visited_turn.pk, "message_id": visited_turn.message_id,
            "question_id": visitors_question.pk,
        },
    }  # fmt: skip
    return made


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


def body_of(rule, method):
    rule = rule.of(method) if isinstance(rule, policy.Apis) else rule
    if isinstance(rule, policy.Key | policy.Api):
        return json.dumps(dict(rule.body)), "application/json"
    return "&".join(f"{name}={value}" for name, value in getattr(rule, "body", ())), "application/x-www-form-urlencoded"


def ask(client, method, address, body=("", ""), **headers):
    answer = client.generic(method, address, *([] if method in policy.SAFE else body), headers=headers)
    return answer, b"".join(answer).decode()


@pytest.fixture
def books(db):
    """What stands in every table behind the walls, but for the rows of one person on one brand."""
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("set local role app_service")
        tables = list(walled(cursor).values())
        cursor.execute("set local role none")
    own = {"events_activity": "actor_id", "events_event": "owner_id"}

    def rows_of_others(brand, user, also=()):
        """The brand's own accounts are everybody's who may spend from them; `also` is who came in this request."""
        parts = []
        for table in tables:
            brand_column = "brand_id = %(brand)s" if "brand_id" in table.columns else "true"
            owner_column = own.get(table.name, table.owner_column)
            mine = f"{brand_column} and {owner_column} = any(%(own)s)" if owner_column else "false"
            parts.append(
                f"select '{table.name}', md5(coalesce(string_agg(t::text, '|' order by t.id), '')) "
                f'from "{table.name}" t where ({mine}) is not true'.replace("t.id", "t::text")
            )
        parts.append(
            "select 'accounts_user', md5(string_agg(t::text, '|' order by id)) from accounts_user t where id <> %(user)s"
        )
        with scope(SERVICE), connection.cursor() as cursor:
            cursor.execute(" union all ".join(parts), {"brand": brand, "user": user, "own": [user, brand, *also]})
            return dict(cursor.fetchall())

    return rows_of_others


def writes():
    """How many rows were written in this transaction so far, also by what was rolled back since."""
    with connection.cursor() as cursor:
        cursor.execute(
            "select sum(n_tup_ins + n_tup_upd + n_tup_del) from pg_stat_xact_user_tables where relname <> 'django_session'"
        )
        return cursor.fetchone()[0]


def test_the_books_show_a_foreign_row_that_was_touched(scene, books):
    """The proof of the proof: one letter of bob's title, seen by everybody's books but his own."""
    act, bob, alice = scene.world.act.pk, scene.world.bob.pk, scene.world.alice.pk
    before, own, written = books(act, alice), books(act, bob), writes()
    with scope(SERVICE):
        Conversation.objects.filter(owner_id=bob).update(title="another")

    assert writes() == written + 1
    assert {table for table, rows in books(act, alice).items() if rows != before[table]} == {
        "conversations_conversation"
    }
    assert books(act, bob) == own


def secrets_from(actor):
    """Whose words must not be in what this one reads."""
    own = {
        "owner": "canary-bob",
        "key": "canary-bob",
        "key_wrong_scope": "canary-bob",
        "key_other_brand": "canary-charlie",
        "brand_admin": "canary-alice",
        "other_brand_at_home": "canary-charlie",
        "visitor": "canary-visitor",
    }
    words = {"canary-alice", "canary-bob", "canary-charlie", "canary-visitor", "canary-prompt", "canary-own-key"}
    words |= {"canary-hook"}
    return words - {own.get(actor)}


WHOLE = bool(os.environ.get("GRID_WHOLE"))  # every cell
RARE = [method for method in policy.METHODS if method not in ("GET", "POST")]


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
    """GET, POST and what the route takes; of the others, which nobody may, another one for each actor, so that some ask all.

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
    taken = getattr(rule, "methods", frozenset())
    refused = [method for method in RARE if method not in taken]
    one = refused[turn % len(refused)]
    return [method for method in policy.METHODS if method in {"GET", "POST", one, *taken}]


@pytest.mark.parametrize("actor", policy.ACTORS)
def test_everybody_gets_what_the_policy_says_and_touches_only_his_own(scene, books, actor):
    """I-02, I-04, I-15: status, foreign rows, foreign words and caching, in every cell of this actor."""
    user, client = scene.user(actor), scene.browser(actor)
    brand = scene.world.globex if actor in ("other_brand_at_home", "key_other_brand") else scene.world.act
    bobs = dict.fromkeys(("key", "key_wrong_scope"), scene.world.bob)
    holder = {**bobs, "key_other_brand": scene.world.charlie}.get(actor, user)
    wrong, count = [], 0
    holder_id = scene.visitors[actor][0] if actor in scene.visitors else holder and holder.pk
    before, written = books(brand.pk, holder_id), writes()
    for route in ROUTES:
        rule, address = policy.of(route.name, route.template), scene.address(route, **scene.row_ids(actor))
        runs_the_site = route.is_admin and actor in ("staff", "staff_with_grant")
        for method in methods(route, actor):
            cell = f"{method} {route.template}"
            with transaction.atomic():
                answer, text = ask(client, method, address, body_of(rule, method))
                if answer.status_code not in rule.answer(actor, method):
                    wrong.append(f"{cell}: {answer.status_code}, not {rule.answer(actor, method)}")
                now_written = writes()
                after = books(brand.pk, holder_id, scene.newcomers()) if now_written != written else before
                written = now_written
                changed = {table for table in after if after[table] != before[table]}
                if runs_the_site:
                    changed &= {"conversations_conversation", "conversations_message", "conversations_turn"}
                of_method = rule.of(method) if isinstance(rule, policy.Apis) else rule
                is_brands = isinstance(of_method, policy.Admin) or getattr(of_method, "for_brand", False)
                if actor in ("brand_admin", "other_brand_at_home") and is_brands:
                    # the brand's, which they are there to change
                    changed -= {"conversations_brandtemplate", "events_webhookendpoint", "events_webhookdelivery"}
                    if route.name == "rest-brand-api-key":  # bob's, who is told that it was revoked
                        changed -= {"accounts_apikey", "events_event", "events_notification"}
                if changed:
                    wrong.append(f"{cell}: changed {changed}")
                found = {word for word in secrets_from(actor) if word in text}
                if actor == "brand_admin" and route.name in policy.READ_BY_ADMINS:
                    found -= {"canary-bob", "canary-visitor"}
                if runs_the_site:
                    found &= {"canary-charlie"} if actor == "staff_with_grant" else {"canary-alice", "canary-bob"}
                if found:
                    wrong.append(f"{cell}: shows {found}")
                if "no-store" not in answer.headers.get("Cache-Control", "") and route.name != "admin:jsi18n":
                    wrong.append(f"{cell}: may be cached")
                transaction.set_rollback(True)
            count += 1
            client.cookies.clear()
            client.cookies.update(scene.browser(actor).cookies)

    assert wrong == [], "\n".join(wrong)
    assert count == sum(len(methods(route, actor)) for route in ROUTES)
    print(f"{actor}: {count} cells of {len(ROUTES)} routes")


def plain(text, *ids):
    """A body without what differs between any two requests."""
    text = re.sub(r'nonce="[^"]+"|value="\w{64}"|"X-CSRFToken":"\w+"', "", text)
    text = re.sub(r'"exported_at": "[^"]+"', "", text)
    text = re.sub(r"/stand-in/(\w+)/\w+/", r"/stand-in/\1/", text)  # a page of one's own, made for this visit
    text = re.sub(r"whsec_[\w+/=-]+", "", text)  # a new one each time
    text = re.sub(r"\b(state|code_challenge)=[\w-]+", "", text)  # of a log-in elsewhere
    text = re.sub(r'"\d{4}-\d\d-\d\dT[\d:.]+\+00:00"', '""', text)  # when it was asked
    return UUID.sub("", text)


PRYING = ["same_brand", "brand_admin", "other_brand", "other_brand_at_home", "removed", "staff", "anonymous", "key"]
PRYING += ["visitor", "visitor_other"]


@pytest.mark.parametrize("actor", PRYING)
def test_a_foreign_row_looks_like_one_that_never_was(scene, actor):
    """I-03"""
    client = scene.browser(actor)
    for route in ROUTES:
        rule = policy.of(route.name, route.template)
        if not route.has_row:
            continue
        for method in methods(route, actor):
            seen = []
            is_rest = isinstance(rule, policy.Api | policy.Apis) and actor != "other_brand_at_home"  # whose own it is
            of_others = is_rest or (actor == "brand_admin" and route.name in policy.READ_BY_ADMINS)
            foreign = {name: scene.rows[f"their_{name}"] for name in ("conversation_id", "turn_id")}
            theirs = foreign if of_others else {}
            for rows in (theirs, {"conversation_id": uuid4(), "turn_id": uuid4()}):
                client.cookies.pop("messages", None)  # what the request before this one had to say
                with transaction.atomic():
                    answer, text = ask(client, method, scene.address(route, **rows), body_of(rule, method))
                    transaction.set_rollback(True)
                seen.append((answer.status_code, plain(text), plain(answer.headers.get("Location", ""))))

            assert seen[0] == seen[1], (method, route.name)


SPOOFING = ["anonymous", "owner", "key", "helper"]
SPOOFING += ["same_brand", "other_brand", "removed", "key_revoked"] if WHOLE else []


@pytest.mark.parametrize("actor", SPOOFING)
def test_no_header_gives_anybody_anything(scene, actor):
    """I-12"""
    for route in ROUTES:
        if route.is_admin and not WHOLE and (actor not in ("anonymous", "helper") or ROUTES.index(route) % 4):
            continue  # one door, which everybody comes to
        rule, address = policy.of(route.name, route.template), scene.address(route)
        for method in ("GET", "POST") if WHOLE else (either(route, actor),):
            seen = []
            spoofed = dict(SPOOFED)
            if isinstance(rule, policy.Key | policy.Api | policy.Apis):
                del spoofed[
                    "x-api-key"
                ]  # is a credential there; two that differ are refused (I-09, test_messages_door)
            for headers in ({}, spoofed):
                cache.clear()  # or the second of two is one too many in this minute
                with transaction.atomic():
                    answer, text = ask(scene.browser(actor), method, address, body_of(rule, method), **headers)
                    transaction.set_rollback(True)
                text = (
                    "" if isinstance(rule, policy.Key | policy.Api | policy.Apis) and method == "POST" else plain(text)
                )
                seen.append((answer.status_code, text, plain(answer.headers.get("Location", ""))))

            assert seen[0] == seen[1], (method, route.name)


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


def test_one_address_gives_each_his_own(scene):
    """I-15: the same address as alice, then bob, then charlie at home, then nobody: nothing of one is in another's."""
    with scope(SERVICE):  # bob's plan lists nothing else
        Conversation.objects.filter(owner_id=scene.world.bob.pk).update(pinned_at=timezone.now())
    texts = {
        actor: ask(scene.browser(actor), "GET", "/c/")[1]
        for actor in ("brand_admin", "owner", "other_brand_at_home", "anonymous")
    }
    words = {"brand_admin": "canary-alice", "owner": "canary-bob", "other_brand_at_home": "canary-charlie"}

    for actor, text in texts.items():
        assert {word for word in words.values() if word in text} == {words[actor]} - {None} if actor in words else True
    assert not any(word in texts["anonymous"] for word in words.values())


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
