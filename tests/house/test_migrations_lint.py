"""What a reviewer would have to remember: migrations that change no row in silence, and ways around the walls."""

import ast
import re

import pytest
from django.conf import settings

from chatsite.isolation.catalogue import walled_models

ROOT = settings.BASE_DIR
OURS = (
    "accounts",
    "agents",
    "billing",
    "chatsite",
    "conversations",
    "events",
    "knowledge",
    "lib",
    "providers",
    "quotas",
)
DML = re.compile(
    r"(?:^|;)\s*(?:insert|update|delete|merge|truncate|copy|with\b.*\b(?:insert|update|delete))\b", re.I | re.S
)
BODIES = re.compile(r"\$(\w*)\$.*?\$\1\$", re.S)  # of functions: they run later, as whoever calls them
COMMENTS = re.compile(r"--[^\n]*|/\*.*?\*/", re.S)
EGRESS = {
    "lib/egress.py",
    "providers/clients.py",
    "chatsite/dev.py",  # asks its own server whether it is up
    "billing/standin/delivery.py",  # posts to our own webhook, over egress's connector
}
HTTP = {"requests", "urllib3", "http.client", "urllib.request"}
LIBRARIES = {"httpx", "httpx2", "aiohttp"}  # their errors and time limits are nobody's danger
CLIENTS = {
    "Client",
    "AsyncClient",
    "ClientSession",
    "request",
    "stream",
    "get",
    "head",
    "post",
    "put",
    "patch",
    "delete",
}


def files(*folders, skip=()):
    for folder in folders:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if not any(part in skip for part in path.relative_to(ROOT).parts):
                yield path, ast.parse(path.read_text())


