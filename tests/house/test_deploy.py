"""What deploy/ ships: read by the programs it is for, and a real nginx with it in front of a real process."""

import ast
import asyncio
import contextlib
import os
import re
import shutil
import socket
import ssl
import subprocess
from collections import Counter
from pathlib import Path

import aiohttp
import aiohttp.abc
import pytest
import uvicorn
import yaml
from asgiref.sync import async_to_sync
from django.conf import settings
from django.core.management import get_commands, load_command_class

from chatsite import environment, web
from chatsite.middleware import PROBES
from conversations.models import OPEN_STATES, Turn
from lib.db import SERVICE, db, in_scope
from tests.server import Browser, eventually, free_port, run_site

DEPLOY = Path(settings.BASE_DIR) / "deploy"
UNITS = sorted(path.name for path in (DEPLOY / "systemd").iterdir())
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin"


def program(name, package):
    found = shutil.which(name, path=PATH)
    if not found and os.environ.get("CI"):
        pytest.fail(f"CI installs {package}, and {name} is not here")
    if not found:
        pytest.skip(f"{name} is not installed: apt-get install {package}")
    return found


def said(*command, **env):
    done = subprocess.run(
        command, env={**os.environ, **env}, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60
    )
    return done.returncode, done.stdout


def test_systemd_understands_every_unit(tmp_path):
    """The paths of a server are replaced by ones that are here."""
    analyze = program("systemd-analyze", "systemd")
    for name in UNITS:
        text = (DEPLOY / "systemd" / name).read_text()
        text = text.replace("/srv/chatsite/app/.venv/bin/python", "/bin/true").replace("/usr/bin/curl", "/bin/true")
        (tmp_path / name).write_text(text.replace("User=chatsite", "User=root"))
    targets = [tmp_path / (name.replace("@", "@8001")) for name in UNITS]
    (tmp_path / "chatsite-web@8001.service").symlink_to(tmp_path / "chatsite-web@.service")

    code, told = said(analyze, "verify", "--man=no", *map(str, targets))

    assert [line for line in told.splitlines() if str(tmp_path) in line or "chatsite" in line] == []
    assert code == 0


@pytest.mark.parametrize("name", [name for name in UNITS if name.endswith(".service")])
def test_units_ask_for_programs_that_are_there_and_give_them_little_power(name):
    unit = (DEPLOY / "systemd" / name).read_text()

    (command,) = re.findall(r"^ExecStart=/srv/chatsite/app/.venv/bin/python (.*)$", unit, re.M)
    assert command.startswith(("-m chatsite.web ", "-m celery -A chatsite ", "manage.py backup "))
    for line in ("NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=", "User=chatsite"):
        assert line in unit.splitlines()


def test_a_web_process_has_longer_to_end_than_its_drain_takes():
    """O-10"""
    unit = (DEPLOY / "systemd" / "chatsite-web@.service").read_text()
    (stop_s,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.M)
    production = ast.literal_eval(re.findall(r"DRAIN_S = .*else ([\d.]+)\)", _settings())[0])

    assert int(stop_s) >= production + 10
    assert "KillSignal=SIGTERM" in unit


def _settings():
    return (Path(settings.BASE_DIR) / "chatsite" / "settings.py").read_text()


@pytest.mark.parametrize("name", ["chatsite.env", "owner.env"])
def test_the_environment_files_name_only_what_is_declared_and_all_that_is_required(name):
    declared = {variable.name: variable for variable in environment.variables()}
    named = set(re.findall(r"^#?([A-Z_]+)=", (DEPLOY / name).read_text(), re.M))

    assert named <= declared.keys()
    if name == "chatsite.env":
        assert {name for name, variable in declared.items() if variable.required} <= named


@pytest.mark.parametrize("name", ["caddy/Caddyfile", "compose/Caddyfile"])
def test_caddy_understands_its_file(name):
    code, told = said(
        program("caddy", "caddy"),
        "validate",
        "--adapter",
        "caddyfile",
        "--config",
        str(DEPLOY / name),
        SITE="a.example",
    )

    assert code == 0, told
    assert "read_body 30s" in (DEPLOY / name).read_text(), "nobody holds a body open for ever"


