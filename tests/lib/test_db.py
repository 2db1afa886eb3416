"""scope(): one transaction, one principal, proved membership; and what is left on a connection afterwards: nothing."""

import asyncio
import random
import threading
from collections import Counter
from contextlib import suppress

import pytest
from django.db import DatabaseError, DataError, connections, transaction

from accounts.models import Membership, Visitor
from conversations.models import Conversation
from lib import db as lib_db
from lib.db import SERVICE, Principal, current_alias, db, in_scope, on, on_commit, scope
from lib.errors import NotFound
from lib.ids import uuid7
from tests.factories import make_conversation, make_member, make_user, member

LIVE = pytest.mark.django_db(transaction=True)


def titles():
    return sorted(Conversation.objects.values_list("title", flat=True))


def where():
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(
            "select current_user::text, nullif(current_setting('app.brand_id', true), ''),"
            " nullif(current_setting('app.owner_id', true), '')"
        )
        return cursor.fetchone()


@pytest.fixture
def pooled(transactional_db):
    """The connections of production: from a pool smaller than the number of threads that want one."""
    aliases = ("default", "service")
    for alias in aliases:
        connections[alias].close()
        connections.settings[alias]["OPTIONS"] = {"pool": {"min_size": 1, "max_size": 4, "timeout": 20}}
    yield
    for alias in aliases:
        connections[alias].close()
        connections[alias].close_pool()
        connections.settings[alias]["OPTIONS"] = {}


def test_scope_takes_the_role_and_gives_it_back(world):
    before = where()
    with scope(member(world.act, world.alice)) as standing:
        assert standing == "owner"
        assert where() == ("app_user", str(world.act.pk), str(world.alice.pk))

    assert where() == before == (before[0], None, None)


@LIVE
def test_the_same_scope_inside_is_a_savepoint(live_world):
    alice = member(live_world.act, live_world.alice)

    def give_up():
        with scope(alice) as standing:
            assert standing == "owner"
            Conversation.objects.create(brand=live_world.act, owner_id=live_world.alice.pk, title="Given up")
            raise ZeroDivisionError

    with scope(alice):
        Conversation.objects.create(brand=live_world.act, owner_id=live_world.alice.pk, title="Kept")
        with pytest.raises(ZeroDivisionError):
            give_up()
        assert where()[0] == "app_user"

    with scope(alice):
        assert titles() == ["Kept"]


def test_another_principal_inside_is_refused_and_the_outer_scope_goes_on(world):
    alice, bob = member(world.act, world.alice), member(world.act, world.bob)
    for outer in (alice, SERVICE):
        for inner in {alice, bob, SERVICE, Principal("app_brand", world.act.pk, world.alice.pk)} - {outer}:
            with scope(outer):
                with pytest.raises(RuntimeError, match="another scope"), scope(inner):
                    pytest.fail("entered")
                assert where()[0] == outer.role


@LIVE
@pytest.mark.parametrize("principal", ["member", "service"])
def test_what_waits_for_the_commit_runs_outside_the_scope(principal, live_world):
    """So a hook may open a scope of its own, for anybody."""
    who = SERVICE if principal == "service" else member(live_world.act, live_world.alice)
    seen = []

    def hook():
        with scope(member(live_world.globex, live_world.charlie)):
            seen.append((current_alias(), where()[0]))

    with scope(who):
        on_commit(hook)
        assert seen == []

    assert seen == [("default", "app_user")]


@LIVE
def test_what_waits_for_the_commit_is_forgotten_when_there_is_none(live_world):
    seen = []

    def crash():
        with scope(member(live_world.act, live_world.alice)):
            on_commit(lambda: seen.append("told"))
            Conversation.objects.create(brand=live_world.act, owner_id=live_world.alice.pk, title="Never")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        crash()

    with scope(member(live_world.act, live_world.alice)):
        assert titles() == seen == []


@LIVE
def test_a_swallowed_database_error_is_not_taken_for_success(live_world):
    """PostgreSQL answers COMMIT with a silent ROLLBACK then, so the caller would believe that its rows are stored."""
    alice = member(live_world.act, live_world.alice)

    def swallow():
        with scope(alice):
            Conversation.objects.create(brand=live_world.act, owner_id=live_world.alice.pk, title="Lost")
            with suppress(DataError), connections["default"].cursor() as cursor:
                cursor.execute("select 1 / 0")

    with pytest.raises(RuntimeError, match="swallowed"):
        swallow()

    with scope(alice):
        assert titles() == []
        transaction.set_rollback(True)  # asked for: not an error


