"""A backup is whole or absent, and what is restored from it is what was there."""

import contextlib
import itertools
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
import zipfile

import psycopg
import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django.db import connections

from chatsite.backups import archive, programs, survey
from chatsite.isolation.catalogue import rows
from lib.db import SERVICE, scope
from quotas import ledger
from tests import factories
from tests.quotas.proofs import ask
from tests.server import Web, free_port

ALIASES = ("owner", "default", "service")
NUMBERS = itertools.count(1)


def home(name="postgres"):
    login = connections["owner"].settings_dict
    where = {"host": login["HOST"], "port": login["PORT"], "user": login["USER"], "password": login["PASSWORD"]}
    return psycopg.connect(**where, dbname=name, autocommit=True)


def let_go():
    for alias in ALIASES:
        connections[alias].close()


@contextlib.contextmanager
def empty_database():
    """An empty database, as bootstrap_roles leaves one; this process's log-ins lead to it until the block ends."""
    before = connections["owner"].settings_dict["NAME"]
    name = f"{before}_home{next(NUMBERS)}"
    with home() as admin:
        admin.execute(f'create database "{name}"')
        admin.execute(f'revoke connect, temporary on database "{name}" from public')
        admin.execute(f'grant connect on database "{name}" to web, worker')
    let_go()
    for alias in ALIASES:
        connections[alias].settings_dict["NAME"] = name
    try:
        yield name
    finally:
        let_go()
        for alias in ALIASES:
            connections[alias].settings_dict["NAME"] = before
        with home() as admin:
            drop(admin, name)


def drop(admin, name):
    """What may not be ended, such as an autovacuum that looks at it, is soon over."""
    for _ in range(600):
        with contextlib.suppress(psycopg.errors.InsufficientPrivilege):
            admin.execute(f'drop database "{name}" with (force)')
            return
        time.sleep(0.1)
    raise AssertionError(f"{name} is still in use")


def digests():
    """Of every row of every table, as the service sees them; but for how each server counts transactions."""
    settled = {"events_event": "to_jsonb(t) - 'xid'", "events_reader": "to_jsonb(t) - 'place'"}
    with scope(SERVICE), connections["service"].cursor() as cursor:
        tables = [name for (name,) in rows(cursor, "select tablename from pg_tables where schemaname = 'public'")]
        return {
            table: rows(
                cursor,
                f'select count(*), md5(string_agg(r, chr(10) order by r)) from (select ({row})::text r from "{table}" t) t',
            )
            for table in tables
            for row in [settled.get(table, "t")]
        }


@pytest.fixture
def filled(live_world):
    world = live_world
    said = [("user", "What is \\. and \t a tab,\nand ☃?"), ("assistant", "COPY public.x FROM stdin;\n\\.\n")]
    factories.make_conversation(world.act, world.bob, said=said)
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 5})
    ask(world.act, world.alice)
    return world


@pytest.fixture
def taken(filled, tmp_path, capsys):
    call_command("backup", "--to", tmp_path, "--json")
    return tmp_path / json.loads(capsys.readouterr().out)["file"]


def test_what_is_restored_is_what_was_there(taken, capsys):
    """O-07"""
    before = digests()

    with empty_database() as name:
        call_command("restore", taken, "--json")
        told = json.loads(capsys.readouterr().out)
        after = digests()
        call_command("check_isolation", "--json")
        call_command("check_balances", "--json")
        with connections["owner"].cursor() as cursor:
            cursor.execute("insert into django_content_type (app_label, model) values ('a', 'b') returning id")
        web = Web({"DJANGO_SETTINGS_MODULE": "tests.conversations.settings", "LIVE_DB": name}, free_port())
        try:
            web.wait_ready()
            page = urllib.request.Request(f"{web.url}/", headers={"Host": "act.localhost"})
            with urllib.request.urlopen(page, timeout=20) as answer:
                assert answer.status == 200
        finally:
            web.kill()

    assert told["faults"] == []
    assert told["rows"] == sum(found[0][0] for found in before.values()) > 50
    assert after == before


