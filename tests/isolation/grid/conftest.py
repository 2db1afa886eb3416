"""Who stands on the stage, and what stands in everybody's books."""

import logging
from datetime import timedelta

import pytest
from allauth.account.models import EmailAddress
from django.contrib.auth.models import Group
from django.db import connection, transaction
from django.test import Client
from django.utils import timezone

from accounts import keys
from accounts.models import ApiKey, Membership, SupportGrant, User
from agents.models import Agent
from billing.models import (
    BillingTransaction,
    Customer,
    OverageReport,
    Plan,
    StripeEvent,
)
from chatsite.isolation.catalogue import walled
from conversations.models import Attachment, BrandTemplate, Conversation, Export, Message, Share
from events import activity, notices
from events.models import (
    Activity,
    Alarm,
    BlockedAddress,
    DeadLetter,
    EmailLog,
    WebhookDelivery,
    WebhookEndpoint,
)
from lib.db import SERVICE, scope
from lib.ids import uuid7
from providers.models import Fallback, Place, ProviderKey, SystemPrompt
from quotas import ledger
from quotas.models import Account, Entry
from tests import factories
from tests.isolation.grid.scene import ROWS, Scene, make_talk, make_visitor, talk_in


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


@pytest.fixture
def books(db):
    """What stands in every table behind the walls, but for the rows of one person on one brand."""
    with connection.cursor() as cursor, transaction.atomic():
        cursor.execute("set local role app_service")
        tables = list(walled(cursor).values())
        cursor.execute("set local role none")
    own = {"events_activity": "actor_id", "events_event": "owner_id"}

    def rows_of_others(brand, user, also=()):
        """The brand's own accounts are everybody's who may spend from them.

        also  who came in this request, and the brand that paid for them, where it is not the asker's
        """
        parts = []
        for table in tables:
            brand_column = "brand_id = %(brand)s" if "brand_id" in table.columns else "true"
            owner_column = own.get(table.name, table.owner_column)
            mine = (
                f"{brand_column} and {owner_column} = any(%(own)s) or {owner_column} = any(%(also)s)"
                if owner_column
                else "false"
            )
            parts.append(
                f"select '{table.name}', md5(coalesce(string_agg(t::text, '|' order by t.id), '')) "
                f'from "{table.name}" t where ({mine}) is not true'.replace("t.id", "t::text")
            )
        parts.append(
            "select 'accounts_user', md5(string_agg(t::text, '|' order by id)) from accounts_user t where id <> %(user)s"
        )
        with scope(SERVICE), connection.cursor() as cursor:
            cursor.execute(
                " union all ".join(parts), {"brand": brand, "user": user, "own": [user, brand], "also": [*also]}
            )
            return dict(cursor.fetchall())

    return rows_of_others