def strings(tree, names):
    """Every string that stands in `tree`, also behind a module's constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value
        elif isinstance(node, ast.Name) and node.id in names:
            yield from strings(names[node.id], {})


def called(node):
    return ast.unparse(node.func).rpartition(".")[2] if isinstance(node, ast.Call) else ""


def sins_of_migration(tree):
    """FORCE binds the owner: RunSQL and an unwrapped RunPython change 0 rows, and say so to nobody."""
    constants = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    for node in ast.walk(tree):
        if called(node) == "RunSQL":
            for sql in strings(
                ast.Tuple(elts=[*node.args, *(k.value for k in node.keywords)], ctx=ast.Load()), constants
            ):
                if DML.search(COMMENTS.sub("", BODIES.sub("", sql))):
                    yield f"line {node.lineno}: RunSQL changes rows, and under FORCE it sees none: RunPython(as_service(...))"
        elif called(node) == "RunPython":
            for work in [*node.args, *(k.value for k in node.keywords if k.arg in ("code", "reverse_code"))]:
                if called(work) != "as_service" and not ast.unparse(work).endswith("noop"):
                    yield f"line {node.lineno}: RunPython({ast.unparse(work)}) must be wrapped in as_service"


def builds_that_block(tree):
    """An index on a table that is in use: built otherwise, nobody can write there until it is done."""
    made = {
        ast.literal_eval(keyword.value).lower()
        for node in ast.walk(tree)
        if called(node) == "CreateModel"
        for keyword in node.keywords
        if keyword.arg == "name"
    }
    is_atomic = not any(
        isinstance(node, ast.Assign) and ast.unparse(node) == "atomic = False" for node in ast.walk(tree)
    )
    for node in ast.walk(tree):
        names = {keyword.arg: keyword.value for keyword in getattr(node, "keywords", ())}
        if called(node) in ("AddIndex", "AddIndexConcurrently"):
            if "model_name" not in names or ast.literal_eval(names["model_name"]).lower() not in made:
                yield f"line {node.lineno}: {called(node)} on a table in use: AddIndexAtWork, in a migration of its own"
        elif called(node) == "AddIndexAtWork" and (is_atomic or ast.unparse(tree).count("model_name=") > 1):
            yield f"line {node.lineno}: AddIndexAtWork wants atomic = False and a migration of its own"


def ways_around(tree):
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("using", "db_manager")
        ):
            yield f"line {node.lineno}: .{node.func.attr}(...) leaves the scope's connection"
        if isinstance(node, ast.Call) and any(
            keyword.arg == "using" and isinstance(keyword.value, ast.Constant) and keyword.value.value == "owner"
            for keyword in node.keywords
        ):
            yield f"line {node.lineno}: using='owner'"
        if isinstance(node, ast.Subscript) and ast.unparse(node) == "connections['owner']":
            yield f"line {node.lineno}: connections['owner']"


def ways_out(tree):
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        for name in names:
            library, _, thing = name.rpartition(".")
            if name in HTTP or name.partition(".")[0] in HTTP or (library in LIBRARIES and thing in CLIENTS):
                yield f"line {node.lineno}: {name}"


def found(sins, *folders, skip=(), except_for=frozenset()):
    return [
        f"{path.relative_to(ROOT)}, {sin}"
        for path, tree in files(*folders, skip=skip)
        if str(path.relative_to(ROOT)) not in except_for
        for sin in sins(tree)
    ]


def test_no_migration_changes_rows_that_it_cannot_see():
    """PLUMBING 1."""
    apps = {model._meta.app_label for model in walled_models()}
    folders = [f"{app}/migrations" for app in sorted(apps)]

    assert len(folders) >= 7
    assert found(sins_of_migration, *folders) == []


def test_no_index_is_built_while_everybody_waits():
    assert (
        found(builds_that_block, *(f"{app}/migrations" for app in OURS if (ROOT / app / "migrations").is_dir())) == []
    )


def test_nothing_goes_around_the_scope():
    """Only lib names a connection by hand; the owner's is for what makes tables: migrations (chatsite.apps gives their
    rights after one), and a restore into an empty database."""
    owners = {
        "chatsite/apps.py",
        "chatsite/backups/restoring.py",
        "events/management/commands/settle_stream.py",
    }
    assert found(ways_around, *OURS, skip=("migrations", "lib"), except_for=owners) == []


def test_nothing_talks_http_but_through_egress():
    """F-11: what the server fetches is vetted in one place, and SDKs are built in one place."""
    assert found(ways_out, *OURS, except_for=EGRESS) == []


@pytest.mark.parametrize(
    ("sins", "source"),
    [
        (sins_of_migration, "migrations.RunSQL('update accounts_brand set zone = 1')"),
        (
            sins_of_migration,
            "SQL = '''create index x on y (z);\n-- why\ninsert into a values (1)'''\nmigrations.RunSQL([SQL], '')",
        ),
        (sins_of_migration, "RunSQL(sql='with x as (select 1) delete from a using x')"),
        (sins_of_migration, "migrations.RunPython(seed)"),
        (sins_of_migration, "migrations.RunPython(as_service(seed), unseed)"),
        (builds_that_block, "migrations.AddIndex(model_name='turn', index=1)"),
        (builds_that_block, "migrations.CreateModel(name='Look')\nmigrations.AddIndex(model_name='turn', index=1)"),
        (builds_that_block, "AddIndexConcurrently('turn', 1)"),
        (builds_that_block, "AddIndexAtWork(model_name='turn', index=1)"),
        (
            builds_that_block,
            "atomic = False\nmigrations.AddField(model_name='turn', name='x')\nAddIndexAtWork(model_name='turn', index=1)",
        ),
        (ways_around, "Brand.objects.using('service').all()"),
        (ways_around, "Brand.objects.db_manager('owner')"),
        (ways_around, "connections['owner'].cursor()"),
        (ways_around, "row.save(using='owner')"),
        (ways_out, "import requests"),
        (ways_out, "from httpx import AsyncClient"),
        (ways_out, "import urllib.request"),
        (ways_out, "from urllib import request"),
        (ways_out, "from aiohttp import ClientSession"),
        (ways_out, "import httpx2\nhttpx2.post('http://169.254.169.254/')"),
    ],
)
def test_each_sin_is_seen(sins, source):
    assert list(sins(ast.parse(source)))


@pytest.mark.parametrize(
    ("sins", "source"),
    [
        (sins_of_migration, "migrations.RunSQL('create function f() returns int as $$ delete from x; select 1 $$')"),
        (sins_of_migration, "migrations.RunSQL('grant select, update on x to y', migrations.RunSQL.noop)"),
        (sins_of_migration, "migrations.RunSQL('create trigger t before insert or update on x for each row')"),
        (sins_of_migration, "migrations.RunPython(as_service(seed), migrations.RunPython.noop)"),
        (builds_that_block, "migrations.CreateModel(name='Turn')\nmigrations.AddIndex(model_name='turn', index=1)"),
        (builds_that_block, "atomic = False\nAddIndexAtWork(model_name='turn', index=1)"),
        (ways_around, "connections['service'].cursor()"),
        (ways_out, "from urllib.parse import quote"),
        (ways_out, "import httpx2\nexcept_for = httpx2.HTTPError"),
    ],
)
def test_what_is_right_passes(sins, source):
    assert not list(sins(ast.parse(source)))
