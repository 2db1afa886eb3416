"""Who may log in to the database, and what each login may become. DESIGN 2; safe to repeat."""

import hmac
import secrets
from collections.abc import Mapping
from urllib.parse import quote, unquote, urlsplit, urlunsplit

import psycopg
from psycopg.sql import SQL, Identifier, Literal

from lib.errors import Invalid

GROUPS = ("app_public", "app_door", "app_user", "app_brand", "app_visitor", "app_service", "app_lookup")
LOGINS = ("owner", "web", "worker")
TESTER = "tester"  # development and CI only
URL_NAMES = {
    "web": "DATABASE_URL",
    "worker": "DATABASE_SERVICE_URL",
    "owner": "DATABASE_OWNER_URL",
    TESTER: "DATABASE_TESTER_URL",
}
TENANT = ("app_user", "app_brand", "app_visitor")
# Rights that are always on (inherit), and roles that a login may change into (set): never both.
INHERITS = {
    **dict.fromkeys((*TENANT, "app_service"), ("app_public",)),
    **dict.fromkeys(("web", "worker", TESTER), ("app_public", "app_door")),
}
MAY_BECOME = {
    "web": TENANT,
    "worker": (*TENANT, "app_service"),
    "owner": ("app_service", "app_lookup"),
    TESTER: (*TENANT, "app_service"),
}
# Set for a log-in, because a pooler in transaction mode passes nothing of a session on. A machine that lost its power in
# mid-transaction would else keep its locks for as long as TCP hopes, two hours: nobody could ask on that brand.
IDLE_S = 15
LOCK = 0x63686174  # an advisory lock of the server: "chat"


class UnfitServer(Invalid):
    """The database server cannot hold our walls."""


def bootstrap(
    admin_url: str,
    *,
    database: str = "",
    passwords: Mapping[str, str] | None = None,
    development: bool = False,
) -> dict[str, str]:
    """Make roles, memberships and database as they must be; returns the URLs by the name of their variable.

    admin_url    a superuser, or a login with createrole and createdb
    database     by default the one `admin_url` names, or chat where that is the server's own
    passwords    by login; the others are random, in development derived from the admin's
    development  owner may create (test) databases, and there is a tester
    """
    named = unquote(urlsplit(admin_url).path.lstrip("/"))
    database = database or (named if named not in ("", "postgres", "template1") else "chat")
    logins = (*LOGINS, TESTER) if development else LOGINS
    secret = (urlsplit(admin_url).password or "").encode()
    chosen = dict(passwords or {})
    for login in logins:
        derived = hmac.digest(secret, login.encode(), "sha256").hex() if development and secret else ""
        chosen.setdefault(login, derived or secrets.token_urlsafe(24))

    with psycopg.connect(admin_url, autocommit=True) as admin:
        if admin.info.server_version < 160000:
            raise UnfitServer(
                f"This server is PostgreSQL {admin.info.server_version // 10000}. 16 or newer is needed: "
                "older ones cannot say per membership what is inherited and what must be asked for."
            )
        admin.execute("select pg_advisory_lock(%s)", [LOCK])
        _make_roles(admin, logins, chosen, development=development)
        _make_memberships(admin, logins)
        _make_database(admin, database, logins)
        if _is_superuser(admin):
            # In template1 too: test databases, which owner makes, are copies of it.
            for name in (database, "template1") if development else (database,):
                with psycopg.connect(_url(admin_url, database=name), autocommit=True) as inside:
                    _make_extension(inside)
    return {
        URL_NAMES[login]: _url(admin_url, database=database, login=login, password=chosen[login]) for login in logins
    }


