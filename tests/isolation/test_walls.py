"""What the generated attempts cannot ask: reused connections, what is fixed for everybody, what crosses brands rightly."""

import asyncio
import threading

import pytest
from django.core.management import BaseCommand, call_command
from django.db import Error, IntegrityError, ProgrammingError, connections, transaction

from accounts.models import Profile, User, Visitor
from agents.models import Agent
from chatsite.isolation import trial
from chatsite.isolation.catalogue import walled
from conversations.models import Conversation, Message, Turn
from events import activity, stream
from events.models import Activity, Event
from lib.db import SERVICE, Principal, db, in_scope, on, scope
from lib.ids import uuid7
from providers.models import SystemPrompt
from quotas.models import Entry
from tests.factories import make_conversation, make_member, member

pytestmark = pytest.mark.django_db(transaction=True)


def refused(sql, params=None):
    """The error's code, of a statement that must not work, on the alias in force."""
    outcome = trial.attempt(sql, params)
    assert outcome.code, f"{sql} was let through: {outcome}"
    return outcome.code


def as_role(role, *, brand="", owner=""):
    """What scope() sends, sent by hand, so that the settings may be anything."""
    cursor = connections["default"].cursor()
    cursor.execute(
        "select set_config('role', %s, true), set_config('app.brand_id', %s, true), set_config('app.owner_id', %s, true)",
        [role, str(brand), str(owner)],
    )


def test_a_fresh_and_a_reused_connection_without_context_show_nothing(live_world):
    """I-21, M4: denied as the log-in, empty as the role, and never a cast error when the settings are '' or unset."""
    make_conversation(live_world.act, live_world.alice)
    with connections["owner"].cursor() as cursor:
        names = list(walled(cursor))
    connections["default"].close()

    for _ in ("fresh", "reused"):
        for name in names:
            assert refused(f"select from {name}") == trial.DENIED
        for role in ("app_user", "app_brand", "app_visitor"):
            with transaction.atomic():
                with connections["default"].cursor() as cursor:
                    cursor.execute("select set_config('role', %s, true)", [role])
                for name in names:
                    for sql in (f"select 1 from {name}", f"delete from {name}"):
                        outcome = trial.attempt(sql)
                        assert outcome.code == trial.DENIED or (outcome.code, outcome.count) == ("", 0), (role, sql)
        with scope(member(live_world.act, live_world.alice)):  # leaves '' behind, as any scope does
            assert Conversation.objects.count() == 1
        with connections["default"].cursor() as cursor:
            cursor.execute("select current_user, current_setting('app.brand_id', true)")
            assert cursor.fetchone() == ("web", "")


def test_half_a_context_shows_no_row(live_world):
    make_conversation(live_world.act, live_world.alice)
    act, alice = live_world.act.pk, live_world.alice.pk

    seen = []
    for brand, owner in ((act, ""), ("", alice), (live_world.globex.pk, alice), (act, live_world.bob.pk), (act, alice)):
        with transaction.atomic():
            as_role("app_user", brand=brand, owner=owner)
            seen.append(Conversation.objects.count())

    assert seen == [0, 0, 0, 0, 1]


def test_row_security_off_refuses_instead_of_showing(live_world):
    with scope(member(live_world.act, live_world.alice)), connections["default"].cursor() as cursor:
        cursor.execute("set local row_security = off")
        assert refused("select * from conversations_message") == trial.DENIED


def test_statistics_and_storage_of_the_database_tell_nothing_of_content(live_world):
    """pg_stats holds the most common values of each column; it hides tables whose rows are hidden."""
    make_conversation(live_world.act, live_world.alice, said=[("user", "my secret")] * 3)
    with connections["owner"].cursor() as cursor:
        cursor.execute("analyze conversations_message")

    for principal in (member(live_world.act, live_world.alice), member(live_world.globex, live_world.charlie)):
        with scope(principal):
            assert trial.attempt("select 1 from pg_stats where tablename = 'conversations_message'").count == 0
            assert refused("select 1 from pg_statistic") == trial.DENIED
    assert trial.attempt("select 1 from pg_stats where tablename = 'conversations_message'").count == 0