@pytest.mark.parametrize("page", ["README.md", "docs/deployment.md", "docs/upgrading.md"])
def test_the_manual_names_commands_options_files_and_units_that_are_there(page):
    path = Path(settings.BASE_DIR) / page
    text = path.read_text().replace("\\\n", " ")

    for name, words in re.findall(r"(?:^chatsite|`chatsite|manage\.py) ([a-z_]+)([^\n`#]*)", text, re.M):
        assert name in get_commands(), name
        parser = load_command_class(get_commands()[name], name).create_parser("manage.py", name)
        for option in re.findall(r"(?<!\S)--[a-z-]+", words):
            assert option in parser._option_string_actions, f"{name} {option}"
    for unit in re.findall(r"chatsite-(?:web@|worker|beat|backup)(?:\.timer)?|chatsite\.target", text):
        assert {unit, f"{unit}.service"} & set(UNITS), unit
    for link in re.findall(r"\]\(([^)#:]+)\)", text):
        assert (path.parent / link).exists(), link
    for file in re.findall(r"(?:/srv/chatsite/app/|`)(deploy/[\w./-]*\w)", text):
        assert (Path(settings.BASE_DIR) / file).exists(), file


def test_the_shell_understands_the_wrapper():
    assert said("sh", "-n", str(DEPLOY / "chatsite")) == (0, "")


def test_a_unit_may_ask_its_process_by_its_address(db, async_client, settings):
    """By the way a real process takes: ASGI, with every middleware on the event loop."""
    settings.ALLOWED_HOSTS = ["chat.example.com"]
    settings.METRICS_TOKEN = ""

    def status(path):
        return async_to_sync(async_client.get)(path).status_code  # asks for `testserver`

    assert {path: status(path) for path in PROBES} == {"/healthz": 200, "/readyz": 200, "/metrics": 404}
    for path in ("/account/login/", "/v1/models", "/nowhere/"):
        assert status(path) == 400


SERVICE_KEYS = {
    "build", "cap_drop", "command", "configs", "depends_on", "environment", "healthcheck", "image", "init", "ports",
    "profiles", "read_only", "restart", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes",
}  # fmt: skip


def test_compose_is_whole():
    """No Docker is needed to see a name that is nowhere, a key that is none, a variable that nobody gives."""
    text = (DEPLOY / "compose" / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    services, volumes, configs = compose["services"], compose["volumes"], compose["configs"]
    declared = {variable.name for variable in environment.variables()}
    given = set(re.findall(r"^([A-Z_]+)=", (DEPLOY / "compose" / "example.env").read_text(), re.M))

    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "configs", "volumes"}
    passed = {name for name, value in compose["x-chatsite"]["environment"].items() if value is None}
    assert given - passed == set(re.findall(r"(?<!\$)\$\{(\w+)", text))
    for config in configs.values():
        assert (DEPLOY / "compose" / config["file"]).is_file()
    for name, service in services.items():
        assert service.keys() <= SERVICE_KEYS, name
        assert set(service.get("depends_on", ())) <= services.keys(), name
        for volume in service.get("volumes", ()):
            assert volume.partition(":")[0] in volumes
        if service.get("image") == "chatsite":
            assert set(service["environment"]) - declared <= {"POSTGRES_PASSWORD"}
            assert service["build"]["dockerfile"] == "deploy/compose/Dockerfile"
    stages = re.findall(r"^FROM \S+ AS (\w+)", (DEPLOY / "compose" / "Dockerfile").read_text(), re.M)
    assert {service["build"]["target"] for service in services.values() if "build" in service} <= set(stages)
    assert "allkeys" not in text


NOT_IN_COMPOSE = {
    "DATABASE_OWNER_URL",  # only its setup
    "DATABASE_TESTER_URL", "DEBUG", "DEVELOPMENT", "FAULT", "PORT", "VAR_DIR",  # never in production
    "STRIPE_STAND_IN", "STRIPE_STAND_IN_WEBHOOK",
}  # fmt: skip


@pytest.mark.parametrize("name", ["web1", "web2", "worker", "beat"])
def test_compose_gives_its_processes_every_variable_that_an_operator_may_set_and_no_passwords_beside(name):
    compose = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())
    service = compose["services"][name]

    assert service["environment"].keys() == {each.name for each in environment.variables()} - NOT_IN_COMPOSE
    assert "env_file" not in service


def test_compose_believes_its_proxy_and_keeps_bodies_within_bounds():
    service = yaml.safe_load((DEPLOY / "compose" / "compose.yaml").read_text())["services"]["web1"]

    assert service["environment"]["FORWARDED_ALLOW_IPS"] == "*"
    assert "ports" not in service, "whoever reaches it chooses his own address"
    assert [re.fullmatch(r"/tmp:size=(\d+)m", each) is not None for each in service["tmpfs"]] == [True]


