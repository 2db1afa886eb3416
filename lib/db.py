"""Who is asking, and the only way to a row that belongs to a brand.

`with scope(principal):` is one transaction on one connection, in which the database itself shows this principal's rows
and no others: its first statement takes the role and states brand and owner, and membership is proved in that same
statement. Nothing here trusts the caller's word for it. See docs/architecture.md, "Isolation".
"""

import asyncio
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from typing import Any, Literal, ParamSpec, TypeVar
from uuid import UUID

import psycopg
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import connections, transaction
from django.utils import translation
from django.utils.translation import gettext as _
from psycopg.pq import TransactionStatus
from psycopg.rows import namedtuple_row

from lib.errors import NotFound
from lib.hops import Hops

P = ParamSpec("P")
T = TypeVar("T")
NOBODY = UUID(int=0)
Role = Literal["app_user", "app_brand", "app_reader", "app_visitor", "app_service"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, on which brand. Made by accounts.access from a session, a key or a token, never from a header.

    role      the database's, but for app_reader: a member who reads what app_brand sees and writes nothing, where the
              brand shares its history
    owner_id  the user or visitor whose rows these are; the service is nobody, on no brand
    scopes    what an API key may do; None = everything its person may do
    models    the models that an API key may ask; None = all that are offered
    for_brand  an API key that is the brand's: its person asks, and the brand's pool pays
    is_counted  this call was counted when it came: no question that it asks is one more
    """

    role: Role
    brand_id: UUID = NOBODY
    owner_id: UUID = NOBODY
    key_id: UUID | None = None
    scopes: frozenset[str] | None = field(default=None)
    models: frozenset[str] | None = None
    for_brand: bool = False
    is_counted: bool = field(default=False, compare=False)

    def may(self, scope: str) -> bool:
        return self.scopes is None or scope in self.scopes

    @property
    def payer(self) -> tuple[str, UUID]:
        """Whose plan pays for what this one asks: kind and id of an account of the meter."""
        if self.for_brand:
            return "brand", self.brand_id
        return "visitor" if self.role == "app_visitor" else "user", self.owner_id


SERVICE = Principal("app_service")


@dataclass(slots=True)
class _Open:
    """A scope that is open. Tasks and threads copy the context it was opened in, so it says itself when that ended."""

    principal: Principal
    using: str
    standing: str
    connection: Any

    def is_here(self) -> bool:
        return self.connection is not None and self.connection is connections[self.using]


Statement = tuple[str, Mapping[str, Any]]
Rows = list[Any]

_alias: ContextVar[str] = ContextVar("alias", default="default")
_open: ContextVar["_Open | None"] = ContextVar("open_scope", default=None)

# One SELECT both takes the role and proves the right to it: lookup.standing() answers 'member', 'admin', 'owner',
# 'visitor' or NULL for (brand, owner) as it is at this moment; a removed member has none.
ENTER = """
select set_config('role', %(role)s, true) as role, set_config('app.brand_id', %(brand)s::text, true) as brand_id,
       set_config('app.owner_id', %(owner)s::text, true) as owner_id,
       set_config('app.standing', coalesce(lookup.standing(%(brand)s::uuid, %(owner)s::uuid), ''), true) as standing
"""
# A reader's transaction takes no writing from here on, and the brand's own word is asked for in the same statement.
AND_READ_ONLY = """, set_config('transaction_read_only', 'on', true) as reads_only,
       (select shared_history from accounts_brand where id = %(brand)s::uuid) as is_shared"""
ENTER_TO_READ = ENTER + AND_READ_ONLY
# The lock is had before the next statement takes its snapshot, so nothing of what that one finds is out of date.
ALONE = "select pg_advisory_xact_lock(%(key)s)"
AND_ALONE = ", pg_advisory_xact_lock(%(key)s) as alone"
ENTER_ALONE = ENTER + AND_ALONE
ENTER_SERVICE = "select set_config('role', 'app_service', true)"
# For work that need not be on the disk by itself: any later commit that waits for the disk takes it along, because the
# log is written in order. What a crash of the database could lose is then what nobody was told of yet.
ENTER_SERVICE_LAZILY = ENTER_SERVICE + ", set_config('synchronous_commit', 'off', true) as lazily"
LEAVE = """
select set_config('role', 'none', true), set_config('app.brand_id', '', true), set_config('app.owner_id', '', true),
       set_config('app.standing', '', true)
"""

MEMBERS = ("member", "admin", "owner")
ALLOWED = {"app_user": MEMBERS, "app_brand": ("admin", "owner"), "app_reader": MEMBERS, "app_visitor": ("visitor",)}


class Router:
    """Every query goes to the alias that `on()` names: `default` for people, `service` for our own work."""

    def db_for_read(self, model: Any, **hints: Any) -> str:
        return _alias.get()

    db_for_write = db_for_read

    def allow_relation(self, a: Any, b: Any, **hints: Any) -> bool:
        return True  # every alias is the same database

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool:
        return db == "owner"


@contextmanager
def on(alias: str) -> Iterator[None]:
    token = _alias.set(alias)
    try:
        yield
    finally:
        _alias.reset(token)


def current_alias() -> str:
    return _alias.get()


@contextmanager
def scope(principal: Principal) -> Iterator[str]:
    """Open the database to `principal` for one unit of work, and give its standing on the brand.

    Raises  NotFound when it has none: a stranger learns nothing, not even that the brand is there
    Nesting the same scope is a savepoint; another principal inside is a bug and raises RuntimeError.
    Hooks given to transaction.on_commit run after the scope has closed.
    """
    with opening(principal):
        opened = _open.get()
        assert opened is not None
        yield opened.standing


@contextmanager
def opening(principal: Principal, *statements: Statement, key: UUID | None = None) -> Iterator[list[Rows]]:
    """`scope()` for the hot path: its first statements travel with BEGIN and the role in one round trip.

    key  one transaction at a time has it: the statements see all that an earlier one did
    Gives the rows of each statement. They are there before standing is checked, and gone with the transaction if it fails.
    """
    using = "service" if principal.role == "app_service" else _alias.get()
    outer = _open.get()
    if outer is not None and outer.is_here():
        if (outer.using, outer.principal) != (using, principal):
            raise RuntimeError("another scope is open")
        with transaction.atomic(using=using):
            yield send(*statements) if key is None else send((ALONE, {"key": _number(key)}), *statements)[1:]
        return
    connection = connections[using]
    with transaction.atomic(using=using), on(using):
        inside_test = len(connection.atomic_blocks) > 1
        standing, rows = _enter(connection, principal, statements, key)
        opened = _Open(principal, using, standing, connection)
        token = _open.set(opened)
        try:
            yield rows
            if not connection.needs_rollback:
                _refuse_to_lose(connection)
                if inside_test:  # a rolled-back test goes on in this transaction
                    with connection.cursor() as cursor:
                        cursor.execute(LEAVE)
        finally:
            opened.connection = None
            _open.reset(token)


def scope_is_open() -> bool:
    """Whether a transaction of ours is open here. Nothing may then wait for the network."""
    outer = _open.get()
    return outer is not None and outer.is_here()


def who_asks() -> Principal | None:
    """Whose scope is open here; None = nobody's."""
    outer = _open.get()
    return outer.principal if outer is not None and outer.is_here() else None


def send(*statements: Statement) -> list[Rows]:
    """Run statements in the open scope, in one round trip; each is prepared once per connection."""
    return pipeline(connections[_alias.get()], statements)


def pipeline(connection: Any, statements: Iterable[Statement]) -> list[Rows]:
    """Several statements in one round trip, and their rows as named tuples. In autocommit they are one transaction."""
    connection.ensure_connection()
    raw, cursors = connection.connection, []
    with connection.wrap_database_errors, raw.pipeline():
        for sql, names in statements:
            cursor = psycopg.Cursor(
                raw, row_factory=namedtuple_row
            )  # Django's own bind on the client and never prepare
            cursor.execute(sql, names, prepare=True)
            cursors.append(cursor)
            if connection.queries_logged:
                connection.queries_log.append({"sql": sql, "time": "0"})
    return [cursor.fetchall() if cursor.description else [] for cursor in cursors]


def serve(*statements: Statement, lazily: bool = False) -> list[Rows]:
    """Run statements as the service: in the caller's service scope, or alone, and committed when this returns.

    lazily  the commit does not wait for the disk; a later one that does takes it along
    """
    service = connections["service"]
    if _alias.get() == "service" and service.in_atomic_block:
        return send(*statements)
    if service.in_atomic_block or connections[_alias.get()].in_atomic_block:
        with opening(SERVICE, *statements) as rows:  # a test's transaction; in any other scope this refuses
            return rows
    # In autocommit, what one pipeline sends is one transaction, so the role lasts exactly as long as the statements.
    return pipeline(service, [(ENTER_SERVICE_LAZILY if lazily else ENTER_SERVICE, {}), *statements])[1:]


def _enter(
    connection: Any, principal: Principal, statements: Iterable[Statement], key: UUID | None
) -> tuple[str, list[Rows]]:
    names: dict[str, Any] = {} if key is None else {"key": _number(key)}
    if principal.role == "app_service":
        enter = ENTER_SERVICE if key is None else ENTER_SERVICE + AND_ALONE
        return "service", pipeline(connection, [(enter, names), *statements])[1:]
    reads_only = principal.role == "app_reader"
    names |= {"brand": principal.brand_id, "owner": principal.owner_id}
    names["role"] = "app_brand" if reads_only else principal.role
    enter = ENTER_TO_READ if reads_only else ENTER if key is None else ENTER_ALONE
    (entered,), *rows = pipeline(connection, [(enter, names), *statements])
    standing: str = entered.standing
    if standing not in ALLOWED[principal.role] or (reads_only and not entered.is_shared):
        raise NotFound(_("There is nothing here for you."))
    return standing, rows


def _number(key: UUID) -> int:
    """The random half of a uuid7, as a bigint."""
    return int.from_bytes(key.bytes[8:], signed=True)


def _refuse_to_lose(connection: Any) -> None:
    """Nobody may swallow a database error: PostgreSQL answers the COMMIT after it with a silent ROLLBACK."""
    raw = connection.connection
    if raw is not None and raw.info.transaction_status == TransactionStatus.INERROR:
        raise RuntimeError("a database error was swallowed, so nothing of this scope can be stored")


def on_commit(work: Callable[[], Any]) -> None:
    """Do `work` once the open transaction has committed, whichever alias it is on."""
    transaction.on_commit(work, using=_alias.get())


CLOCK_HOPS = 4


@functools.cache
def _for_people() -> Hops:
    return Hops(settings.DB_HOPS)


@functools.cache
def _by_the_clock() -> ThreadPoolExecutor:
    """The clock's work (heartbeats, ends of turns) has threads of its own: however long people wait, it goes on."""
    return ThreadPoolExecutor(CLOCK_HOPS, "clock")


def waiting() -> dict[str, int]:
    """How many hops are in line for a thread, of people's work and of the clock's."""
    return {"people": _for_people().waiting(), "clock": _by_the_clock()._work_queue.qsize()}


# No or a broken connection; no room on the disk, in memory, for connections; a transaction that was idle for too long;
# shut down, crashed, starting up.
AWAY = ("08", "53", "25P03", "57P01", "57P02", "57P03")


def close_all() -> None:
    """Give every connection of this thread back to its pool."""
    for connection in connections.all(initialized_only=True):
        if not connection.in_atomic_block:
            connection.close()


async def db(work: Callable[..., T], *args: Any, by_the_clock: bool = False, **kwargs: Any) -> T:
    """Run `work`, which may use the database, from async code: one hop to a bounded set of threads.

    Raises  Unavailable when too many of one's own brand are waiting already
    """
    if settings.DB_INLINE:
        return await sync_to_async(work, thread_sensitive=True)(*args, **kwargs)
    context, language = copy_context(), translation.get_language()

    def speaking() -> T:
        with translation.override(language):  # Django keeps it by thread, whatever the context says
            return work(*args, **kwargs)

    def run() -> T:
        try:
            return context.run(speaking)
        finally:
            close_all()

    threads = _by_the_clock() if by_the_clock else _for_people()
    return await asyncio.wrap_future(threads.submit(run))


def database_is_away(error: BaseException | None) -> bool:
    """Whether this error means that the database could do nothing for anybody, so that 503 is the honest answer."""
    while error is not None:
        if isinstance(error, psycopg.Error):
            state = error.sqlstate or (AWAY[0] if isinstance(error, psycopg.OperationalError) else "")
            if state.startswith(AWAY):
                return True
        error = error.__cause__
    return False


# How many seconds the database may be silent in this piece of work; None = DATABASE_SILENCE_S. See lib.postgres.
patience: ContextVar[float | None] = ContextVar("patience", default=None)


@contextmanager
def patient_for(seconds: float) -> Iterator[None]:
    token = patience.set(seconds)
    try:
        yield
    finally:
        patience.reset(token)


def in_scope(principal: Principal, work: Callable[P, T]) -> Callable[P, T]:
    @functools.wraps(work)
    def scoped(*args: P.args, **kwargs: P.kwargs) -> T:
        with scope(principal):
            return work(*args, **kwargs)

    return scoped