def test_another_brand_may_use_the_same_slug_mail_and_names(live_world):
    """I-28: uniqueness is per brand, and nobody learns what the other one took."""
    for brand, user in ((live_world.act, live_world.alice), (live_world.globex, live_world.charlie)):
        with scope(Principal("app_brand", brand.pk, user.pk)):
            Agent.objects.create(brand=brand, owner_id=user.pk, slug="helper", name="Helper", ai_model="demo")
            SystemPrompt.objects.create(brand=brand, name="Terse", prompt_text="Be brief.")
            with pytest.raises(IntegrityError), transaction.atomic():
                SystemPrompt.objects.create(brand=brand, name="Terse", prompt_text="Twice on one brand.")
        with scope(SERVICE):
            Visitor.objects.create(brand=brand, email="same@example.com")

    with scope(SERVICE):
        assert Agent.objects.filter(slug="helper").count() == 2


def test_entries_are_changed_and_deleted_by_nobody(transactional_db):
    """INV5."""
    with scope(SERVICE):
        act, _ = trial.make_sides()
    for principal in (SERVICE, act.principal("app_user"), act.principal("app_brand")):
        with scope(principal):
            assert Entry.objects.exists()
            for change in (
                "update quotas_entry set used_delta = 0",
                "delete from quotas_entry",
                "truncate quotas_entry",
            ):
                assert refused(change) == trial.DENIED
            assert refused("delete from quotas_bucket") == trial.DENIED
    with scope(act.principal("app_user")):
        assert refused("update quotas_bucket set used = 0") == trial.DENIED


def test_events_and_the_audit_log_only_grow(live_world):
    act, alice = live_world.act, live_world.alice
    with scope(member(act, alice)):
        stream.publish(act.pk, "member.joined", subject=("user", alice.pk), owner_id=alice.pk)
        activity.record(act.pk, "key.created", actor_id=alice.pk, resource=("api_key", uuid7()))
        for table in ("events_event", "events_activity"):
            assert refused(f"select from {table}") == trial.DENIED
    for principal in (SERVICE, Principal("app_brand", act.pk, alice.pk)):
        with scope(principal):
            assert Event.objects.filter(type="member.joined").exists()
            assert Activity.objects.filter(action="key.created").exists()
            for table in ("events_event", "events_activity"):
                assert refused(f"update {table} set created_at = now()") == trial.DENIED
                assert refused(f"delete from {table}") == trial.DENIED
    with pytest.raises(ProgrammingError), scope(member(act, alice)):
        stream.publish(live_world.globex.pk, "member.joined", subject=("user", alice.pk))


@pytest.mark.parametrize("flag", ["is_staff", "is_superuser"])
def test_nobody_makes_himself_staff(flag, live_world):
    """PLUMBING 9: the web log-in writes users, at sign-up and log-in; the flags are held by a trigger."""
    bob = live_world.bob.pk
    change = f"update accounts_user set {flag} = true where id = %s"

    assert refused(change, [bob]) == trial.DENIED
    for principal in (
        member(live_world.act, live_world.bob),
        Principal("app_brand", live_world.act.pk, live_world.alice.pk),
    ):
        with scope(principal):
            assert refused(change, [bob]) == trial.DENIED
    with pytest.raises(ProgrammingError):
        User.objects.create_user("eve@example.com", "a-long-password", **{flag: True})

    with scope(SERVICE):
        assert trial.attempt(change, [bob]).count == 1
    assert trial.attempt("update accounts_user set last_login = now() where id = %s", [live_world.staff.pk]).count == 1


def test_a_conversation_changes_hands_with_all_its_rows(live_world):
    """Adoption of an anonymous chat: the service changes the owner, the keys take messages and turns along."""
    act, bob = live_world.act, live_world.bob
    with scope(SERVICE):
        visitor = Visitor.objects.create(brand=act)
    with scope(Principal("app_visitor", act.pk, visitor.pk)):
        chat = Conversation.objects.create(
            brand=act, owner_id=visitor.pk, owner_kind="visitor", visitor_id=visitor.pk, title="Hello"
        )
        Message.objects.create(brand=act, owner_id=visitor.pk, conversation=chat, role="user", content="hi")
        turn = Turn(
            brand=act, owner_id=visitor.pk, conversation=chat, provider_id=uuid7(), heartbeat_at="2026-01-01T00:00Z"
        )
        turn.save(force_insert=True)
        assert refused("update conversations_conversation set owner_id = %s", [bob.pk]) == trial.DENIED

    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(owner_id=bob.pk, owner_kind="user")

    with scope(member(act, bob)):
        assert [rows.objects.filter(owner_id=bob.pk).count() for rows in (Conversation, Message, Turn)] == [1, 1, 1]
    with scope(Principal("app_visitor", act.pk, visitor.pk)):
        assert not Message.objects.exists()


