"""pgbouncer in transaction mode, with the settings that `deploy/` ships, in front of the tests' database server."""

import contextlib
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import psycopg

from tests.emptying import superuser
from tests.server import free_port
from tests.upstream import PROJECT

SHIPPED = PROJECT / "deploy" / "pgbouncer" / "pgbouncer.ini"
PGBOUNCER = shutil.which("pgbouncer", path=os.environ.get("PATH", os.defpath) + ":/usr/sbin")  # where Debian puts it
THROUGH_IT = ("DATABASE_URL", "DATABASE_SERVICE_URL", "DATABASE_TESTER_URL")
NOBODY = 65534


@contextlib.contextmanager
def pooler(*, to_port: int | None = None, **settings: object) -> Iterator[dict[str, str]]:
    """Gives the addresses of the log-ins through the pooler, by the name of their variable; owner's stays direct.

    to_port   where its database is, if not where the tests' is
    settings  go before those of the file
    """
    assert PGBOUNCER, "pgbouncer is not installed: apt-get install pgbouncer"
    there = urlsplit(os.environ["DATABASE_URL"])
    to_port = to_port or there.port
    port = free_port()
    # Below /tmp: pgbouncer does not run as root, and a clone may lie where nobody may look.
    with tempfile.TemporaryDirectory(prefix="pooler-") as folder, open(Path(folder, "log"), "w+") as log:
        users, ini = Path(folder, "userlist.txt"), Path(folder, "pgbouncer.ini")
        users.write_text(_users())
        own = {"listen_port": port, "auth_file": users, "logfile": "", "pidfile": "", **settings}
        lines = [f"{name} = {value}" for name, value in own.items()]
        shipped = SHIPPED.read_text().replace("host=127.0.0.1 port=5432", f"host={there.hostname} port={to_port}")
        assert str(to_port) in shipped
        ini.write_text("\n".join([shipped, *lines, ""]))
        command = [PGBOUNCER, str(ini)]
        if os.geteuid() == 0:
            for path in (Path(folder), users, ini):
                os.chown(path, NOBODY, NOBODY)
            command = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", "--", *command]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_ready(process, port, Path(folder, "log"))
            yield {name: _through(os.environ[name], port) for name in THROUGH_IT}
        finally:
            process.terminate()
            process.wait(60)


def _users() -> str:
    """As the file says: PostgreSQL's own verifiers. Reading them takes a superuser; a server of somebody else's has none
    for us, and then the passwords themselves do."""
    logins = {unquote(urlsplit(os.environ[name]).username or ""): os.environ[name] for name in THROUGH_IT}
    passwords = {login: unquote(urlsplit(url).password or "") for login, url in logins.items()}
    if admin := superuser("postgres"):
        with admin:
            found = "select rolname, rolpassword from pg_authid where rolname = any(%s)"
            passwords = dict(admin.execute(found, [list(logins)]).fetchall())
    return "".join(f'"{login}" "{password}"\n' for login, password in passwords.items())


def _through(url: str, port: int) -> str:
    parts = urlsplit(url)
    return parts._replace(netloc=f"{parts.netloc.rsplit('@', 1)[0]}@127.0.0.1:{port}").geturl()


def _wait_ready(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    for _ in range(1200):
        assert process.poll() is None, log.read_text()
        with contextlib.suppress(psycopg.OperationalError):
            psycopg.connect(_through(os.environ["DATABASE_URL"], port), connect_timeout=5).close()
            return
        time.sleep(0.05)
    raise RuntimeError(f"pgbouncer was not ready within a minute: {log.read_text()}")
