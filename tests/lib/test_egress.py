"""The way out. Only getaddrinfo is replaced: what DNS says is the attacker's."""

import contextlib
import ipaddress
import socket
import threading

import aiohttp
import pytest

from lib import egress

FORBIDDEN_HOSTS = [
    "127.0.0.1",
    "127.255.255.254",
    "0.0.0.0",
    "10.0.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.0.1",
    "100.64.0.1",
    "100.127.255.255",
    "169.254.169.254",
    "168.63.129.16",
    "192.0.0.1",
    "192.0.2.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.255",
    "240.0.0.1",
    "255.255.255.255",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "127.1",
    "0",
    "3232235521",
    "[::]",
    "[::1]",
    "[fe80::1]",
    "[fd00:ec2::254]",
    "[fc00::1]",
    "[ff02::1]",
    "[::ffff:7f00:1]",
    "[::ffff:127.0.0.1]",
    "[::ffff:a9fe:a9fe]",
    "[::127.0.0.1]",
    "[2002:7f00:1::]",
    "[2002:a9fe:a9fe::]",
    "[64:ff9b::7f00:1]",
    "[64:ff9b:1::a9fe:a9fe]",
    "[2001::1]",
    "[2001:db8::1]",
    "[100::1]",
    "[3fff::1]",
    "[5f00::1]",
]
MALFORMED_URLS = [
    "",
    "example.com",
    "//example.com/",
    "https://",
    "https:///v1",
    "https://:443/",
    "https://user@example.com/",
    "https://user:pass@example.com/",
    "https://@example.com/",
    "http://127.0.0.1\\@example.com/",
    "https://example.com\\.evil.example/",
    "https://exa mple.com/",
    "https://example.com/\n",
    "https://example.com/\t",
    "https://example.com\0/",
    "https://①②⑦.⓪.⓪.①/",
    "https://\uff11\uff12\uff17.0.0.1/",
    "https://exämple.com/",
    "https://example.com:/",
    "https://example.com:99999/",
    "https://example.com:-1/",
    "https://[::1/",
    "https://[fe80::1%25eth0]/",
    "https://[example.com]/",
    "https://%31%32%37.0.0.1/",
    "file:///etc/passwd",
    "gopher://example.com/",
    "ftp://example.com/",
    "data:text/plain,hi",
    "ws://example.com/",
    "http://example.com/",
    "https://example.com:22/",
    "https://example.com:5432/",
    "https://example.com:6379/",
    "https://example.com:80/",
]


@pytest.fixture(autouse=True)
def strict(settings):
    settings.DEBUG = False
    settings.EGRESS_ALLOW = []
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""


@pytest.fixture
def dns(monkeypatch):
    """dns["name"] = answers; a list of lists is answered one after the other. Literal addresses are real."""
    zone: dict = {}
    real = socket.getaddrinfo

    def getaddrinfo(host, port, family=0, type=0, proto=0, flags=0):  # noqa: A002 - the real one's names
        host = host.lower()  # as any server of names takes it
        if host not in zone:
            return real(host, port, family, type, proto, flags=socket.AI_NUMERICHOST)
        answers = zone[host].pop(0) if isinstance(zone[host][0], list) else zone[host]
        return [
            (socket.AF_INET6 if ":" in ip else socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, port)) for ip in answers
        ]

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return zone


@contextlib.contextmanager
def honeypot():
    """A listener that counts who comes."""
    hits = []
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            with contextlib.suppress(OSError):
                while True:
                    connection, address = listener.accept()
                    hits.append(address)
                    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
                    connection.close()

        threading.Thread(target=answer, daemon=True).start()
        yield listener.getsockname()[1], hits
        listener.shutdown(socket.SHUT_RDWR)


async def get(url, **allow):
    """GET through our connector, without asking vet_url first."""
    async with aiohttp.ClientSession(connector=egress.connector(url, **allow)) as session, session.get(url) as response:
        return await response.text()


@pytest.mark.parametrize("host", FORBIDDEN_HOSTS)
def test_a_url_that_leads_inside_is_refused(dns, host):
    """W-01, M9."""
    with contextlib.suppress(ValueError):  # some spellings are no answer that DNS could give
        dns["spelled.example"] = [str(ipaddress.ip_address(host.strip("[]")))]

    with pytest.raises(egress.Refused):
        egress.vet_url(f"https://{host}/v1")
    with pytest.raises(egress.Refused):
        egress.vet_url("https://spelled.example/v1")


@pytest.mark.parametrize("url", MALFORMED_URLS)
def test_a_url_that_parsers_could_disagree_on_or_that_is_no_https_is_refused(dns, url):
    """W-07, M10. All for the same outward reason: W-11."""
    dns["example.com"] = ["93.184.216.34"]

    with pytest.raises(egress.Refused) as caught:
        egress.vet_url(url)

    assert str(caught.value) == str(egress.Refused())


@pytest.mark.parametrize("address", ["93.184.216.34", "8.8.8.8", "100.63.0.1", "172.32.0.1", "2606:4700::1111"])
def test_a_public_address_is_fine(dns, address):
    dns["example.com"] = [address]

    egress.vet_url("https://example.com/v1?a=b")
    egress.vet_url(f"https://[{address}]/" if ":" in address else f"https://{address}/")


