"""Asks a site with LangChain and with llm and prints what they said, as one JSON object; runs in a venv of its own.

python others.py BASE_URL KEY SPENT_KEY
"""

import json
import os
import sys
import tempfile
from pathlib import Path

URL, KEY, SPENT_KEY = sys.argv[1:4]
QUESTION = "How is the weather in Paris?"
LLM_MODELS = """
- {{model_id: words, model_name: words, api_base: "{url}/v1", api_key_name: site}}
- {{model_id: caller, model_name: caller, api_base: "{url}/v1", api_key_name: site, supports_tools: true}}
- {{model_id: no-such-model, model_name: no-such-model, api_base: "{url}/v1", api_key_name: site}}
"""


def get_weather(city: str, n: int) -> str:
    """The weather of a city, n times."""
    return "12 °C " * n


def refused_as(ask, *given):
    try:
        ask(*given)
    except Exception as error:
        library = type(error).__module__.partition(".")[0]
        return {"name": f"{library}.{type(error).__name__}", "status": getattr(error, "status_code", None)}
    return "not refused"


def langchain(chat_class, **fields):
    from langchain_core.messages import HumanMessage, ToolMessage

    def model(name, key=KEY):
        return chat_class(model=name, api_key=key, max_retries=0, **fields)

    ask = [HumanMessage(QUESTION)]
    whole = model("words").invoke(ask)
    with_tools = model("caller").bind_tools([get_weather])
    called = with_tools.invoke(ask)
    call = called.tool_calls[0]
    result = ToolMessage(get_weather(**call["args"]), tool_call_id=call["id"])
    streamed_call = None
    for chunk in with_tools.stream(ask):
        streamed_call = chunk if streamed_call is None else streamed_call + chunk
    schema = {
        "title": "place",
        "description": "A place.",
        "type": "object",
        "properties": {"city": {"type": "string"}, "n": {"type": "integer"}},
        "required": ["city", "n"],
        "additionalProperties": False,
    }
    return {
        "whole": whole.text,
        "usage": whole.usage_metadata["output_tokens"],
        "streamed": "".join(chunk.text for chunk in model("words").stream(ask)),
        "called": [call["name"], call["args"]],
        "streamed_call": [streamed_call.tool_calls[0]["name"], streamed_call.tool_calls[0]["args"]],
        "told": with_tools.invoke([*ask, called, result]).text,
        "structured": model("words").with_structured_output(schema, method="json_schema").invoke(ask),
        "bad_key": refused_as(model("words", "sk-nonsense").invoke, ask),
        "spent": refused_as(model("words", SPENT_KEY).invoke, ask),
        "unknown_model": refused_as(model("no-such-model").invoke, ask),
    }


def with_llm():
    home = Path(tempfile.mkdtemp())
    os.environ["LLM_USER_PATH"] = str(home)
    (home / "extra-openai-models.yaml").write_text(LLM_MODELS.format(url=URL))
    import llm

    def ask(name, key=KEY, **given):
        return llm.get_model(name).prompt(QUESTION, key=key, **given).text()

    used = []

    def weather(city: str, n: int) -> str:
        """The weather of a city."""
        used.append([city, n])
        return get_weather(city, n)

    return {
        "whole": ask("words", stream=False),
        "streamed": "".join(llm.get_model("words").prompt(QUESTION, key=KEY)),
        "told": llm.get_model("caller").chain(QUESTION, tools=[weather], key=KEY).text(),
        "called": used,
        "bad_key": refused_as(ask, "words", "sk-nonsense"),
        "spent": refused_as(ask, "words", SPENT_KEY),
        "unknown_model": refused_as(ask, "no-such-model"),
    }


if __name__ == "__main__":
    from langchain_anthropic import ChatAnthropic
    from langchain_openai import ChatOpenAI

    told = {
        "langchain_openai": langchain(ChatOpenAI, base_url=f"{URL}/v1"),
        "langchain_anthropic": langchain(ChatAnthropic, base_url=URL, max_tokens=300),
        "llm": with_llm(),
    }
    print(json.dumps(told))
