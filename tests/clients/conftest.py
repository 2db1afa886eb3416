"""One site for all clients. What they run on is made by .ci/clients; where it is missing, the tests say so."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from chatsite.embedded.processes import var_dir
from tests.server import run_site

HERE = Path(__file__).parent
PYTHON = var_dir() / "clients" / "bin" / "python"
NODE_MODULES = HERE / "node" / "node_modules"


@dataclass
class Place:
    """Where the clients ask, with a key that may and one whose plan is used up."""

    url: str
    key: str
    spent_key: str

    def told_by(self, *command):
        """What a script says of its client: one JSON object."""
        given = [*map(str, command), self.url, self.key, self.spent_key]
        env = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "ANTHROPIC_"))}
        done = subprocess.run(given, capture_output=True, text=True, timeout=100, env=env)
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout)


@pytest.fixture(scope="session")
def place(django_db_setup, django_db_blocker):
    with ExitStack() as at_end:
        with django_db_blocker.unblock():
            site, web = at_end.enter_context(run_site("clients"))
            with site.database():
                keys = site.person().key, site.person(limit=0).key
        yield Place(web.url, *keys)


def needs(path, what):
    """Skip where a person has not installed it; in CI that is an error."""
    if not path.exists():
        told = f"{what} are not installed here. To run these tests: .ci/clients"
        pytest.fail(told) if os.environ.get("CI") else pytest.skip(told)


@pytest.fixture(scope="session")
def node_installed():
    needs(NODE_MODULES, "The Node clients")
    if not shutil.which("node"):
        needs(Path("/nowhere"), "Node and its clients")


@pytest.fixture(scope="session")
def node(node_installed, place):
    return place.told_by("node", HERE / "node" / "clients.mjs")


@pytest.fixture(scope="session")
def others(place):
    needs(PYTHON, "LangChain and llm")
    return place.told_by(PYTHON, HERE / "others.py")


@pytest.fixture(scope="session")
def official(place):
    return place.told_by(sys.executable, HERE / "official.py")
