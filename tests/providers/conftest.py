from contextlib import aclosing

import pytest

from lib.secret import Secret
from providers import anthropic, calls, clients, openai
from providers.calls import Call, Limits, Usage
from tests.upstream import Upstream

KEY = Secret("sk-test-0123456789abcdef")
QUESTION = (
    {"role": "system", "content": "Answer briefly."},
    {"role": "user", "content": "How do I bake bread at home?"},
)


@pytest.fixture(scope="session")
def upstream_process():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture
def upstream(upstream_process, settings):
    upstream_process.reset()
    settings.EGRESS_ALLOW = [upstream_process.host_port]
    settings.OPENAI_BASE_URL = settings.ANTHROPIC_BASE_URL = ""
    settings.DEBUG = False
    return upstream_process


@pytest.fixture(autouse=True)
async def close_clients():
    yield
    await clients.close()


@pytest.fixture(params=["openai", "anthropic"])
def protocol(request):
    return request.param


@pytest.fixture(params=["light", "stock"])
def path(request, monkeypatch):
    for adapter in (openai, anthropic):
        assert adapter.LIGHT, (
            "this SDK version broke the light path; the stock stream would serve, at five times the CPU"
        )
        monkeypatch.setattr(adapter, "LIGHT", request.param == "light")
    return request.param


@pytest.fixture
def ask(upstream):
    """ask(protocol, model) -> (pieces, usage); an error of the provider is raised with `.pieces` so far."""

    async def ask(
        protocol,
        model,
        *,
        key=KEY,
        base_url=None,
        max_tokens=1000,
        messages=QUESTION,
        params=None,
        tools=(),
        tool_choice="",
        **limits,
    ):
        url = base_url or {"openai": upstream.openai_url, "anthropic": upstream.anthropic_url}[protocol]
        call = Call(protocol, model, messages, max_tokens, url, params or {}, tools, tool_choice)
        pieces = []
        try:
            async with aclosing(calls.stream(call, key=key, limits=Limits(**limits))) as items:
                async for item in items:
                    pieces.append(item)  # noqa: PERF401 - what came before an error counts
        except Exception as error:
            vars(error)["pieces"] = pieces
            raise
        assert [type(item) is Usage for item in pieces] == [False] * (len(pieces) - 1) + [True]
        assert tools or all(type(item) is str for item in pieces[:-1])
        return pieces[:-1], pieces[-1]

    return ask
