"""The contract of providers.calls.stream, against a real server of both protocols, on both paths to the SDK."""

import asyncio
import contextlib
import importlib
from math import inf, nan

import anthropic as anthropic_sdk
import openai as openai_sdk
import pytest

from providers import anthropic, calls, clients, openai
from providers.calls import Call, Limits
from providers.errors import Busy, CutOff, Down, Garbled, KeyRefused, ProviderError, Rejected, TimedOut
from providers.vendors import OPENAI_URL, OPENROUTER_URL
from tests.providers.conftest import KEY, QUESTION
from tests.upstream import blackhole


async def test_pieces_and_then_one_usage_arrive_as_the_vendor_sent_them(ask, protocol, path):
    pieces, usage = await ask(protocol, "m;tokens=50")

    assert pieces == [f"w{n:04d} " for n in range(1, 51)]
    assert (usage.prompt_tokens, usage.completion_tokens) == (9, 50)
    assert (usage.model, usage.finish_reason) == ("m;tokens=50", "stop")


@pytest.mark.parametrize(
    "usage", ["negative", "zero", "null", "nan", "huge", "2**31", "2**63", "wrong", "list", "missing"]
)
async def test_light_and_stock_stream_say_the_same(ask, protocol, usage, monkeypatch):
    model = f"m;tokens=40;md=1;usage={usage}"

    light = await ask(protocol, model)
    for adapter in (openai, anthropic):
        monkeypatch.setattr(adapter, "LIGHT", False)
    stock = await ask(protocol, model)

    assert light[0] == stock[0]
    assert repr(light[1].prompt_tokens) == repr(stock[1].prompt_tokens)
    assert repr(light[1].completion_tokens) == repr(stock[1].completion_tokens)
    assert light[1].finish_reason == stock[1].finish_reason
    counted = {name: number for name, number in light[1].raw.items() if name != "total_tokens"}
    assert repr(sorted(counted.items())) == repr(
        sorted((name, number) for name, number in stock[1].raw.items() if name != "total_tokens")
    )


@pytest.mark.parametrize("usage", ["negative", "null", "string", "nan", "huge", "list", "missing"])
async def test_a_nonsensical_count_is_none_and_stands_in_raw_as_it_came(ask, protocol, usage):
    pieces, told = await ask(protocol, f"m;tokens=5;usage={usage}")

    assert len(pieces) == 5
    assert (told.prompt_tokens, told.completion_tokens) == (None, None)
    raw = told.raw.get("completion_tokens", told.raw.get("output_tokens", "missing"))
    as_it_came = {"negative": -7, "null": None, "string": "34", "nan": nan, "huge": inf, "list": [2]}
    assert repr(raw) == repr(as_it_came.get(usage, "missing"))


async def test_max_tokens_is_always_sent_and_cuts_the_answer(ask, upstream, protocol):
    pieces, usage = await ask(protocol, "m;tokens=50", max_tokens=7)

    assert len(pieces) == 7
    assert usage.finish_reason == "length"
    assert upstream.calls()[0]["body"]["max_tokens"] == 7


async def test_anthropic_gets_system_apart_and_only_the_parameters_it_knows(ask, upstream):
    await ask("anthropic", "m", params={"temperature": 1.7, "stop": "END", "seed": 1, "top_p": 0.5})

    body = upstream.calls()[0]["body"]
    assert body["system"] == "Answer briefly."
    assert body["messages"] == [QUESTION[1]]
    assert (body["temperature"], body["stop_sequences"], body["top_p"]) == (1.0, ["END"], 0.5)
    assert "seed" not in body


def test_openai_itself_gets_the_name_that_its_reasoning_models_accept():
    call = Call("openai", "gpt", QUESTION, 9)

    assert openai.body_of(call, OPENAI_URL)["max_completion_tokens"] == 9
    assert openai.body_of(call, OPENROUTER_URL)["max_tokens"] == 9


@pytest.mark.parametrize(
    ("option", "error", "vendor_status"),
    [
        ("status=400", Rejected, 400),
        ("status=401", KeyRefused, 401),
        ("status=402", KeyRefused, 402),
        ("status=403", KeyRefused, 403),
        ("status=404", Rejected, 404),
        ("status=413", Rejected, 413),
        ("status=422", Rejected, 422),
        ("status=429;retry_after=7", Busy, 429),
        ("status=500", Down, 500),
        ("status=503", Down, 503),
        ("status=529", Busy, 529),
        ("redirect=1", Down, 307),
    ],
)
async def test_a_refusal_before_the_answer_is_typed_by_its_status(
    ask, upstream, protocol, path, option, error, vendor_status
):
    """W-05 for providers: a redirect is a failure, not followed."""
    with pytest.raises(error) as caught:
        await ask(protocol, f"m;{option}")

    assert type(caught.value) is error
    assert caught.value.vendor_status == vendor_status
    assert caught.value.retry_after == (7 if "retry_after" in option else None)
    assert caught.value.pieces == []
    assert len(upstream.calls()) == 1  # nothing is retried here