def test_what_happens_while_a_backup_is_taken_is_no_fault_of_it(filled, tmp_path, capsys, monkeypatch):
    """A sequence stands in no snapshot: in the dump it is ahead of what was counted."""

    def counted_before_somebody_publishes(cursor):
        found = survey.survey(cursor)
        with home(connections["owner"].settings_dict["NAME"]) as owner:
            owner.execute("select nextval(pg_get_serial_sequence('events_event', 'seq'))")
        return found

    monkeypatch.setattr("chatsite.backups.taking.survey", counted_before_somebody_publishes)
    call_command("backup", "--to", tmp_path, "--json")
    taken = json.loads(capsys.readouterr().out)["file"]
    with empty_database():
        call_command("restore", taken, "--json")
        assert json.loads(capsys.readouterr().out)["faults"] == []


def test_a_database_that_holds_anything_is_refused(taken):
    with pytest.raises(CommandError, match="is not empty"):
        call_command("restore", taken)


def test_a_restore_that_is_not_what_was_taken_says_each_difference(taken, capsys):
    changed = taken.with_name("changed.backup")
    with zipfile.ZipFile(taken) as old, zipfile.ZipFile(changed, "w") as new:
        manifest = json.loads(old.read(archive.MANIFEST))
        manifest["tables"]["accounts_brand"] += 1
        manifest["ledger"]["used"] += 7
        manifest["walled"].append("accounts_brand")
        manifest["sequences"]["events_event_seq_seq"] += 1
        manifest["sequences"]["events_gone_seq"] = 3
        new.writestr(archive.DUMP, old.read(archive.DUMP))
        new.writestr(archive.MANIFEST, json.dumps(manifest))

    with empty_database(), pytest.raises(SystemExit) as ended:
        call_command("restore", changed)

    assert ended.value.code == 1
    said = capsys.readouterr().out
    assert "rows in accounts_brand: 2 here, 3 in the backup" in said
    assert "the ledger's used" in said
    assert "at events_event_seq_seq: 1" in said
    assert "at events_gone_seq: None here, 3 in the backup" in said
    assert "forced row-level security accounts_brand is in the backup and not here" in said


def test_a_mutilated_file_is_refused_before_anything_is_touched(taken):
    whole = taken.read_bytes()
    middle = len(whole) // 2
    cut, changed = whole[:middle], whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]

    with empty_database() as name:
        for harmed in (cut, changed, b"PGDMP" + whole[:100]):
            taken.write_bytes(harmed)
            with pytest.raises(CommandError, match="take another one"):
                call_command("restore", taken)
            with home(name) as owner:
                assert owner.execute("select count(*) from pg_tables where schemaname = 'public'").fetchone() == (0,)