def test_strangers_and_the_removed_find_nothing(world):
    """I-11: standing is proved when the scope opens, each time."""
    alice, bob = member(world.act, world.alice), member(world.act, world.bob)
    with scope(SERVICE):
        visitor = Visitor.objects.create(brand=world.act)
    strangers = [
        member(world.globex, world.alice),
        member(world.act, world.charlie),
        Principal("app_user", world.act.pk, uuid7()),
        Principal("app_user", uuid7(), world.alice.pk),
        Principal("app_user", world.act.pk, None),
        Principal("app_user", None, world.alice.pk),
        Principal("app_user", world.act.pk, visitor.pk),
        Principal("app_visitor", world.act.pk, world.alice.pk),
        Principal("app_visitor", world.globex.pk, visitor.pk),
        Principal("app_brand", world.act.pk, world.bob.pk),
        Principal("app_brand", world.act.pk, visitor.pk),
        Principal("app_brand", world.act.pk, None),
    ]
    for stranger in strangers:
        with pytest.raises(NotFound), scope(stranger):
            pytest.fail(f"{stranger} got in")
    with scope(Principal("app_visitor", world.act.pk, visitor.pk)) as standing:
        assert standing == "visitor"

    for change, undo in (
        (lambda: Membership.objects.filter(user=world.bob).delete(), lambda: make_member(world.act, world.bob)),
        (lambda: set_active(world.bob, False), lambda: set_active(world.bob, True)),
        (lambda: set_active(world.act, False), lambda: set_active(world.act, True)),
    ):
        with scope(bob):
            pass
        with scope(SERVICE):
            change()
        with pytest.raises(NotFound), scope(bob):
            pytest.fail("still in")
        with scope(SERVICE):
            undo()
    with scope(alice):
        pass


def set_active(row, is_active):
    type(row).objects.filter(pk=row.pk).update(is_active=is_active)


@pytest.mark.parametrize(("role", "may"), [("owner", True), ("admin", True), ("member", False)])
def test_the_whole_brand_opens_to_its_admins_only(role, may, world):
    user = make_user("dave@example.com")
    make_member(world.act, user, role)
    make_conversation(world.act, world.bob, "Bob's")

    try:
        with scope(Principal("app_brand", world.act.pk, user.pk)) as standing:
            assert (standing, titles()) == (role, ["Bob's"])
            entered = True
    except NotFound:
        entered = False

    assert entered is may


def test_a_role_that_no_principal_has_is_refused(world):
    for role in ("app_lookup", "owner", "postgres", "none", "app_public"):
        with pytest.raises((DatabaseError, KeyError, NotFound)), scope(Principal(role, world.act.pk, world.alice.pk)):
            pytest.fail(f"became {role}")
    assert where()[1:] == (None, None)


@LIVE
async def test_a_scope_that_a_task_inherited_is_not_taken_for_open(live_world):
    """A task copies the context of whoever starts it; the scope in there is of another thread, or long closed."""
    alice = member(live_world.act, live_world.alice)

    def begin(loop):
        with scope(alice):
            return asyncio.run_coroutine_threadsafe(later(), loop)

    async def later():
        assert lib_db._open.get() is not None
        return await db(in_scope(alice, where))

    task = await db(begin, asyncio.get_running_loop())

    assert (await asyncio.wrap_future(task))[0] == "app_user"


@LIVE
def test_eight_hundred_mixed_transactions_show_nobody_a_wrong_row(live_world, pooled):
    """Eight threads on four connections; a third of them fail, in every way a scope can end."""
    world = live_world
    people = {
        "alice": member(world.act, world.alice),
        "bob": member(world.act, world.bob),
        "charlie": member(world.globex, world.charlie),
        "act": Principal("app_brand", world.act.pk, world.alice.pk),
        "globex": Principal("app_brand", world.globex.pk, world.charlie.pk),
        "everybody": SERVICE,
    }
    sees = {"act": {"alice", "bob"}, "globex": {"charlie"}, "everybody": {"alice", "bob", "charlie"}}
    writers = ("alice", "bob", "charlie")
    stored, wrong, ends, lock = Counter(), [], Counter(), threading.Lock()

    def one(rng):
        name = rng.choice(list(people))
        principal = people[name]
        end = rng.choice(["well", "well", "well", "well", "crash", "database", "swallowed", "asked", "stranger"])
        try:
            if end == "stranger":
                principal = Principal("app_brand", world.act.pk, world.bob.pk)
            with on(rng.choice(["default", "service"])), scope(principal):
                seen = set(titles())
                if not seen <= sees.get(name, {name}) or where()[0] != principal.role:
                    wrong.append((name, seen))
                if name in writers:
                    Conversation.objects.create(brand_id=principal.brand_id, owner_id=principal.owner_id, title=name)
                if end == "crash":
                    raise ZeroDivisionError
                if end in ("database", "swallowed"):
                    try:
                        with connections[current_alias()].cursor() as cursor:
                            cursor.execute("select 1 / 0")
                    except DataError:
                        if end == "database":
                            raise
                if end == "asked":
                    transaction.set_rollback(True, using=current_alias())
        except (ZeroDivisionError, DataError, NotFound, RuntimeError) as error:
            kind = type(error).__name__
        else:
            kind = "rolled back" if end == "asked" else "stored"
        with lock:
            ends[kind] += 1
            if kind == "stored" and name in writers:
                stored[name] += 1
        for alias in ("default", "service"):
            if rng.random() < 0.5:
                connections[alias].close()

    def many(seed):
        rng = random.Random(seed)
        try:
            for _ in range(100):
                one(rng)
        except Exception as error:
            wrong.append(error)
        finally:
            connections.close_all()

    threads = [threading.Thread(target=many, args=[seed]) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)

    assert wrong == []
    assert ends.total() == 800
    assert min(ends[kind] for kind in ("stored", "rolled back", "ZeroDivisionError", "DataError", "RuntimeError")) > 10
    assert ends["NotFound"] > 10
    with scope(SERVICE):
        assert Counter(Conversation.objects.values_list("title", flat=True)) == stored
    connections["service"].close()
    for alias in ("default", "service"):
        stats = connections[alias].pool.get_stats()
        assert stats["pool_available"] == stats["pool_size"], alias