@pytest.mark.parametrize(
    ("trusted", "proxy", "seen"),
    [
        (["127.0.0.1"], "127.0.0.1", "203.0.113.9"),
        (["127.0.0.1"], "172.18.0.7", "172.18.0.7"),
        (["172.18.0.0/16"], "172.18.0.7", "203.0.113.9"),
        (["*"], "172.18.0.7", "203.0.113.9"),
    ],
)
async def test_who_asked_is_believed_of_the_proxy_that_is_named_only(settings, monkeypatch, trusted, proxy, seen):
    """The audit log's `ip_address`."""
    settings.BEHIND_PROXY, settings.FORWARDED_ALLOW_IPS = True, trusted
    made, asked = [], []
    monkeypatch.setattr(web.Server, "run", lambda server: made.append(server))
    web.main([])
    (server,) = made
    server.config.load()

    async def remember(scope, receive, send):
        asked.append(scope["client"][0])

    server.config.loaded_app.app = remember
    headers = [(b"x-forwarded-for", b"203.0.113.9")]
    await server.config.loaded_app({"type": "http", "client": (proxy, 1), "headers": headers}, None, None)

    assert asked == [seen]


# nginx, for real


@contextlib.contextmanager
def running_nginx(folder, *processes):
    """The shipped file with this machine's paths and ports, in front of two processes; gives nginx's own two ports."""
    nginx = program("nginx", "nginx-light")
    folder.chmod(0o755)
    (folder / "static").mkdir()
    (folder / "static" / "look.0123456789ab.css").write_text("a { color: red }")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=act.localhost"),
            *("-keyout", folder / "privkey.pem", "-out", folder / "fullchain.pem"),
        ],
        check=True,
        capture_output=True,
    )
    ports = {"443": free_port(), "80": free_port(), **dict(zip(("8001", "8002"), processes, strict=True))}
    text = (DEPLOY / "nginx" / "chatsite.conf").read_text()
    for old, new in ports.items():
        text = re.sub(rf"(listen |127\.0\.0\.1:){old}\b", lambda m, new=new: _at(m[1], new), text)
    text = text.replace("/etc/letsencrypt/live/chat.example.com", str(folder)).replace("/srv/chatsite", str(folder))
    (folder / "site.conf").write_text(text.replace("chat.example.com", ".localhost"))
    temporary = "".join(
        f"{kind}_temp_path {folder}/{kind};" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    user = "user root; " if os.geteuid() == 0 else ""  # pytest's folders are its user's alone
    (folder / "nginx.conf").write_text(
        f"{user}daemon off; pid {folder}/pid; error_log {folder}/error.log; events {{}} "
        f"http {{ access_log off; {temporary} include /etc/nginx/mime.types; include {folder}/site.conf; }}"
    )
    code, told = said(nginx, "-t", "-c", str(folder / "nginx.conf"), "-e", str(folder / "error.log"))
    assert code == 0, told
    process = subprocess.Popen([nginx, "-c", folder / "nginx.conf", "-e", folder / "error.log"])
    try:
        yield ports
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def behind_nginx(django_db_setup, django_db_blocker, tmp_path_factory):
    """One of its two processes is not there at all."""
    folder = tmp_path_factory.mktemp("nginx")
    with (
        django_db_blocker.unblock(),
        run_site("nginx", BEHIND_PROXY="1") as (site, web),
        running_nginx(folder, web.port, free_port()) as ports,
        site.database(),
    ):
        yield site, ports


def _at(before, port):
    return f"listen 127.0.0.1:{port}" if before.startswith("listen") else f"127.0.0.1:{port}"


class Outside:
    """Where a browser's requests go: to nginx."""

    def __init__(self, port):
        self.url = f"https://act.localhost:{port}"


class Here(aiohttp.abc.AbstractResolver):
    """Every name is this machine: the names in a handshake are part of what is tested."""

    async def resolve(self, host, port=0, family=socket.AF_INET):
        return [{"hostname": host, "host": "127.0.0.1", "port": port, "family": family, "proto": 0, "flags": 0}]

    async def close(self):
        pass


@pytest.fixture
async def outside(behind_nginx, django_db_blocker):
    site, ports = behind_nginx
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    with django_db_blocker.unblock():
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(ssl=trusting, limit=0, resolver=Here()),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=60),
        ) as session:
            person = await db(site.person)
            browser = Browser(session, Outside(ports["443"]), person)
            browser.headers["Origin"] = f"https://{person.brand.domain}"
            yield browser


