"""A key is asked about at its own vendor's host before anything is stored, and nobody hears of it."""

import pytest

from lib import clock
from lib.db import Principal
from lib.errors import Invalid
from lib.ids import uuid7
from lib.secret import Secret
from providers import clients, key_checks, own_keys
from providers.errors import ProviderError
from providers.models import ProviderKey
from providers.shapes import OwnKey
from providers.vendors import VENDORS

GOOD = "sk-good-4c1f9e7a2b"
Status = ProviderKey.Status


@pytest.fixture
def homes(upstream, settings):
    settings.OWN_KEY_HOMES = {
        "openai": upstream.openai_url,
        "anthropic": upstream.anthropic_url,
        "openrouter": upstream.openai_url,
    }
    return upstream


@pytest.mark.parametrize("code", sorted(VENDORS))
async def test_a_good_key_is_shown_to_its_vendor_once_and_kept_by_nobody(homes, code, monkeypatch):
    """Q-27: the environment's own keys and headers stay here."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")
    monkeypatch.setenv("ANTHROPIC_API_KEY", "sk-environment")

    verdict = await key_checks.check(VENDORS[code], Secret(GOOD))

    assert verdict == key_checks.Verdict(Status.VALID)
    (call,) = homes.calls()
    assert call["key"] == GOOD
    assert call["path"] == {"openai": "/v1/models", "anthropic": "/v1/models", "openrouter": "/v1/key"}[code]
    assert "environment" not in str(call["headers"])
    assert not clients._clients().sdks


@pytest.mark.parametrize("code", sorted(VENDORS))
@pytest.mark.parametrize(
    ("key", "status"),
    [("sk-bad-4c1f9e7a2b", Status.INVALID), ("sk-forbidden-4c1f9e7a2b", Status.INVALID),
     ("sk-unpaid-4c1f9e7a2b", Status.VALID), ("sk-busy-4c1f9e7a2b", Status.UNCHECKED),
     ("sk-down-4c1f9e7a2b", Status.UNCHECKED)],
)  # fmt: skip
async def test_what_a_vendor_says_of_a_key_is_told_without_the_key(homes, code, key, status):
    verdict = await key_checks.check(VENDORS[code], Secret(key))

    assert verdict.status == status
    assert verdict.message
    assert "4c1f9e" not in verdict.message


async def test_who_does_not_answer_in_time_is_not_waited_for(homes, monkeypatch):
    monkeypatch.setattr(key_checks, "PATIENCE_S", 0.3)

    verdict = await key_checks.check(VENDORS["openai"], Secret("sk-hang-4c1f9e7a2b"))

    assert verdict.status == Status.UNCHECKED


@pytest.mark.parametrize("home", ["http://127.0.0.1:1/v1", "http://169.254.169.254/v1", "https://nowhere.invalid/v1"])
async def test_an_address_that_cannot_be_reached_says_nothing_of_the_key(homes, settings, home):
    """W-21: the key goes out by egress like everything else."""
    settings.OWN_KEY_HOMES = {**settings.OWN_KEY_HOMES, "openai": home}

    verdict = await key_checks.check(VENDORS["openai"], Secret(GOOD))

    assert verdict == key_checks.Verdict(Status.UNCHECKED)
    assert not homes.calls()


def test_what_holds_a_piece_of_the_key_is_left_out_of_a_vendors_words():
    """Vendors quote a key whole, in part, or with stars in it."""
    key = "abcdefgh12345678ijklmnop"
    told = f"Incorrect key {key}, abcdef, (…ijklmnop), abc****nop; see https://vendor.example/keys"

    shown = key_checks.without(Secret(key), told)

    assert shown == "Incorrect key [key] [key] [key] [key] see https://vendor.example/keys"


def test_what_was_pasted_is_read_as_one_line(homes):
    assert key_checks.read(VENDORS["openai"], f" {GOOD[:9]}\n{GOOD[9:]}\t").reveal() == GOOD


@pytest.mark.parametrize(
    "pasted", ["", "short", "sk-\x00aaaaaaaaaaaaaaa", "sk-ünïcödé-aaaaaaaaa", "x" * 401, "sk-a\x7faaaaaaaaaaaaa"]
)
def test_what_is_no_key_is_refused_unrepeated(pasted):
    with pytest.raises(Invalid) as refused:
        key_checks.read(VENDORS["openai"], pasted)

    assert not pasted or pasted not in str(refused.value)


@pytest.mark.parametrize(
    ("code", "of"), [("openai", "Anthropic"), ("openrouter", "Anthropic"), ("anthropic", "OpenRouter")]
)
def test_a_key_of_one_vendor_is_never_sent_to_another(code, of):
    pasted = {"Anthropic": "sk-ant-api03-4c1f9e7a2b", "OpenRouter": "sk-or-v1-4c1f9e7a2b"}[of]

    with pytest.raises(Invalid, match=f"looks like a key of {of}"):
        key_checks.read(VENDORS[code], pasted)


def test_nobody_tries_many_keys(monkeypatch):
    """Five checks a minute for each member, whatever they are of."""
    now = clock.now()
    monkeypatch.setattr(clock, "now", lambda: now)
    one, other = Principal("app_user", uuid7(), uuid7()), Principal("app_user", uuid7(), uuid7())

    for _ in range(5):
        key_checks.count(one)
    with pytest.raises(key_checks.TooManyChecks):
        key_checks.count(one)
    key_checks.count(other)


@pytest.mark.parametrize(
    ("protocol", "base_url", "vendor"),
    [
        ("openai", "", "openai"),
        ("openai", "https://api.openai.com/v1", "openai"),
        ("openai", "https://API.OPENAI.com:443/v1/", "openai"),
        ("openai", "https://openrouter.ai/api/v1", "openrouter"),
        ("anthropic", "", "anthropic"),
        ("openai", "http://api.openai.com/v1", None),
        ("openai", "https://api.openai.com:8443/v1", None),
        ("openai", "https://api.openai.com.evil.example/v1", None),
        ("openai", "https://gateway.example/v1", None),
        ("anthropic", "https://api.openai.com/v1", None),
        ("demo", "", None),
    ],
)
def test_a_key_pays_for_what_is_asked_at_its_vendors_own_host_only(settings, protocol, base_url, vendor):
    """Q-27."""
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""

    found = own_keys.vendor_of(protocol, base_url)

    assert (found and found.code) == vendor


def test_a_gateway_of_the_operators_never_gets_a_members_key(settings):
    """Q-27: where OPENAI_BASE_URL leads elsewhere, models without an address of their own are asked there."""
    settings.OPENAI_BASE_URL = "http://gateway.internal:4000/v1"

    assert own_keys.vendor_of("openai", "") is None
    assert own_keys.home(VENDORS["openai"]) == "https://api.openai.com/v1"


def test_homes_come_from_nowhere_but_the_product(settings):
    assert {code: vendor.home for code, vendor in VENDORS.items()} == settings.OWN_KEY_HOMES
    assert all(home.startswith("https://") for home in settings.OWN_KEY_HOMES.values())


@pytest.mark.parametrize("asked", ["refused", "unreachable", "in the middle"])
async def test_no_frame_of_a_failure_shows_a_members_key(ask, homes, protocol, path, asked):
    """A-16: what a collector of errors would send home, with all local variables of the way down."""
    canary = "CANARY4c1f9e7a2b0d77e5"
    homes.revoke(canary)
    model = "m;error_mid=1;after=2" if asked == "in the middle" else "m"
    key = OwnKey("another-" + canary if asked == "in the middle" else canary, b"mark")

    with pytest.raises(ProviderError) as failed:
        await ask(protocol, model, key=key, base_url="http://127.0.0.1:1/v1" if asked == "unreachable" else None)

    error, told = failed.value, []
    while error is not None:
        trace = error.__traceback__
        told += [repr(error), str(error), repr(vars(error))]
        while trace is not None:
            told += [repr(value) for name, value in trace.tb_frame.f_locals.items() if name != "canary"]
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    assert not [text for text in told if "4c1f9e7a2b" in text]
