"""The stage of the grid: rows of two brands, everybody who comes to ask for them, and how they ask."""

import json
import re
from dataclasses import dataclass, field
from uuid import uuid4

from asgiref.sync import async_to_sync, sync_to_async
from django.http import HttpResponse
from django.test import Client
from django.utils import timezone

from accounts import visitors
from accounts.models import ApiKey, Membership, Visitor
from agents.models import Agent
from billing.models import (
    BillingTransaction,
    CreditPackOffer,
    Customer,
    OverageReport,
    Plan,
    Subscription,
    SubscriptionHistory,
)
from conversations.engine.live import hub
from conversations.models import BrandTemplate, Message, Turn
from events.models import (
    Activity,
    EmailLog,
    Event,
    Notification,
    WebhookDelivery,
    WebhookEndpoint,
)
from lib.db import SERVICE, scope
from lib.ids import uuid7
from providers.models import Fallback, Place, ProviderKey, SystemPrompt
from quotas.models import Account, Bucket, Entry, Hold, Pack
from tests import factories
from tests.isolation import policy

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


def body_of(rule, method):
    rule = rule.of(method) if isinstance(rule, policy.Apis) else rule
    if isinstance(rule, policy.Key | policy.Api):
        return json.dumps(dict(rule.body)), "application/json"
    return "&".join(f"{name}={value}" for name, value in getattr(rule, "body", ())), "application/x-www-form-urlencoded"


def ask(client, method, address, body=("", ""), **headers):
    answer = client.generic(method, address, *([] if method in policy.SAFE else body), headers=headers)
    return answer, b"".join(answer).decode()
