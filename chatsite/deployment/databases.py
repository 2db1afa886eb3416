"""PostgreSQL: whether the log-ins are the right ones, the server is fit, and there is room."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.conf import settings
from django.db import DatabaseError, connections
from django.db.migrations.executor import MigrationExecutor

from chatsite import isolation
from chatsite.deployment.finding import Finding
from chatsite.isolation.catalogue import rows
from lib import clock as database_clock

VARIABLES = {"default": "DATABASE_URL", "service": "DATABASE_SERVICE_URL"}
WORKERS = 2  # processes besides web that keep a pool: worker and beat
SKEW_S, MUCH_SKEW_S = 2, 60


@contextmanager
def _asked(alias: str) -> Iterator[Any]:
    """A cursor, or None when the log-in does not work: log_ins() says so, once."""
    try:
        cursor = connections[alias].cursor()
    except DatabaseError:
        yield None
        return
    with cursor:
        yield cursor


def log_ins() -> Iterator[Finding]:
    for alias, variable in VARIABLES.items():
        try:
            with connections[alias].cursor() as cursor:
                yield from _fit(alias, variable, cursor)
        except DatabaseError as error:
            yield Finding(
                "error",
                "database",
                f"{variable} does not work: {str(error).strip().splitlines()[-1]}",
                "Nothing can be read or stored; every page answers 503.",
                f"Check address, password and firewall of {variable}; `manage.py bootstrap_roles` makes the log-ins.",
            )


def _fit(alias: str, variable: str, cursor: Any) -> Iterator[Finding]:
    ((login, is_mighty, is_owner, is_service),) = rows(
        cursor,
        """
        select session_user, rolsuper or rolbypassrls or rolcreaterole,
               exists (select from pg_class where relowner = r.oid and relnamespace = 'public'::regnamespace),
               exists (select from pg_roles where rolname = 'app_service') and pg_has_role('app_service', 'set')
        from pg_roles r where rolname = session_user
        """,
    )
    use = f"Let {variable} log in as {'web' if alias == 'default' else 'worker'} (`manage.py bootstrap_roles`)."
    if is_mighty or is_owner:
        why = "owns the tables" if is_owner and not is_mighty else "is superuser, BYPASSRLS or CREATEROLE"
        effect = "It walks through the walls between brands. /readyz answers 503."
        yield Finding("error", "database", f"The log-in {login} of {variable} {why}.", effect, use)
    elif alias == "default" and is_service:
        effect = "A forgotten filter in a page would show every brand's rows."
        yield Finding("error", "database", f"The log-in {login} of {variable} may become app_service.", effect, use)
    elif alias == "service" and not is_service:
        effect = "Nothing can be metered, so no question is answered."
        yield Finding("error", "database", f"The log-in {login} of {variable} may not become app_service.", effect, use)


def one_database() -> Iterator[Finding]:
    seen = set()
    for alias in VARIABLES:
        with _asked(alias) as cursor:
            if cursor is None:
                return
            question = "select oid, pg_postmaster_start_time() from pg_database where datname = current_database()"
            seen.add(rows(cursor, question)[0])
    if len(seen) > 1:
        yield Finding(
            "error",
            "database",
            "DATABASE_URL and DATABASE_SERVICE_URL lead to two different databases.",
            "Questions are stored in one and charged in the other.",
            "Give both the same host, port and name.",
        )


def server() -> Iterator[Finding]:
    with _asked("default") as cursor:
        if cursor is None:
            return
        ((version, has_vectors, encrypted),) = rows(
            cursor,
            "select current_setting('server_version_num')::int / 10000,"
            " exists (select from pg_extension where extname = 'vector'),"
            " coalesce(inet_client_addr() <<= '127.0.0.0/8' or inet_client_addr() = '::1', true)"
            " or exists (select from pg_stat_ssl where pid = pg_backend_pid() and ssl)",
        )
    if version < 16:
        yield Finding(
            "error",
            "database",
            f"The server is PostgreSQL {version}.",
            "Older ones than 16 cannot say per membership what is inherited, so the walls cannot be built.",
            "Move to PostgreSQL 16 or newer.",
        )
    if not has_vectors:
        yield Finding(
            "warning",
            "database",
            "The extension vector is not in this database.",
            "Agents will not be able to search documents.",
            "Install pgvector on the server, then `create extension vector` as a superuser.",
        )
    if not encrypted:
        yield Finding(
            "warning",
            "database",
            "The connection to the database leaves this machine unencrypted.",
            "Whoever listens on the way reads what members write.",
            "Add ?sslmode=verify-full to the addresses (or keep both in one private network, and leave it).",
        )


def pooler() -> Iterator[Finding]:
    """A pooler gives its own number for the session; the server tells another one."""
    with _asked("default") as cursor:
        if cursor is None:
            return
        told = connections["default"].connection.info.backend_pid
        ((real,),) = rows(cursor, "select pg_backend_pid()")
    if told != real and settings.PREPARE is not None:
        yield Finding(
            "warning",
            "database",
            "There is a pooler in front of the database, and PREPARE_STATEMENTS is on.",
            "A pgbouncer older than 1.21, or one with max_prepared_statements = 0, answers `prepared statement does not "
            "exist` now and then.",
            "Set PREPARE_STATEMENTS=0, or pgbouncer's max_prepared_statements = 200.",
        )
    if told != real and "backup" not in settings.DATABASES:
        yield Finding(
            "error",
            "backups",
            "DATABASE_SERVICE_URL leads through a pooler, and DATABASE_BACKUP_URL is not set.",
            "`backup` refuses to work: a pooler would change its session in the middle.",
            "Set DATABASE_BACKUP_URL to the log-in worker at PostgreSQL itself.",
        )


def room() -> Iterator[Finding]:
    with _asked("default") as cursor:
        if cursor is None:
            return
        told = connections["default"].connection.info.backend_pid
        ((real, most),) = rows(
            cursor,
            "select pg_backend_pid(), current_setting('max_connections')::int"
            " - current_setting('superuser_reserved_connections')::int",
        )
    processes = most // (2 * settings.WEB_POOL)
    if told == real and processes < WORKERS + 2:
        yield Finding(
            "warning",
            "database",
            f"The server takes {most} connections; a process may want {2 * settings.WEB_POOL} (two log-ins of WEB_POOL).",
            f"With worker and beat there is room for {max(0, processes - WORKERS)} web processes under full load; "
            "beyond it, questions are refused with 503.",
            "Raise max_connections, lower WEB_POOL (with DB_HOPS below it), or put deploy/pgbouncer in between.",
        )
    if settings.DB_HOPS >= settings.WEB_POOL:
        yield Finding(
            "warning",
            "database",
            f"DB_HOPS is {settings.DB_HOPS}, WEB_POOL only {settings.WEB_POOL}.",
            "Under load, streams and pages wait for each other's connections.",
            "Keep DB_HOPS a few below WEB_POOL.",
        )


def migrations() -> Iterator[Finding]:
    with _asked("default") as cursor:
        if cursor is None:
            return
    try:
        executor = MigrationExecutor(connections["default"])
        plan = executor.migration_plan(executor.loader.graph.leaf_nodes())
    except DatabaseError:
        plan, names = [], "all of them"
    else:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _ in plan[:3])
    if names:
        yield Finding(
            "error",
            "migrations",
            f"Not applied yet: {names}{' ...' if len(plan) > 3 else ''}",
            "This release asks for tables and columns that are not there.",
            "manage.py migrate (as root, with DATABASE_OWNER_URL), before the processes of this release start.",
        )


def walls() -> Iterator[Finding]:
    with _asked("service") as cursor:
        if cursor is None:
            return
        try:
            faults = [fault for check in isolation.CHECKS for fault in check(cursor).faults]
        except DatabaseError as error:
            faults = [f"the catalogue could not be read: {error}"]
    if faults:
        yield Finding(
            "error",
            "walls",
            f"{len(faults)} faults in the walls between brands; the first: {faults[0]}.",
            "One brand's members may come to another brand's rows.",
            "manage.py check_isolation names them all; `manage.py migrate` and `bootstrap_roles` put right what was changed "
            "by hand.",
        )


def clock() -> Iterator[Finding]:
    with _asked("default") as cursor:
        if cursor is None:
            return
        cursor.execute("select 1")
    ahead_s = database_clock.ahead_s()
    if abs(ahead_s) > SKEW_S:
        yield Finding(
            "error" if abs(ahead_s) > MUCH_SKEW_S else "warning",
            "clock",
            f"This machine's clock is {abs(ahead_s):.0f} s {'ahead of' if ahead_s > 0 else 'behind'} the database's.",
            "Quotas go by the database's; sessions, certificates and the times in the logs go by this one's.",
            "Keep both machines on time: apt-get install chrony (or systemd-timesyncd).",
        )
