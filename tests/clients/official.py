"""Asks a site with both official Python clients and prints what they said, as one JSON object.

python official.py BASE_URL KEY SPENT_KEY
"""

import json
import sys

import anthropic
import openai

URL, KEY, SPENT_KEY = sys.argv[1:4]
ASK = [{"role": "user", "content": "How is the weather in Paris?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}


def refused_as(ask, **given):
    try:
        ask(**given)
    except (openai.APIStatusError, anthropic.APIStatusError) as error:
        code = error.code if isinstance(error, openai.APIStatusError) else error.type
        return {"name": type(error).__name__, "status": error.status_code, "code": code}
    return "not refused"


def with_openai():
    def create(key=KEY, **given):
        client = openai.OpenAI(base_url=f"{URL}/v1", api_key=key, max_retries=0)
        return client.chat.completions.create(**{"messages": ASK, **given})

    tools = [{"type": "function", "function": {"name": "get_weather", "parameters": SCHEMA}}]
    whole = create(model="words")
    called = create(model="caller", tools=tools).choices[0]
    call = called.message.tool_calls[0]
    result = {"role": "tool", "tool_call_id": call.id, "content": "12 °C"}
    told = create(model="caller", tools=tools, messages=[*ASK, called.message, result])
    return {
        "whole": whole.choices[0].message.content,
        "usage": whole.usage.completion_tokens,
        "streamed": "".join(chunk.choices[0].delta.content or "" for chunk in create(model="words", stream=True)),
        "called": [called.finish_reason, call.function.name, json.loads(call.function.arguments)],
        "told": told.choices[0].message.content,
        "models": [model.id for model in openai.OpenAI(base_url=f"{URL}/v1", api_key=KEY).models.list()],
        "badKey": refused_as(create, model="words", key="sk-nonsense"),
        "spent": refused_as(create, model="words", key=SPENT_KEY),
        "unknownModel": refused_as(create, model="no-such-model"),
    }


def with_anthropic():
    def messages(key=KEY):
        return anthropic.Anthropic(base_url=URL, api_key=key, max_retries=0).messages

    def create(key=KEY, **given):
        return messages(key).create(**{"max_tokens": 300, "messages": ASK, **given})

    tools = [{"name": "get_weather", "input_schema": SCHEMA}]
    whole = create(model="words")
    with messages().stream(model="words", max_tokens=300, messages=ASK) as stream:
        streamed = stream.get_final_text()
    with messages().stream(model="caller", max_tokens=300, messages=ASK, tools=tools) as stream:
        called = stream.get_final_message()
    use = called.content[-1]
    results = [{"type": "tool_result", "tool_use_id": use.id, "content": "12 °C"}]
    again = [*ASK, {"role": "assistant", "content": called.content}, {"role": "user", "content": results}]
    return {
        "whole": whole.content[0].text,
        "usage": whole.usage.output_tokens,
        "streamed": streamed,
        "called": [called.stop_reason, use.name, use.input],
        "told": create(model="caller", tools=tools, messages=again).content[0].text,
        "counted": messages().count_tokens(model="words", messages=ASK).input_tokens,
        "models": [model.id for model in anthropic.Anthropic(base_url=URL, api_key=KEY).models.list()],
        "badKey": refused_as(create, model="words", key="sk-nonsense"),
        "spent": refused_as(create, model="words", key=SPENT_KEY),
        "unknownModel": refused_as(create, model="no-such-model"),
    }


if __name__ == "__main__":
    print(json.dumps({"openai": with_openai(), "anthropic": with_anthropic()}))
