"""Log-ins and memberships on a cluster of their own, because they belong to a whole server."""

import json

import psycopg
import pytest
from django.core.management import CommandError, call_command

from chatsite import roles
from chatsite.embedded import Postgres

pytestmark = pytest.mark.xdist_group("roles")

TENANT = {"app_user", "app_brand", "app_visitor"}
BECOMES = {
    "web": TENANT,
    "worker": TENANT | {"app_service"},
    "owner": {"app_service", "app_lookup"},
    "tester": TENANT | {"app_service"},
}


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    postgres = Postgres(tmp_path_factory.mktemp("roles") / "postgres")
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def urls(cluster):
    return roles.bootstrap(cluster.url(), development=True)


def connect(url):
    return psycopg.connect(url, autocommit=True, connect_timeout=5)


def as_superuser(cluster, statement, database="postgres"):
    with connect(cluster.url(database=database)) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


@pytest.mark.parametrize("login", BECOMES)
def test_each_login_becomes_its_roles_and_no_others(urls, login):
    """I-20"""
    became = set()
    with connect(urls[roles.URL_NAMES[login]]) as connection:
        for role in {*roles.GROUPS, *BECOMES, "postgres"} - {login}:
            try:
                connection.execute(f"set role {role}")
            except psycopg.errors.InsufficientPrivilege:
                continue
            became.add(role)
            connection.execute("reset role")

    assert became == BECOMES[login]


@pytest.mark.parametrize("login", ["web", "worker", "tester"])
def test_logins_have_the_exempt_tables_at_once_and_a_tenants_rows_only_by_asking(urls, login):
    with connect(urls[roles.URL_NAMES[login]]) as connection:
        uses = {
            role
            for role in roles.GROUPS
            if connection.execute("select pg_has_role(%s, 'usage')", [role]).fetchone() == (True,)
        }

    assert uses == {"app_public", "app_door"}


def test_no_role_of_ours_walks_through_walls(cluster, urls):
    mighty = as_superuser(
        cluster,
        "select rolname from pg_roles where (rolsuper or rolbypassrls or rolcreaterole or rolreplication)"
        " and rolname !~ '^(pg_|postgres$)'",
    )

    assert mighty == []


def test_strangers_may_not_connect_and_web_may_not_make_tables(cluster, urls):
    as_superuser(cluster, "drop role if exists stranger")
    as_superuser(cluster, "create role stranger login password 'stranger'")

    with pytest.raises(psycopg.OperationalError, match="CONNECT"):
        connect(cluster.url("stranger", password="stranger", database="chat"))
    with connect(urls["DATABASE_URL"]) as web:
        for statement in ("create table t (n int)", "create temp table t (n int)", "create schema s"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(statement)


def test_a_repeat_changes_nothing_and_keeps_the_passwords(cluster, urls):
    def memberships():
        return as_superuser(
            cluster, "select roleid, member, inherit_option, set_option from pg_auth_members order by 1, 2"
        )

    before = memberships()

    assert roles.bootstrap(cluster.url(), development=True) == urls
    assert memberships() == before


def test_a_membership_too_many_is_taken_away(cluster, urls):
    as_superuser(cluster, "grant app_service to web")
    as_superuser(cluster, "grant app_public to web with set true")

    roles.bootstrap(cluster.url(), development=True)

    with connect(urls["DATABASE_URL"]) as web:
        for role in ("app_service", "app_public"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                web.execute(f"set role {role}")


def test_a_login_that_bypasses_the_walls_is_refused_by_name(cluster, urls):
    as_superuser(cluster, "alter role worker bypassrls")

    with pytest.raises(roles.UnfitServer, match="worker"):
        roles.bootstrap(cluster.url(), development=True)

    as_superuser(cluster, "alter role worker nobypassrls")


def test_databases_that_owner_makes_for_tests_have_vectors(urls):
    with connect(urls["DATABASE_OWNER_URL"]) as owner:
        owner.execute("create database test_vectors")
    with connect(urls["DATABASE_OWNER_URL"].replace("/chat", "/test_vectors")) as owner:
        near = owner.execute("select '[1,2]'::vector <-> '[1,2]'").fetchone()
    with connect(urls["DATABASE_OWNER_URL"]) as owner:
        owner.execute("drop database test_vectors")

    assert near == (0.0,)


def test_the_command_prints_the_urls_and_keeps_the_passwords_it_finds(cluster, urls, monkeypatch, capsys):
    monkeypatch.setenv("DATABASE_URL", "postgres://web:chosen@db.example.com/chat")
    monkeypatch.setenv("DATABASE_SERVICE_URL", "postgres://somebody:else@db.example.com/chat")

    call_command("bootstrap_roles", "--admin-url", cluster.url(), "--json")
    printed = json.loads(capsys.readouterr().out)

    assert printed["DATABASE_URL"] == f"postgres://web:chosen@127.0.0.1:{cluster.port}/chat"
    assert ":else@" not in printed["DATABASE_SERVICE_URL"]
    for url in printed.values():
        connect(url).close()


def test_the_command_refuses_in_words_when_the_server_does(capsys):
    with pytest.raises(CommandError, match="The server refused"):
        call_command("bootstrap_roles", "--admin-url", "postgres://admin:secret@127.0.0.1:1/postgres")


def test_production_keeps_given_passwords_and_has_no_tester(tmp_path_factory):
    fresh = Postgres(tmp_path_factory.mktemp("production") / "postgres")
    fresh.start()
    as_superuser(fresh, "create role admin login createrole createdb password 'p/w:@'")

    urls = roles.bootstrap(fresh.url("admin", password="p/w:@"), database="shop", passwords={"web": "s%cret/"})

    assert urls.keys() == {"DATABASE_URL", "DATABASE_SERVICE_URL", "DATABASE_OWNER_URL"}
    assert urls["DATABASE_URL"] == f"postgres://web:s%25cret%2F@127.0.0.1:{fresh.port}/shop"
    for url in urls.values():
        connect(url).close()
    with connect(urls["DATABASE_OWNER_URL"]) as owner:
        owner.execute("create table kept (n int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            owner.execute("create database test_shop")
    assert as_superuser(fresh, "select 1 from pg_roles where rolname = 'tester'") == []
    assert roles.bootstrap(fresh.url("admin", password="p/w:@"), database="shop", passwords={"web": "s%cret/"})
    fresh.stop()