async def test_an_answer_comes_through_nginx_word_by_word(behind_nginx, outside):
    """The first words are here while the rest is not even written: nothing on the way waits for more."""
    site, _ = behind_nginx
    asked = await outside.ask(model=site.models["idle"])
    assert asked.status == 200, asked.body
    reading = outside.events(asked.turn_id)
    async with contextlib.aclosing(reading):
        first = await anext(reading)
        turn = await db(in_scope(SERVICE, Turn.objects.get), pk=asked.turn_id)
        assert await outside.stop(asked.turn_id) in (200, 204)
        rest = [event async for event in reading]

    assert first.name == "delta"
    assert turn.status in OPEN_STATES
    assert rest[-1].name == "done"


async def test_a_process_that_is_not_there_costs_nobody_a_request(outside):
    """O-09: every second request goes to the other process first."""
    for _ in range(8):
        asked = await outside.ask("Again.")
        assert asked.status == 200
        assert (await outside.read(asked.turn_id)).done


@pytest.mark.parametrize("path", ["/v1/responses", "/api/v1/chat", "/c/send/"])
async def test_what_was_sent_to_a_process_that_dies_over_it_is_sent_to_no_other(tmp_path, path):
    """Q-12: it may have asked a provider already. What may be asked twice is."""
    asked = []

    async def die(reader, writer):
        asked.append((await reader.readuntil(b" ")).decode().strip())
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    servers = [await asyncio.start_server(die, "127.0.0.1", 0) for _ in range(2)]
    trusting = ssl.create_default_context()
    trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
    connector = aiohttp.TCPConnector(ssl=trusting, resolver=Here())
    with running_nginx(tmp_path, *(server.sockets[0].getsockname()[1] for server in servers)) as ports:
        async with aiohttp.ClientSession(connector=connector) as session:
            url = f"https://act.localhost:{ports['443']}{path}"
            await eventually(lambda: asyncio.to_thread(_listens, ports["443"]))
            statuses = [(await session.post(url, json={})).status, (await session.get(url)).status]
    for server in servers:
        server.close()

    assert statuses == [502, 502]
    assert Counter(asked) == {"POST": 1, "GET": 2}


def _listens(port):
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def test_proxies_give_idle_connections_up_before_a_process_closes_them():
    """What is sent on one that is just being closed is lost, and a POST is not sent again."""
    production = float(re.findall(r'"LAME_DUCK_S", default=.* else ([\d.]+)\)', _settings())[0])
    closed_after_s = min(production, uvicorn.Config("chatsite.asgi:application").timeout_keep_alive)

    for name in ("nginx/chatsite.conf", "caddy/Caddyfile", "compose/Caddyfile"):
        (idle_s,) = re.findall(r"(?:keepalive_timeout|keepalive) (\d+)s", (DEPLOY / name).read_text())
        assert int(idle_s) < closed_after_s


@pytest.mark.parametrize("path", ["/metrics", "/readyz", "/healthz", "/readyz/"])
async def test_what_machines_on_the_inside_ask_is_closed_to_the_world(outside, path):
    """A-20"""
    async with outside.get(path) as response:
        assert response.status == 404
        assert "nginx/" not in await response.text() + response.headers.get("Server", "")


async def test_files_come_from_the_disk_for_good_and_the_missing_from_a_process(outside):
    async with outside.get("/static/look.0123456789ab.css") as response:
        assert (response.status, await response.text()) == (200, "a { color: red }")
        assert "immutable" in response.headers["Cache-Control"]
    async with outside.get("/static/nowhere.css") as response:
        assert response.status == 404


async def test_what_a_stranger_claims_of_himself_is_thrown_away(behind_nginx, outside):
    """Forwarded headers decide whether a request is safe and whose guesses are counted."""
    async with outside.get("/", headers={"X-Forwarded-Proto": "http", "X-Forwarded-For": "203.0.113.9"}) as response:
        assert response.status in (200, 302)
        assert not response.headers.get("Location", "").startswith("http:")


async def test_nobody_is_answered_who_asks_for_another_name(outside):
    with pytest.raises(aiohttp.ClientConnectorError):
        await outside.session.get(outside.web.url.replace("act.localhost", "evil.example.com"))


async def test_plain_http_is_led_to_https(behind_nginx, outside):
    _, ports = behind_nginx
    url = f"http://127.0.0.1:{ports['80']}/c/?a=1"
    async with outside.session.get(url, headers={"Host": "act.localhost"}, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (308, "https://act.localhost/c/?a=1")
