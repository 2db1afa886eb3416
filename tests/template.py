"""The migrated and empty database, made once for all workers of a run and for all runs until a migration changes.

Every other test database is a copy of it: a second instead of ten. Django still looks whether all migrations are applied, and
does what it does after them.
"""

import fcntl
import hashlib
from contextlib import suppress
from typing import Any

import psycopg.errors
from django.conf import settings
from django.db import OperationalError, connections

from chatsite.embedded.processes import var_dir

MADE_OF = ["*/migrations/*.py", "lib/operations.py", "chatsite/roles.py", "requirements.txt"]


def migrated() -> str:
    """Its name; whoever comes while it is being made waits."""
    files = sorted(path for pattern in MADE_OF for path in settings.BASE_DIR.glob(pattern))
    digest = hashlib.sha256()
    for path in files:
        digest.update(f"{path.relative_to(settings.BASE_DIR)}\0".encode() + path.read_bytes())
    name = f"test_template_{digest.hexdigest()[:16]}"
    lock = var_dir() / "run" / "template.lock"
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as held, connections["owner"]._nodb_cursor() as cursor:
        fcntl.flock(held, fcntl.LOCK_EX)
        cursor.execute("select datname from pg_database where datname like 'test\\_template\\_%'")
        found = {row[0] for row in cursor.fetchall()}
        if name not in found:
            for old in found:
                with suppress(OperationalError, psycopg.errors.ObjectInUse):  # somebody copies it just now
                    cursor.execute(f'drop database "{old}"')
            _migrate(f"{name}_unfinished")
            cursor.execute(f'alter database "{name}_unfinished" rename to "{name}"')
    return name


def _migrate(name: str) -> None:
    owner: Any = connections["owner"]
    real, test = owner.settings_dict["NAME"], owner.settings_dict["TEST"]
    wanted = test["NAME"]
    test["NAME"] = name
    try:
        owner.creation.create_test_db(verbosity=0, autoclobber=True, serialize=False)
    finally:
        owner.close()
        test["NAME"] = wanted
        owner.settings_dict["NAME"] = settings.DATABASES["owner"]["NAME"] = real