def test_a_restore_killed_in_the_middle_leaves_an_empty_database(taken, monkeypatch):
    """Its rows come in one transaction: here the connection is cut after the tables are made."""
    real = archive.feeding

    @contextlib.contextmanager
    def cut(path, process):
        dump = zipfile.ZipFile(path).read(archive.DUMP)
        process.stdin.write(dump[: len(dump) * 2 // 3])
        process.stdin.flush()
        time.sleep(0.5)  # some tables are made by then, in a transaction that nobody will commit
        process.kill()
        yield

    monkeypatch.setattr(archive, "feeding", cut)
    with empty_database():
        with pytest.raises(CommandError):
            call_command("restore", taken)
        monkeypatch.setattr(archive, "feeding", real)
        call_command("restore", taken)


def test_a_log_in_that_sees_too_little_takes_no_backup(filled, tmp_path):
    """O-07: a dump by `web` would hold no tenant's row and end with exit code 0."""
    worker, web = (connections[alias].settings_dict for alias in ("service", "default"))
    known = {name: worker[name] for name in ("USER", "PASSWORD")}
    connections["service"].close()
    worker.update({name: web[name] for name in ("USER", "PASSWORD")})
    try:
        with pytest.raises(CommandError, match="may not become app_service"):
            call_command("backup", "--to", tmp_path)
    finally:
        connections["service"].close()
        worker.update(known)
    assert list(tmp_path.iterdir()) == []


def test_a_wall_that_hides_rows_from_the_service_stops_the_backup_by_name(filled, tmp_path):
    with connections["owner"].cursor() as owner:
        owner.execute("alter policy service on conversations_message using (brand_id is null)")
    try:
        with pytest.raises(CommandError, match="does not see every row of conversations_message"):
            call_command("backup", "--to", tmp_path)
    finally:
        with connections["owner"].cursor() as owner:
            owner.execute("alter policy service on conversations_message using (true)")
    assert list(tmp_path.iterdir()) == []


def test_a_dump_that_lost_rows_is_thrown_away(filled, tmp_path, monkeypatch):
    """The file itself is counted: an --exclude in a wrapper, a bug of a version, whatever it was."""
    real = programs.find
    wrapper = tmp_path / "pg_dump"
    wrapper.write_text(f'#!/bin/sh\nexec {real("pg_dump", server_major=18)} --exclude-table-data=quotas_entry "$@"\n')
    wrapper.chmod(0o755)
    monkeypatch.setattr(
        "chatsite.backups.taking.find",
        lambda name, **major: str(wrapper) if name == "pg_dump" else real(name, **major),
    )
    to = tmp_path / "to"
    to.mkdir()

    with pytest.raises(CommandError, match=r"does not hold every row \(quotas_entry: 0 of \d+\)"):
        call_command("backup", "--to", to)

    assert list(to.iterdir()) == []


def test_a_killed_backup_leaves_nothing_that_looks_whole_and_the_next_one_tidies_up(filled, tmp_path):
    """O-07: kill -9 while rows are being written."""
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.conversations.settings"}
    env["LIVE_DB"] = connections["owner"].settings_dict["NAME"]
    with home(env["LIVE_DB"]) as owner, owner.transaction():
        owner.execute("lock table quotas_entry in access exclusive mode")  # pg_dump waits for it
        process = subprocess.Popen(
            [sys.executable, "manage.py", "backup", "--to", tmp_path], cwd=settings.BASE_DIR, env=env
        )
        until = time.monotonic() + 30
        while not list(tmp_path.glob("*.part")):
            assert time.monotonic() < until
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        process.wait(10)
    assert [path.suffix for path in tmp_path.iterdir()] == [".part"]

    call_command("backup", "--to", tmp_path)

    assert [path.suffix for path in tmp_path.iterdir()] == [".backup"]


def test_only_the_newest_are_kept_and_only_their_owner_may_read_them(filled, tmp_path, capsys):
    for day in ("01", "02", "03"):
        (tmp_path / f"chatsite-202601{day}T030000Z.backup").write_text("old")
    (tmp_path / "notes.txt").write_text("mine")

    call_command("backup", "--to", tmp_path, "--keep", "2", "--json")

    made = json.loads(capsys.readouterr().out)
    left = sorted(path.name for path in tmp_path.iterdir())
    assert left[0] == "chatsite-20260103T030000Z.backup"
    assert left[2:] == ["notes.txt"]
    assert os.stat(made["file"]).st_mode & 0o077 == 0
    assert "SECRET_KEY" in made["not_in_it"]
    assert "ENCRYPTION_KEYS" in made["not_in_it"]


def test_a_pg_dump_older_than_the_server_is_refused_in_words(filled, tmp_path, monkeypatch):
    old = tmp_path / "bin"
    old.mkdir()
    (old / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)'\n")
    (old / "pg_dump").chmod(0o755)
    monkeypatch.setattr(programs, "_folders", lambda: iter([old]))

    with pytest.raises(CommandError, match=r"must be \d+ or newer, and here is 15"):
        call_command("backup", "--to", tmp_path)
