"""One cast for the whole suite, and databases with the log-ins of production.

Brand `act` has alice (owner) and bob (member); charlie of `globex` must see none of it.

Two kinds of test. A rolled-back one (the default) has one connection of the log-in `tester` behind both aliases, so that
pages, admin and worker code see the same uncommitted rows. A `transaction=True` one (also `live_server`) has the three
real log-ins and shares nothing.
"""

import gc
import os
import shutil
from typing import Any

import hypothesis
import jsonschema
import orjson
import pytest
from django.conf import settings
from django.db import connections
from django.test import TransactionTestCase
from django.test.utils import setup_databases, teardown_databases
from psycopg.pq import TransactionStatus

from tests import canaries, emptying, factories, pace, template
from tests.pooler import PGBOUNCER
from tests.run import NEEDED

hypothesis.settings.register_profile("ours", deadline=None)  # a timing never decides a test
hypothesis.settings.load_profile("ours")

gc.set_threshold(50_000, 20, 100)  # what is thrown away in a test is little; looking for it costs a tenth of the run

TransactionTestCase._fixture_teardown = emptying.empty  # type: ignore[attr-defined]

CHROMIUM = next(filter(None, map(shutil.which, NEEDED["chromium"][1])), None)
MISSING = {
    "browser": "" if CHROMIUM else "chromium",
    "pooler": "" if PGBOUNCER else "pgbouncer",
}


def pytest_terminal_summary(terminalreporter):
    if slow := pace.newly_long(report for reports in terminalreporter.stats.values() for report in reports):
        terminalreporter.section(f"over {pace.LONG_S} s, and not in tests/pace.py")
        terminalreporter.write_line("\n".join(slow))


def pytest_itemcollected(item):
    """What a file's tests share, a process mostly, is made once: they go to one worker."""
    found = getattr(item, "_fixtureinfo", None)
    shares = found and any(defined[-1].scope == "module" for defined in found.name2fixturedefs.values())
    if shares and not item.get_closest_marker("xdist_group") and not item.get_closest_marker("browser"):
        item.add_marker(pytest.mark.xdist_group(item.path.stem))


def pytest_collection_modifyitems(config, items):
    pace.longest_first(items)
    if getattr(config.option, "loadgroup", False):
        pace.group(items)
    for item in items:
        marker, names = item.get_closest_marker("django_db"), set(getattr(item, "fixturenames", ()))
        live = names & {"transactional_db", "live_server", "server"}
        if marker or live or "db" in names:
            hard = bool(live or (marker and marker.kwargs.get("transaction")))
            databases = ["default", "service"] + ["owner"] * hard
            item.add_marker(pytest.mark.django_db(transaction=hard, databases=databases), append=False)
            if not hard:
                item.fixturenames.insert(0, "one_connection")  # before the test's transaction opens
        for marked, package in MISSING.items():
            if package and item.get_closest_marker(marked) and not os.environ.get("CI"):
                item.add_marker(pytest.mark.skip(reason=f"{package} is not installed: apt-get install {package}"))


def pytest_collection_finish():
    gc.freeze()  # what was imported stays, and is not looked through again


def pytest_sessionstart():
    canaries.begin()


def pytest_sessionfinish():
    canaries.leave()


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_teardown(item):
    """A-16: the rows, while they are there; emptying looks at those that were committed, a site at its own."""
    if "one_connection" in item.fixturenames:
        canaries.look_at_rows_of_test()
    return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.when == "teardown":
        if found := canaries.found_by_now(report.sections):
            report.outcome = "failed"
            report.longrepr = "A-16, a secret stands open: " + "; ".join(found)
        canaries.forget_test()
    return report


@pytest.fixture(scope="session", autouse=True)
def published_as_the_catalogue_says():
    """W-19: whatever a test publishes in this process is what its type says, and no word more."""
    from events import catalogue, stream

    real = stream.publishing
    schemas = {name: jsonschema.Draft202012Validator(kind.schema) for name, kind in catalogue.KINDS.items()}

    def publishing(brand_id, name, **said):
        statement, names = real(brand_id, name, **said)
        schemas[name].validate(orjson.loads(names["data"]))
        return statement, names

    stream.publishing = publishing
    yield
    stream.publishing = real


@pytest.fixture(scope="session")
def django_db_setup(
    django_test_environment, django_db_blocker, django_db_keepdb, django_db_createdb, django_db_modify_db_settings
):
    with django_db_blocker.unblock():
        connections["owner"].settings_dict["TEST"]["TEMPLATE"] = template.migrated()
        old = setup_databases(
            0, False, aliases={"owner"}, serialized_aliases=set(), keepdb=django_db_keepdb and not django_db_createdb
        )
        name = connections["owner"].settings_dict["NAME"]
        assert name.startswith("test_")
        assert all(connections[alias].settings_dict["NAME"] == name for alias in connections)
        with connections["owner"].cursor() as cursor:
            cursor.execute(f'revoke connect, temporary on database "{name}" from public')
            cursor.execute(f'grant connect on database "{name}" to web, worker, tester')
        connections["owner"].close()
    yield
    with django_db_blocker.unblock():
        emptying.leave()
        for alias in connections:
            connections[alias].close()
        if not django_db_keepdb:
            teardown_databases(old, 0)


@pytest.fixture(scope="session")
def _kept(django_db_setup):
    """A new connection reads the catalogue again, which takes longer than most tests; so they all have this one."""
    one: Any = connections.create_connection("default")
    one.settings_dict = {**one.settings_dict, "USER": settings.TESTER["USER"], "PASSWORD": settings.TESTER["PASSWORD"]}
    one.really_close, one.close = one.close, lambda: None
    yield one
    one.really_close()


@pytest.fixture
def one_connection(_kept, settings):
    real = {alias: connections[alias] for alias in ("default", "service")}
    for alias in real:
        connections[alias] = _kept
    settings.DB_INLINE = True
    yield
    if _kept.connection and _kept.connection.info.transaction_status != TransactionStatus.IDLE:
        _kept.really_close()  # the test left it broken
        _kept.connection = None
    for alias, connection in real.items():
        connections[alias] = connection


@pytest.fixture
def world(db):
    """Both brands with their members, plans, prompts and a demo model: `world.act`, `world.alice`, `world.globex` ..."""
    return factories.make_world()


@pytest.fixture
def live_world(transactional_db):
    """The same, committed, behind the real log-ins."""
    return factories.make_world()