def test_one_private_answer_among_public_ones_is_enough_to_refuse(dns):
    """W-04."""
    dns["example.com"] = ["93.184.216.34", "::1"]

    with pytest.raises(egress.Refused):
        egress.vet_url("https://example.com/")


def test_a_name_that_nobody_knows_is_refused_in_the_same_words(dns):
    """W-11."""
    with pytest.raises(egress.Refused) as caught:
        egress.vet_url("https://nobody.example/")

    assert str(caught.value) == str(egress.Refused())


def test_plain_http_is_for_development_only(dns, settings):
    dns["example.com"] = ["93.184.216.34"]
    settings.DEBUG = True

    egress.vet_url("http://example.com/")
    with pytest.raises(egress.Refused):
        egress.vet_url("http://127.0.0.1/")


def test_what_the_operator_allows_is_allowed_for_that_host_and_port_only(dns, settings):
    """W-01."""
    settings.EGRESS_ALLOW = ["ollama.internal:11434"]
    settings.OPENAI_BASE_URL = "http://127.0.0.1:4000/v1"
    dns["ollama.internal"] = dns["evil.example"] = ["10.0.0.5"]

    egress.vet_url("http://ollama.internal:11434/v1")
    egress.vet_url("http://127.0.0.1:4000/anything", allow=egress.model_servers())
    for url in (
        "http://127.0.0.1:4000/anything",
        "http://ollama.internal:11435/v1",
        "https://ollama.internal/v1",
        "http://evil.example:11434/v1",
        "http://10.0.0.5:11434/v1",
        "http://127.0.0.1:4001/v1",
        "http://localhost:4000/v1",
    ):
        with pytest.raises(egress.Refused):
            egress.vet_url(url)


async def test_a_name_that_turns_inward_after_it_was_vetted_is_not_connected_to(dns, settings, monkeypatch):
    """W-03: DNS rebinding. The honeypot stays empty."""
    settings.DEBUG = True
    with honeypot() as (port, hits):
        monkeypatch.setitem(egress.DEFAULT_PORTS, "http", port)
        dns["rebind.example"] = [["93.184.216.34"], ["127.0.0.1"], ["93.184.216.34", "127.0.0.1"]]
        url = f"http://rebind.example:{port}/"

        egress.vet_url(url)
        for _ in range(2):
            with pytest.raises(aiohttp.ClientError):
                await get(url)

        assert dns["rebind.example"] == []
        assert hits == []


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "[::ffff:127.0.0.1]", "2130706433", "127.1", "0x7f000001", "0.0.0.0", "inward.example"]
)
async def test_no_spelling_of_our_own_address_is_connected_to(dns, settings, monkeypatch, host):
    """W-01 at connect: every URL that passes for a port we may use, however it was saved."""
    with honeypot() as (port, hits):
        monkeypatch.setitem(egress.DEFAULT_PORTS, "http", port)
        settings.DEBUG = True
        dns["inward.example"] = ["127.0.0.1"]

        with pytest.raises(aiohttp.ClientError):
            await get(f"http://{host}:{port}/")

        assert hits == []


async def test_an_allowed_host_is_reached_and_no_other_through_its_connector(dns, settings):
    """W-01, W-05: not even a redirect or a second URL leaves the host that was vetted."""
    with honeypot() as (port, hits):
        settings.EGRESS_ALLOW = [f"ours.internal:{port}"]
        dns["ours.internal"] = dns["other.internal"] = ["127.0.0.1"]
        url = f"http://ours.internal:{port}/"

        assert await get(url) == "hi"
        assert len(hits) == 1
        async with aiohttp.ClientSession(connector=egress.connector(url)) as session:
            with pytest.raises(aiohttp.ClientError):
                await session.get(f"http://other.internal:{port}/")
        assert len(hits) == 1


async def test_the_environment_s_own_model_server_is_reached_by_models_alone(settings):
    """W-21: whoever may name an address has no way in there."""
    with honeypot() as (port, hits):
        url = settings.OPENAI_BASE_URL = f"http://127.0.0.1:{port}/v1"

        with pytest.raises(egress.Unreachable):
            await egress.post(url, body=b"{}", headers={}, deadline_s=1)
        assert hits == []
        assert await get(url, allow=egress.model_servers()) == "hi"


@pytest.mark.parametrize("name", ["Ours.Internal", "XN--EXMPLE-CUA.internal", "OURS.internal."])
async def test_what_is_posted_arrives_however_its_host_is_spelled(dns, settings, name):
    """What a form accepts can be delivered."""
    with honeypot() as (port, hits):
        settings.EGRESS_ALLOW = [f"{name.lower().rstrip('.')}:{port}"]
        dns[name.lower()] = ["127.0.0.1"]

        egress.vet_url(f"http://{name}:{port}/")
        answer = await egress.post(f"http://{name}:{port}/", body=b"{}", headers={}, deadline_s=5)

    assert (answer.status, len(hits)) == (200, 1)
