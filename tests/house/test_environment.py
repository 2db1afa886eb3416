"""The environment is declared once, and what is declared is what the product reads."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.conf import settings

from chatsite import environment, roles

ROOMS = (
    "chatsite",
    "conversations",
    "knowledge",
    "agents",
    "billing",
    "quotas",
    "providers",
    "events",
    "accounts",
    "lib",
)
PROJECT = Path(settings.BASE_DIR)
NOT_OURS = {"PATH", "DJANGO_SETTINGS_MODULE"}


def names_read(source):
    """Constants given to env(...), env.something(...), os.environ[...], os.environ.get(...), os.getenv(...)."""
    calls = ("env.bool", "env.int", "env.float", "env.list", "env.path", "env.str", "os.environ.get", "os.getenv")
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Call(args=[ast.Constant(str(name)), *_]) if ast.unparse(node.func) in ("env", "database", *calls):
                yield name
            case ast.Subscript(slice=ast.Constant(name)) if ast.unparse(node.value) in ("os.environ", "environ"):
                yield name


@pytest.fixture(scope="module")
def read():
    found = {}
    for room in ROOMS:
        for path in (PROJECT / room).rglob("*.py"):
            for name in names_read(path.read_text()):
                found.setdefault(name, path.relative_to(PROJECT))
    return found


def test_every_variable_that_is_read_is_declared_and_the_other_way_round(read):
    declared = {variable.name for variable in environment.variables()} | NOT_OURS

    assert {name: str(path) for name, path in read.items() if name not in declared} == {}
    assert declared - read.keys() - set(roles.URL_NAMES.values()) - NOT_OURS == set()


def test_the_reading_sees_each_way_of_reading():
    source = 'env("A"); env.list("B", default=[]); os.environ["C"]; os.environ.get("D"); os.getenv("E"); environ["F"]'

    assert sorted(names_read(source)) == ["A", "B", "C", "D", "E", "F"]


def test_no_variable_is_declared_twice_and_each_default_has_its_type():
    names = [variable.name for variable in environment.variables()]

    assert sorted(names) == sorted(set(names))
    for variable in environment.variables():
        assert variable.is_worked_out or isinstance(variable.default, variable.kind), variable.name
        assert len(variable.meaning) > 20, variable.name


def test_the_reference_is_what_the_command_writes():
    """When this fails: .venv/bin/python manage.py env_reference"""
    assert (PROJECT / "docs" / "configuration.md").read_text() == environment.reference()


def test_mail_over_tls_from_the_first_byte_stays_so():
    """smtp+ssl: (port 465) and smtp+tls: (port 587) are two ways, and neither may be lost."""
    code = "from django.conf import settings as s; print(s.EMAIL_USE_SSL, s.EMAIL_USE_TLS, s.EMAIL_PORT)"
    for url, expected in (("smtp+ssl://u:p@m:465", "True False 465"), ("smtp+tls://u:p@m:587", "False True 587")):
        env = {**os.environ, "EMAIL_URL": url, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
        said = subprocess.run([sys.executable, "-c", code], env=env, cwd=PROJECT, capture_output=True, text=True)
        assert said.stdout.strip() == expected, said.stderr


def test_an_encrypted_database_stays_encrypted(monkeypatch):
    """What stands behind the ? of a URL reaches the driver: sslmode=verify-full must not be lost on the way."""
    from chatsite.settings import database

    monkeypatch.setenv("DATABASE_URL", "postgres://web:x@db.example.com/chat?sslmode=verify-full")

    options = database("DATABASE_URL", prepare_threshold=0)["OPTIONS"]

    assert (options["sslmode"], options["prepare_threshold"]) == ("verify-full", 0)