def _make_roles(
    admin: psycopg.Connection, logins: tuple[str, ...], passwords: Mapping[str, str], *, development: bool
) -> None:
    present = {name for (name,) in admin.execute("select rolname from pg_roles")}
    for role in (*GROUPS, *logins):
        if role not in present:
            admin.execute(SQL("create role {}").format(Identifier(role)))
    for login in logins:
        sealed = admin.pgconn.encrypt_password(passwords[login].encode(), login.encode(), b"scram-sha-256").decode()
        admin.execute(SQL("alter role {} login password {}").format(Identifier(login), Literal(sealed)))
    for login in logins:
        if login in ("web", "worker"):
            limit = SQL("alter role {} set idle_in_transaction_session_timeout = {}")
            admin.execute(limit.format(Identifier(login), Literal(f"{IDLE_S}s")))
    (may_create,) = admin.execute("select rolcreatedb from pg_roles where rolname = 'owner'").fetchone() or (False,)
    if may_create != development:
        admin.execute(SQL("alter role owner {}").format(SQL("createdb" if development else "nocreatedb")))
    mighty = admin.execute(
        "select rolname from pg_roles where rolname = any(%s) and (rolsuper or rolbypassrls or rolcreaterole)",
        [[*GROUPS, *logins]],
    ).fetchall()
    if mighty:
        names = ", ".join(name for (name,) in mighty)
        raise UnfitServer(f"{names}: superuser, bypassrls or createrole would walk through every wall. Take it away.")


def _make_memberships(admin: psycopg.Connection, logins: tuple[str, ...]) -> None:
    """Exactly the table above: a membership that is not in it is taken away."""
    ours = (*GROUPS, *logins)
    wanted = {(role, member): (True, False) for member in ours for role in INHERITS.get(member, ())}
    wanted |= {(role, member): (False, True) for member in ours for role in MAY_BECOME.get(member, ())}
    present = {
        (role, member): (inherit, may_set)
        for role, member, inherit, may_set in admin.execute(
            "select r.rolname, m.rolname, inherit_option, set_option from pg_auth_members"
            " join pg_roles r on r.oid = roleid join pg_roles m on m.oid = member where m.rolname = any(%s)",
            [list(ours)],
        )
    }
    for role, member in present.keys() - wanted.keys():
        admin.execute(SQL("revoke {} from {}").format(Identifier(role), Identifier(member)))
    for (role, member), (inherit, may_set) in wanted.items():
        if present.get((role, member)) != (inherit, may_set):
            admin.execute(
                SQL("grant {} to {} with admin false, inherit {}, set {}").format(
                    Identifier(role), Identifier(member), Literal(inherit), Literal(may_set)
                )
            )


def _make_database(admin: psycopg.Connection, database: str, logins: tuple[str, ...]) -> None:
    name = Identifier(database)
    superuser = _is_superuser(admin)
    if not superuser:  # giving a database away needs membership in the role that receives it
        admin.execute("grant owner to current_user with inherit true, set true")
    found = admin.execute("select pg_get_userbyid(datdba) from pg_database where datname = %s", [database]).fetchone()
    if found is None:
        admin.execute(SQL("create database {} owner owner").format(name))
    elif found != ("owner",):
        admin.execute(SQL("alter database {} owner to owner").format(name))
    admin.execute(SQL("revoke connect, temporary on database {} from public").format(name))
    members = [login for login in logins if login != "owner"]
    admin.execute(
        SQL("grant connect on database {} to {}").format(name, SQL(", ").join(Identifier(member) for member in members))
    )
    if not superuser:
        admin.execute("revoke owner from current_user")


def _make_extension(admin: psycopg.Connection) -> None:
    """Only a superuser may; elsewhere the server's operator does, and a migration that needs it says so."""
    if admin.execute("select 1 from pg_available_extensions where name = 'vector'").fetchone():
        admin.execute("create extension if not exists vector")


def _is_superuser(admin: psycopg.Connection) -> bool:
    return admin.execute("select 1 from pg_roles where rolname = current_user and rolsuper").fetchone() is not None


def _url(admin_url: str, *, database: str, login: str = "", password: str = "") -> str:
    parts = urlsplit(admin_url)
    user, _, host = parts.netloc.rpartition("@")
    if login:
        user = f"{login}:{quote(password, safe='')}"
    return urlunsplit(parts._replace(netloc=f"{user}@{host}" if user else host, path=f"/{quote(database)}"))