def test_nobody_moves_a_conversation_to_another_brand(live_world):
    """The keys would take its messages along."""
    chat = make_conversation(live_world.act, live_world.alice, said=[("user", "hi")])
    with scope(member(live_world.act, live_world.alice)):
        change = "update conversations_conversation set brand_id = %s where id = %s"
        assert refused(change, [live_world.globex.pk, chat.pk]) == trial.DENIED


def test_one_person_on_two_brands_sees_one_brand_at_a_time(live_world):
    make_member(live_world.globex, live_world.alice)
    make_conversation(live_world.act, live_world.alice, "On act")
    make_conversation(live_world.globex, live_world.alice, "On globex")

    for brand, title in ((live_world.act, "On act"), (live_world.globex, "On globex")):
        with scope(member(brand, live_world.alice)):
            assert [chat.title for chat in Conversation.objects.all()] == [title]
            assert Profile.objects.get().pk == live_world.alice.pk


def test_a_strangers_key_or_guess_gets_nothing_from_the_lookups(live_world):
    """What `lookup` answers is one word for one pair, and a key only for its whole digest: nothing to page through."""
    with connections["default"].cursor() as cursor:
        for brand, owner in ((live_world.globex.pk, live_world.alice.pk), (live_world.act.pk, uuid7()), (None, None)):
            cursor.execute("select lookup.standing(%s, %s)", [brand, owner])
            assert cursor.fetchone() == (None,)
        for prefix, digest in (("%", "%"), ("", ""), ("' or true --", "x"), (None, None)):
            cursor.execute("select * from lookup.api_key(%s, %s)", [prefix, digest])
            assert cursor.fetchall() == []


# I-26: wherever the database is reached from, the context is right, or it is refused.


def titles():
    return [chat.title for chat in Conversation.objects.all()]


def test_a_generator_of_an_answer_is_outside_the_scope_and_refused(live_world):
    """M5: the body of a stream runs after the view; it may open its own scope, and has none by itself."""
    make_conversation(live_world.act, live_world.alice)
    with scope(member(live_world.act, live_world.alice)):
        late = (chat.title for chat in Conversation.objects.all().iterator())

    with pytest.raises(Error, match="permission denied"):
        next(late)


def test_a_thread_started_in_a_scope_has_none(live_world):
    make_conversation(live_world.act, live_world.alice)
    found = []

    def read():
        try:
            found.append(titles())
        except ProgrammingError as error:
            found.append(str(error).split("\n")[0])
        finally:
            connections.close_all()

    with scope(member(live_world.act, live_world.alice)):
        thread = threading.Thread(target=read)
        thread.start()
        thread.join()

    assert found == ["permission denied for table conversations_conversation"]


async def test_an_async_stream_opens_its_scopes_one_by_one(live_world):
    """Also when its task was started while a scope was open: the context it copied is not a scope."""
    world = live_world

    def prepare():
        make_conversation(world.act, world.alice, "Alice's")
        make_conversation(world.globex, world.charlie, "Charlie's")

    await db(prepare)

    async def stream_of(principal):
        for _ in range(3):
            yield await db(in_scope(principal, titles))

    async def read(principal):
        return [page async for page in stream_of(principal)]

    def start(loop):
        with scope(member(world.act, world.alice)):
            return asyncio.run_coroutine_threadsafe(read(member(world.globex, world.charlie)), loop)

    mixed = await asyncio.gather(read(member(world.act, world.alice)), read(member(world.globex, world.charlie)))
    with_copied_context = await asyncio.wrap_future(await db(start, asyncio.get_running_loop()))

    assert mixed == [[["Alice's"]] * 3, [["Charlie's"]] * 3]
    assert with_copied_context == [["Charlie's"]] * 3


async def test_async_code_without_a_scope_is_refused(live_world):
    with pytest.raises(ProgrammingError, match="permission denied"):
        await db(titles)


def test_a_command_is_refused_on_either_alias_until_it_says_for_whom(live_world):
    make_conversation(live_world.act, live_world.alice, "Alice's")
    make_conversation(live_world.globex, live_world.charlie, "Charlie's")

    class Command(BaseCommand):
        principal = None

        def handle(self, *args, **options):
            if self.principal is None:
                return str(titles())
            with scope(self.principal):
                return str(titles())

    class ForAlice(Command):
        principal = member(live_world.act, live_world.alice)

    for alias in ("default", "service"):
        with on(alias):
            with pytest.raises(ProgrammingError, match="permission denied"):
                call_command(Command())
            assert call_command(ForAlice()) == '["Alice\'s"]'
    with scope(SERVICE):
        assert len(titles()) == 2