@pytest.mark.parametrize(
    ("option", "error"),
    [
        ("cut=middle", CutOff),
        ("cut=quiet", CutOff),
        ("garble=1", Garbled),
        ("error_mid=1", Busy),
        ("error_mid=rate_limit_error", Busy),
        ("error_mid=invalid_request_error", Rejected),
        ("error_mid=api_error", Down),
    ],
)
async def test_an_answer_that_breaks_in_the_middle_raises_after_its_pieces(ask, protocol, path, option, error):
    with pytest.raises(error) as caught:
        await ask(protocol, f"m;tokens=30;after=12;delay_ms=1;{option}")

    assert type(caught.value) is error
    assert len(caught.value.pieces) == 12


async def test_an_answer_that_comes_compressed_is_read_all_the_same(ask, protocol, path):
    pieces, usage = await ask(protocol, "m;tokens=30;gzip=1")

    assert (len(pieces), usage.completion_tokens) == (30, 30)


async def test_a_web_page_instead_of_an_answer_is_garbled(ask, protocol):
    with pytest.raises(Garbled):
        await ask(protocol, "m;garble=html")


@pytest.mark.parametrize(
    ("option", "limits", "stage", "pieces"),
    [
        ("hang=headers", {"first_token_s": 0.3}, "first token", 0),
        ("hang=first", {"first_token_s": 0.3}, "first token", 0),
        ("hang=middle", {"idle_s": 1}, "idle", 10),
        ("tokens=100;delay_ms=20", {"total_s": 0.5}, "total", None),
    ],
)
async def test_each_time_limit_ends_the_stream_and_names_its_stage(
    ask, upstream, protocol, path, option, limits, stage, pieces
):
    began = asyncio.get_running_loop().time()

    with pytest.raises(TimedOut) as caught:
        await ask(protocol, f"m;{option}", **limits)

    assert asyncio.get_running_loop().time() - began < 20
    assert caught.value.stage == stage
    assert pieces is None or len(vars(caught.value)["pieces"]) == pieces
    await disconnected(upstream)


async def test_the_beginning_of_a_tool_call_is_the_first_token(ask, protocol, path):
    """O-03: from then on the limit is the idle time."""
    tool = {"name": "look_up", "description": "", "parameters": {"type": "object", "properties": {}}}
    with pytest.raises(TimedOut) as caught:
        await ask(protocol, "m;tokens=0;calls=1;hang=call", tools=(tool,), idle_s=0.3)

    assert caught.value.stage == "idle"
    assert [piece.name for piece in vars(caught.value)["pieces"]] == ["look_up"]


async def test_no_connection_in_time_looks_like_nobody_there(ask, settings, protocol, path):
    """W-11: the same outward error, whether an address is silent, closed or forbidden."""
    outward = set()
    with blackhole() as silent:
        settings.EGRESS_ALLOW = [silent.removeprefix("http://"), "127.0.0.1:1"]
        for base_url in (silent, "http://127.0.0.1:1", "https://10.0.0.1", "http://127.0.0.1:2"):
            with pytest.raises(ProviderError) as caught:
                await ask(protocol, "m", base_url=base_url, connect_s=0.3)
            outward.add((caught.value.status, caught.value.code, caught.value.detail, str(caught.value.extra)))
            if base_url == silent:
                assert isinstance(caught.value, TimedOut)
                assert caught.value.stage == "connect"

    assert len(outward) == 1


async def test_time_our_own_reader_takes_is_not_the_vendors(upstream):
    call = Call("openai", "m;tokens=40;delay_ms=1", QUESTION, 100, base_url=upstream.openai_url)
    pieces = 0
    async for _ in calls.stream(call, key=KEY, limits=Limits(idle_s=1)):
        pieces += 1
        if pieces == 5:
            await asyncio.sleep(1.5)

    assert pieces == 41


@pytest.mark.parametrize(
    ("model", "words"),  # so many have been sent when we leave
    [("m;hang=headers", 0), ("m;hang=first", 0), ("m;hang=middle", 10), ("m;tokens=5000;delay_ms=5", 20)],
)
@pytest.mark.parametrize("how", ["cancel", "aclose"])
async def test_leaving_closes_the_vendors_connection(upstream, protocol, path, model, words, how):
    """H2: stop reaches the vendor."""
    url = {"openai": upstream.openai_url, "anthropic": upstream.anthropic_url}[protocol]
    items = calls.stream(Call(protocol, model, QUESTION, 10_000, base_url=url), key=KEY)
    seen = []

    async def read():
        async for item in items:
            seen.append(item)
            if how == "aclose" and len(seen) == 5:
                return

    task = asyncio.create_task(read())
    async with asyncio.timeout(30):
        while not any(call["sent_tokens"] >= words for call in await asyncio.to_thread(upstream.calls)):  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.02)
    await asyncio.sleep(0.05)  # so that they arrive
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    await items.aclose()

    await disconnected(upstream)


