"""Taking a backup, while the product works on."""

import json
import os
import shutil
import tomllib
import zipfile
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.db import connections, transaction

from chatsite.backups import archive
from chatsite.backups.programs import Say, conninfo, find, running
from chatsite.backups.survey import blind_spots, survey
from lib.errors import Conflict, Forbidden

NOT_IN_IT = (
    "SECRET_KEY, ENCRYPTION_KEYS (which alone open members' own keys), the vendors' keys, the databases' and the mail's "
    "passwords: the environment file. Keep it apart. Nor what lies in FILES_STORAGE, where that is set."
)


class CannotSeeAll(Forbidden):
    """The log-in would leave rows out, so no backup was taken."""


def take(to: Path, *, keep: int = 0, say: Say) -> dict[str, Any]:
    """Write one whole backup, read it back, and give its manifest and `file`.

    to     a folder, where the file is named by the second, or the file's own name
    keep   how many of the folder's backups stay, this one included; 0 = all
    Raises CannotSeeAll, Conflict when the file is there, ProgramFailed; nothing is left behind then
    """
    now = datetime.now(UTC).replace(microsecond=0)
    path = to / f"chatsite-{now:%Y%m%dT%H%M%SZ}{archive.SUFFIX}" if to.is_dir() else to
    if path.exists():
        raise Conflict(f"{path} is there already. Give another name, or a folder.")
    if not path.parent.is_dir():
        raise Conflict(f"There is no folder {path.parent}.")
    alias = "backup" if "backup" in connections else "service"
    with archive.drafted(path) as file:
        made = _write(file, alias, now, say)
        say("Reading it back ...")
        _refuse_unlike(file, made)
    if keep:
        for old in sorted(path.parent.glob(f"chatsite-*{archive.SUFFIX}"))[:-keep]:
            old.unlink()
    return {**made, "file": str(path), "bytes": path.stat().st_size, "not_in_it": NOT_IN_IT}


def _write(file: IO[bytes], alias: str, now: datetime, say: Say) -> dict[str, Any]:
    """The manifest, which is written behind the dump. Both are of one instant: pg_dump takes over our snapshot."""
    connection = connections[alias]
    with transaction.atomic(using=alias), connection.cursor() as cursor:
        cursor.execute("set transaction isolation level repeatable read, read only")
        _refuse_unfit(cursor, connection.connection)
        cursor.execute("set local role app_service")
        cursor.execute("select pg_export_snapshot(), current_setting('server_version_num')::int / 10000")
        snapshot, major = cursor.fetchone()
        program = find("pg_dump", server_major=major)
        say("Counting rows ...")
        made = {
            "format": archive.FORMAT,
            "taken_at": now.isoformat(),
            "release": release(),
            "postgresql": major,
            "database": connection.settings_dict["NAME"],
            **survey(cursor),
        }
        rows = made["tables"]
        where, env = conninfo(connection.settings_dict)
        command = [
            *(program, "--format=custom", "--role=app_service", "--enable-row-security", f"--snapshot={snapshot}"),
            *("--no-comments", "--no-publications", "--no-subscriptions", "--lock-wait-timeout=60000", "--verbose"),
            f"--dbname={where}",
        ]
        with (
            zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as zipped,
            running(command, env=env, on_table=lambda name: say(f"{name}: {rows.get(name, 0):,} rows")) as dump,
        ):
            assert dump.stdout
            with zipped.open(archive.DUMP, "w", force_zip64=True) as member:
                shutil.copyfileobj(dump.stdout, member, 1 << 20)
            if not settings.FILES_STORAGE:
                say("Taking the files along ...")
                made["files"] = archive.put_files(zipped)
            zipped.writestr(archive.MANIFEST, json.dumps(made, indent=1))
    return made


def _refuse_unfit(cursor: Any, raw: Any) -> None:
    cursor.execute(
        "select pg_backend_pid(), session_user,"
        " exists (select from pg_roles where rolname = 'app_service') and pg_has_role(session_user, 'app_service', 'set')"
    )
    pid, login, may = cursor.fetchone()
    if pid != raw.info.backend_pid:
        raise CannotSeeAll(
            "This log-in goes through a pooler, which would give pg_dump another session in the middle. "
            "Set DATABASE_BACKUP_URL to the log-in worker at PostgreSQL itself."
        )
    if not may:
        raise CannotSeeAll(
            f"The log-in {login} may not become app_service, so row-level security would hide rows from the dump. "
            "Use the log-in worker (DATABASE_SERVICE_URL or DATABASE_BACKUP_URL)."
        )
    hidden = blind_spots(cursor)
    if hidden:
        raise CannotSeeAll(
            f"app_service does not see every row of {', '.join(hidden)}; the dump would leave them out. "
            "`manage.py check_isolation` says what is wrong with the walls; mend it, then take the backup."
        )


def _refuse_unlike(file: IO[bytes], made: dict[str, Any]) -> None:
    """Count the rows of the file itself: what is not in it now will not be there when it is needed."""
    file.flush()
    program = find("pg_restore", server_major=made["postgresql"])
    found: dict[str, int] = {}
    command = [program, "--data-only", "--file=-"]
    with running(command, env=dict(os.environ), on_table=lambda name: None) as reader:
        assert reader.stdout
        with archive.feeding(file, reader):
            table = ""
            for line in reader.stdout:
                if table:
                    if line == b"\\.\n":
                        table = ""
                    else:
                        found[table] += 1
                elif line.startswith(b"COPY public."):
                    table = line.split(b" ", 2)[1].removeprefix(b"public.").strip(b'"').decode()
                    found[table] = 0
    wrong = [
        f"{name}: {found.get(name, 0)} of {count}"
        for name, count in made["tables"].items()
        if found.get(name, 0) != count
    ]
    if wrong:
        raise CannotSeeAll(f"The dump does not hold every row ({'; '.join(wrong)}), so it was thrown away.")


def release() -> str:
    with open(settings.BASE_DIR / "pyproject.toml", "rb") as file:
        version: str = tomllib.load(file)["project"]["version"]
    return version
