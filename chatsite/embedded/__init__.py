"""PostgreSQL and a Redis-protocol server from pip's wheels, for development and tests: no apt, no root, no Docker.

`python -m chatsite.embedded up` starts both to stay; `down` stops them; `run <command>` has them for one command.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress

import psycopg

from chatsite import roles
from chatsite.embedded.postgres import Postgres
from chatsite.embedded.processes import CannotStart, in_words, var_dir, write_private
from chatsite.embedded.valkey import Valkey


@contextmanager
def servers(
    environ: Mapping[str, str], *, to_stay: bool = False, broker: str = "valkey", say: Callable[[str], None]
) -> Iterator[dict[str, str]]:
    """Start what `environ` does not name, make the roles, and give the variables that the programs need.

    They are also written to var/run/env, but for those of a `broker` of one's own: tests have one, because a running
    worker would take their tasks from the common one.
    """
    with in_words(var_dir() / "run"):
        written = read_env()  # a program that read it has the same values in its environment: nobody gave those
    given = {name for name, value in environ.items() if value and value != written.get(name)}
    if "DATABASE_URL" in given:
        written = {name: value for name, value in written.items() if not name.startswith("DATABASE_")}
    env: dict[str, str] = {}
    private: dict[str, str] = {}
    with ExitStack() as at_end:
        if "DATABASE_URL" not in given:
            postgres = Postgres(var_dir() / "postgres")
            at_end.callback(postgres.leave)
            postgres.start(to_stay=to_stay)
            env |= roles.bootstrap(postgres.url(), development=True)
        elif "DATABASE_SERVICE_URL" not in given or "DATABASE_OWNER_URL" not in given:
            try:
                env |= roles.bootstrap(environ["DATABASE_URL"], development=True)
            except psycopg.Error as error:
                raise CannotStart(f"The server of DATABASE_URL refused: {error}".rstrip()) from error
            say("Your DATABASE_URL was taken as an administrator's: it made the log-ins owner, web, worker and tester.")
        if "REDIS_URL" not in given:
            valkey = Valkey(var_dir() / broker)
            at_end.callback(valkey.leave)
            valkey.start(to_stay=to_stay)
            (env if broker == "valkey" else private)["REDIS_URL"] = valkey.url()
        if "SECRET_KEY" not in given:
            env["SECRET_KEY"] = written.get("SECRET_KEY") or secrets.token_urlsafe(48)
        if not given & {"ENCRYPTION_KEYS", "ENCRYPTION_KEY"}:
            if "ENCRYPTION_KEYS" not in written:
                say(f"Made a key that seals members' own keys: ENCRYPTION_KEYS in {var_dir() / 'run' / 'env'}.")
            env["ENCRYPTION_KEYS"] = written.get("ENCRYPTION_KEYS") or f"dev:{secrets.token_hex(32)}"
        lines = [f"{name}={value}\n" for name, value in {**written, **env}.items()]
        write_private(var_dir() / "run" / "env", "".join(lines))
        yield {**env, **private}


def down() -> None:
    with in_words(var_dir()):
        Valkey(var_dir() / "valkey").stop()
        Postgres(var_dir() / "postgres").stop()


def read_env() -> dict[str, str]:
    """What the last start wrote: NAME=value lines, no quoting."""
    with suppress(FileNotFoundError):
        lines = (var_dir() / "run" / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}
