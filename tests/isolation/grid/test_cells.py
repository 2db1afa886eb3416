"""Every route × every method × everybody, made from the URLconf: status, rows, words and caching.

Each cell runs in a transaction that is rolled back, so that the cells know nothing of each other.
"""

import pytest
from django.db import connection, transaction
from django.utils import timezone

from conversations.models import Conversation
from lib.db import SERVICE, scope
from tests.isolation import policy
from tests.isolation.grid.routes import ROUTES, methods
from tests.isolation.grid.scene import ask, body_of

pytestmark = pytest.mark.timeout(600)  # one actor is hundreds of requests, on a busy machine too


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


@pytest.mark.parametrize("actor", policy.ACTORS)
def test_everybody_gets_what_the_policy_says_and_touches_only_his_own(scene, books, actor):
    """I-02, I-04, I-15: status, foreign rows, foreign words and caching, in every cell of this actor."""
    user, client = scene.user(actor), scene.browser(actor)
    brand = scene.world.globex if actor in ("other_brand_at_home", "key_other_brand") else scene.world.act
    bobs = dict.fromkeys(("key", "key_wrong_scope"), scene.world.bob)
    holder = {**bobs, "key_other_brand": scene.world.charlie}.get(actor, user)
    wrong, count = [], 0
    holder_id = scene.visitors[actor][0] if actor in scene.visitors else holder and holder.pk
    # To a page of act's, a key of globex is nothing: a stranger asks, and act pays.
    asked = {scene.world.act.pk} if actor == "key_other_brand" else set()
    before, written = books(brand.pk, holder_id, asked), writes()
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
                after = books(brand.pk, holder_id, asked | scene.newcomers()) if now_written != written else before
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
