"""Clients that others wrote, unchanged, against one real process: each runs in a process of its own (I5, F-02).

Whole, streamed, a tool called and its result told, and each refusal as the client's own exception.
"""

import pytest

from tests.server import said

pytestmark = pytest.mark.xdist_group("clients")  # each client is started once for all of them

CALLED = ["get_weather", {"city": "Paris", "n": 1}]
REASONS = {"openai": "tool_calls", "anthropic": "tool_use"}
REFUSALS = {
    "badKey": {
        "openai": "AuthenticationError invalid_api_key",
        "anthropic": "AuthenticationError authentication_error",
    },
    "unknownModel": {"openai": "NotFoundError model_not_found", "anthropic": "NotFoundError not_found_error"},
}
SPENT = {  # only Anthropic's clients have a class for 402
    ("official", "openai"): "APIStatusError insufficient_quota",
    ("official", "anthropic"): "PaymentRequiredError billing_error",
    ("node", "openai"): "APIError insufficient_quota",
    ("node", "anthropic"): "PaymentRequiredError billing_error",
}


@pytest.mark.parametrize("protocol", ["openai", "anthropic"])
@pytest.mark.parametrize("family", ["official", "node"])
def test_the_official_clients_of_both_languages_work_unchanged(request, family, protocol):
    told = request.getfixturevalue(family)[protocol]

    assert (told["whole"], told["streamed"], told["usage"]) == (said(20), said(20), 20)
    assert told["called"] == [REASONS[protocol], *CALLED]
    assert told["told"] == "told: 12 °C "
    assert {"words", "claude", "demo"} <= set(told["models"])
    assert protocol == "openai" or told["counted"] > 5
    for what, refusal in REFUSALS.items():
        assert f"{told[what]['name']} {told[what]['code']}" == refusal[protocol]
    spent = told["spent"]
    assert (f"{spent['name']} {spent['code']}", spent["status"]) == (SPENT[family, protocol], 402)


@pytest.mark.parametrize("client", ["langchain_openai", "langchain_anthropic"])
def test_langchain_works_unchanged_by_either_protocol(others, client):
    told = others[client]

    assert (told["whole"], told["streamed"], told["usage"]) == (said(20), said(20), 20)
    assert told["called"] == told["streamed_call"] == CALLED
    assert told["told"] == "told: 12 °C  "
    assert told["structured"] == {"city": "Paris", "n": 1}
    assert "Authentication" in told["bad_key"]["name"]
    assert "NotFound" in told["unknown_model"]["name"] or told["unknown_model"]["status"] == 404
    assert told["spent"]["status"] == 402


def test_llm_works_unchanged_and_runs_a_tool_to_its_end(others):
    told = others["llm"]

    assert (told["whole"], told["streamed"]) == (said(20), said(20))
    assert told["called"] == [["Paris", 1]]
    assert told["told"] == "told: 12 °C  "
    assert told["bad_key"] == {"name": "openai.AuthenticationError", "status": 401}
    assert told["unknown_model"] == {"name": "openai.NotFoundError", "status": 404}
    assert told["spent"]["status"] == 402
