"""The way home: an empty database built up from a backup, and proved to be what it was."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from django.db import connections, transaction
from django.db.migrations.loader import MigrationLoader
from psycopg.sql import SQL, Identifier

from chatsite import isolation, roles
from chatsite.backups import archive
from chatsite.backups.programs import Say, conninfo, find, running
from chatsite.backups.survey import OWNERS, differences, survey
from chatsite.isolation.catalogue import rows
from events import settling
from events.activity import chain
from lib.db import SERVICE, scope
from lib.errors import Conflict, Invalid
from lib.operations import grant_exempt
from quotas import proof

HOLDS = """
    select relname from pg_class c where relnamespace in ('public'::regnamespace, to_regnamespace('lookup'))
    and not exists (select from pg_depend d where d.objid = c.oid and d.deptype = 'e') order by 1 limit 5
"""


class NotEmpty(Conflict):
    """The database holds something already. Nothing was changed."""


def restore(path: Path, *, say: Say) -> dict[str, Any]:
    """Build the database of DATABASE_OWNER_URL up from the file, then prove it. `faults` names all that is not as it was.

    Needs the roles (`bootstrap_roles`) and an empty database. The rows come in one transaction: a restore that was
    killed leaves an empty database.
    Raises NotABackup, NotEmpty, Invalid, ProgramFailed; nothing was changed then
    """
    manifest = archive.manifest(path)
    _refuse_newer(manifest)
    owner = connections["owner"]
    with owner.cursor() as cursor:
        major = _refuse_unfit(cursor, manifest)
    program = find("pg_restore", server_major=max(major, manifest["postgresql"]))
    say("Holding the file against its checksums ...")
    archive.refuse_damaged(path)
    has_files = archive.get_files(path)  # before the rows: what stops here is simply begun again
    where, env = conninfo(owner.settings_dict)
    counts = manifest["tables"]
    command = [
        *(program, "--single-transaction", "--exit-on-error", "--no-owner", "--no-comments", "--verbose"),
        f"--dbname={where}",
    ]
    with (
        running(command, env=env, on_table=lambda name: say(f"{name}: {counts.get(name, 0):,} rows")) as process,
        archive.feeding(path, process),
    ):
        pass
    say("Giving back owners and rights ...")
    with transaction.atomic(using="owner"), owner.cursor() as cursor:
        _give_back(cursor, manifest["owners"])
        grant_exempt(cursor)
        settling.settle_in(cursor)
    say("Counting, and proving walls and balances ...")
    with owner.cursor() as cursor:
        cursor.execute("analyze")  # without statistics the first hour of questions would be planned blindly
    return {
        "from": str(path),
        "taken_at": manifest["taken_at"],
        "rows": sum(counts.values()),
        "files": has_files,
        "faults": _faults(manifest),
    }


def _refuse_newer(manifest: dict[str, Any]) -> None:
    known = {f"{app}.{name}" for app, name in MigrationLoader(None).disk_migrations}
    unknown = [name for name in manifest["migrations"] if name not in known]
    if unknown:
        raise Invalid(
            f"The backup was taken by release {manifest['release']}, which has migrations that this one does not know "
            f"({', '.join(unknown[:3])}). Check out that release or a later one, and restore with it."
        )


def _refuse_unfit(cursor: Any, manifest: dict[str, Any]) -> int:
    """The server's major version."""
    cursor.execute(
        "select current_setting('server_version_num')::int / 10000, session_user,"
        " (select array_agg(rolname::text) from pg_roles), pg_backend_pid()"
    )
    major, login, present, _ = cursor.fetchone()
    if missing := [role for role in roles.GROUPS if role not in present]:
        raise Invalid(
            f"The server has no role {missing[0]}. Make roles and database first: manage.py bootstrap_roles --admin-url ..."
        )
    if login != "owner":
        raise Invalid(f"DATABASE_OWNER_URL logs in as {login}; the tables must belong to owner.")
    if major < manifest["postgresql"]:
        raise Invalid(
            f"The backup is from PostgreSQL {manifest['postgresql']}, this server is {major}. "
            "Restore into the same major version or a newer one."
        )
    if held := rows(cursor, HOLDS):
        raise NotEmpty(
            f"This database is not empty: it holds {', '.join(name for (name,) in held)} ... Nothing was changed. "
            "Make a new one (bootstrap_roles --database NAME) and point the DATABASE_*_URLs to it."
        )
    return int(major)


def _give_back(cursor: Any, owners: dict[str, str]) -> None:
    """Functions that run with another's rights belong to that role again, which owner alone may not say in one step."""
    for name, now in rows(cursor, OWNERS):
        role = owners.get(name, now)
        if role == now:
            continue
        if role not in roles.GROUPS:
            raise Invalid(f"In the backup, {name} belonged to {role}, which is no role of ours.")
        cursor.execute(SQL("grant create on schema lookup to {}").format(Identifier(role)))
        cursor.execute(f"alter {name} owner to {role}")  # a name out of this catalogue, and a role of ours
        cursor.execute(SQL("revoke create on schema lookup from {}").format(Identifier(role)))


def _faults(manifest: dict[str, Any]) -> list[str]:
    """Through the worker's own log-in: that it leads to the restored database is part of the proof."""
    with scope(SERVICE), connections["service"].cursor() as cursor:
        checks: list[Callable[[Any], Any]] = list(isolation.CHECKS)
        faults = differences(manifest, survey(cursor))
        faults += [fault for check in checks for fault in check(cursor).faults]
        faults += [f"audit log: {fault}" for fault in chain.faults()]
    return faults + [str(drift) for drift in proof.drifts()]