async def disconnected(upstream):
    async with asyncio.timeout(30):
        while not upstream.calls()[-1]["disconnected"]:  # noqa: ASYNC110 - another process tells
            await asyncio.sleep(0.02)


async def test_aborted_and_failed_streams_leave_no_connection_open(upstream, ask, protocol, path):
    for option in ("status=500", "garble=1", "cut=middle", "cut=quiet", "error_mid=1", "tokens=3"):
        for _ in range(3):
            with contextlib.suppress(ProviderError):
                await ask(protocol, f"m;{option}")
    await asyncio.sleep(0.1)

    assert established(upstream.port) <= 1  # one, kept for the next question


def established(port):
    with open("/proc/self/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return sum(row[2].endswith(f":{port:04X}") and row[3] == "01" for row in rows)


async def test_the_next_question_uses_the_same_connection(ask, upstream, protocol, path):
    for _ in range(4):
        await ask(protocol, "m;tokens=3")

    assert len({call["peer"] for call in upstream.calls()}) == 1


async def test_many_streams_run_at_once(ask):
    answers = await asyncio.gather(*(ask("openai", "m;tokens=5;first_ms=300") for _ in range(300)))

    assert all(len(pieces) == 5 for pieces, _ in answers)


async def test_clients_are_bounded_and_one_that_streams_is_never_closed(ask, upstream, monkeypatch):
    monkeypatch.setattr(clients, "HTTP_CLIENTS", 2)
    long = asyncio.create_task(ask("openai", "m;tokens=100;delay_ms=5"))
    await asyncio.sleep(0.1)

    for number in range(6):
        await ask("openai", "m;tokens=1", base_url=f"{upstream.base_url}/gateway{number}/v1")

    pieces, _ = await long
    assert len(pieces) == 100
    await asyncio.sleep(0.1)
    assert established(upstream.port) <= 2


@pytest.mark.parametrize(
    ("adapter", "sdk", "client"),
    [(openai, openai_sdk, "AsyncOpenAI"), (anthropic, anthropic_sdk, "AsyncAnthropic")],
    ids=["openai", "anthropic"],
)
async def test_when_an_sdk_loses_the_hook_the_stock_stream_serves(ask, adapter, sdk, client):
    """An upgrade that renames what the light path passes must cost CPU, not answers."""
    client_class = getattr(sdk, client)
    post = client_class.post

    def renamed_post(self, path, *, cast_to, body=None, options=None, stream=False, **renamed):
        return post(self, path, cast_to=cast_to, body=body, options=options or {}, stream=stream, **renamed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(client_class, "post", renamed_post)
        importlib.reload(adapter)
        assert adapter.LIGHT is False
        pieces, usage = await ask(adapter.__name__.split(".")[1], "m;tokens=9")
    importlib.reload(adapter)

    assert adapter.LIGHT is True
    assert (len(pieces), usage.completion_tokens) == (9, 9)


async def test_a_nul_never_reaches_us(ask, protocol):
    messages = ({"role": "user", "content": "a\0b ünïcödé 👍"},)

    pieces, _ = await ask(protocol, "echo", messages=messages)

    assert "".join(pieces) == "ab ünïcödé 👍 "


@pytest.mark.parametrize("thought", ["reasoning_content", "reasoning", "silent"])
async def test_a_thought_is_a_sign_of_life_and_no_piece(upstream, protocol, path, thought):
    """O-03: from the first thought on the limit is the idle time, and the caller hears of it at once, once."""
    url = {"openai": upstream.openai_url, "anthropic": upstream.anthropic_url}[protocol]
    call = Call(protocol, f"m;tokens=2;thinks=8;delay_ms=100;thought={thought}", QUESTION, 100, url)
    signs = []
    items = calls.stream(call, key=KEY, limits=Limits(first_token_s=0.6, idle_s=5), alive=lambda: signs.append("alive"))

    if thought == "silent":
        with pytest.raises(TimedOut) as caught:
            await anext(items)
        assert (caught.value.stage, signs) == ("first token", [])
        return
    said = [item async for item in items]
    assert (said[:2], len(said), signs) == (["w0001 ", "w0002 "], 3, ["alive"])


def test_what_a_message_says_beside_its_text_is_counted():
    """Q-06: names and ids go to the vendor too, and would be free."""
    plain = calls.estimate_tokens([{"role": "user", "content": "Hello"}])
    assert calls.estimate_tokens([{"role": "user", "content": "Hello", "name": "n" * 60}]) >= plain + 20

    def made(call_id, told_id):
        call = {"id": call_id, "type": "function", "function": {"name": "f", "arguments": "{}"}}
        return [
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": told_id, "content": "x"},
        ]

    assert calls.estimate_tokens(made("c" * 150, "c")) >= calls.estimate_tokens(made("c", "c")) + 49
    assert calls.estimate_tokens(made("c", "c" * 150)) >= calls.estimate_tokens(made("c", "c")) + 49
