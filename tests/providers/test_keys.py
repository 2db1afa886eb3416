"""Which key goes where, and what must never leave with a request."""

import json
import pickle

import pytest

from lib.secret import Secret
from providers.calls import platform_key
from providers.errors import KeyRefused, refusal
from tests.providers.conftest import KEY

ENVIRONMENT = {
    "OPENAI_ORG_ID": "org-operator",
    "OPENAI_PROJECT_ID": "proj-operator",
    "OPENAI_CUSTOM_HEADERS": "X-Operator: secret-header",
    "OPENAI_API_KEY": "sk-environment-openai",
    "OPENAI_ADMIN_KEY": "sk-environment-admin",
    "ANTHROPIC_API_KEY": "sk-environment-anthropic",
    "ANTHROPIC_AUTH_TOKEN": "token-environment",
    "ANTHROPIC_CUSTOM_HEADERS": "X-Operator: secret-header",
}


@pytest.fixture
def keys(settings):
    settings.OPENAI_API_KEY, settings.ANTHROPIC_API_KEY, settings.OPENROUTER_API_KEY = "sk-o", "sk-a", "sk-r"
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""


@pytest.mark.parametrize(
    ("protocol", "base_url", "key"),
    [
        ("openai", "", "sk-o"),
        ("openai", "https://api.openai.com/v1", "sk-o"),
        ("openai", "https://API.openai.com:443/v1/", "sk-o"),
        ("openai", "https://openrouter.ai/api/v1", "sk-r"),
        ("anthropic", "", "sk-a"),
        ("anthropic", "https://api.anthropic.com", "sk-a"),
        ("openai", "https://evil.example/v1", None),
        ("openai", "http://api.openai.com/v1", None),
        ("openai", "https://api.openai.com:8443/v1", None),
        ("openai", "https://api.openai.com.evil.example/v1", None),
        ("openai", "https://api.anthropic.com", None),
        ("anthropic", "https://api.openai.com/v1", None),
        ("anthropic", "https://openrouter.ai/api/v1", None),
        ("demo", "", None),
    ],
)
def test_a_platform_key_goes_only_to_its_own_vendor(keys, protocol, base_url, key):
    """Q-27."""
    assert platform_key(protocol, base_url) == (Secret(key) if key else None)


def test_the_environments_own_base_url_is_the_keys_home_too(keys, settings):
    """Q-27."""
    settings.OPENAI_BASE_URL = "http://gateway.internal:4000/v1"

    assert platform_key("openai", "") == Secret("sk-o")
    assert platform_key("openai", "http://gateway.internal:4000/other") == Secret("sk-o")
    assert platform_key("openai", "http://gateway.internal:4001/v1") is None


def test_no_key_is_none(keys, settings):
    settings.OPENAI_API_KEY = ""

    assert platform_key("openai", "") is None


async def test_nothing_of_the_environment_leaves_with_a_request(ask, upstream, protocol, monkeypatch):
    """Q-27: the SDKs would add these headers to every base URL."""
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)

    await ask(protocol, "m;tokens=1")
    await ask(protocol, "m;tokens=1", key=None)

    with_key, without_key = (call["headers"] for call in upstream.calls())
    assert with_key["Authorization"] == f"Bearer {KEY.reveal()}"
    assert "Authorization" not in without_key
    sent = json.dumps([with_key, without_key])
    assert not [value for value in ("operator", "environment", "secret-header") if value in sent]
    assert not [name for name in with_key if name.lower().startswith(("x-stainless", "x-api-key", "openai-", "cookie"))]


async def test_two_keys_for_one_address_never_mix(ask, upstream, protocol):
    keys = [Secret(f"sk-person-{n}") for n in range(5)] * 2

    for key in keys:
        await ask(protocol, "m;tokens=1", key=key)

    assert [call["key"] for call in upstream.calls()] == [key.reveal() for key in keys]


async def test_proxies_of_the_environment_are_ignored(ask, protocol, path, monkeypatch):
    """W-07."""
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")

    pieces, _ = await ask(protocol, "m;tokens=2")

    assert len(pieces) == 2


async def test_a_refused_key_is_masked_in_the_vendors_words(ask, protocol, path):
    """The upstream quotes the key in its 401, as OpenAI does."""
    key = Secret("sk-bad-very-secret-value-1234")

    with pytest.raises(KeyRefused) as caught:
        await ask(protocol, "m", key=key)

    error = caught.value
    told = repr([error, error.detail, error.extra, error.vendor_detail, error.vendor_code, error.__dict__])
    assert "very-secret" not in told
    assert "[key]" in error.vendor_detail
    assert error.__context__ is None  # no way back to the SDK's request and its headers


def test_vendor_detail_is_short_and_masks_what_looks_like_a_key():
    error = refusal({"error": {"message": "Bad key sk-proj-abcdef123456 " + "x" * 1000}}, status=401)

    assert len(error.vendor_detail) <= 500
    assert "abcdef" not in error.vendor_detail


def test_a_secret_shows_itself_to_nobody_who_does_not_ask():
    secret = Secret("sk-hidden-value")

    for shown in (repr(secret), str(secret), f"{secret}", f"{secret!r:>40}", "%s" % secret, repr([secret])):  # noqa: UP031
        assert "hidden" not in shown
    with pytest.raises(TypeError):
        json.dumps(secret)
    with pytest.raises(TypeError):
        pickle.dumps(secret)
    with pytest.raises(TypeError):
        vars(secret)
    assert secret.reveal() == "sk-hidden-value"
    assert secret == Secret("sk-hidden-value")
    assert secret != Secret("sk-other-value")
    assert secret != "sk-hidden-value"
