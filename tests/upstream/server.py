"""The server of tests.upstream. Options stand in the model's name, `m;tokens=200;delay_ms=20`:

tokens=20         words to say: "w0001 w0002 ..."; cut to max_tokens with finish reason `length`
md=1              say Markdown instead; the model `echo` repeats the last message
first_ms, delay_ms    before the first word, between words
fails=2           the first two calls of this model end with `status` (500), the next ones answer
status=429        answer with this error; retry_after=7 sends the header; a key `sk-bad...` always gets 401
hang=             headers (never answers) | first (begins, no word) | middle (after `after` words) | call (a tool call begins)
cut=              first | middle (connection dropped after `after` words) | quiet (ends in good order, but unfinished)
after=10          where the middle is
usage=            missing | zero | null | negative | string | nan | huge | 2**31 | 2**63 | wrong | list
thinks=10         so many thoughts before the first word, delay_ms apart; they count as tokens. thought=reasoning names them
                  as OpenRouter does instead of DeepSeek; thought=silent sends none, as OpenAI itself
cached=5          so many of the prompt's tokens came from the cache (OpenAI's protocol)
stamp=1           every word is the time it is sent, in seconds (benchmarks)
gzip=1            compressed, though nobody asked for it
redirect=1        a 307 to /v1/models
garble=1          a malformed chunk in the middle; garble=html answers with a web page
error_mid=1       an error event in the middle: overloaded; error_mid=rate_limit_error names another
calls=2           after the words, calls to the first two tools that are offered, or to the one that tool_choice names;
                  nothing is called by tool_choice none. args=empty calls them without arguments; mixed=1 sends the
                  pieces of parallel calls in turn (OpenAI's protocol only)

Whatever the model, a key that begins `sk-bad` always gets 401, and so does one that was revoked (POST /control/revoke);
`sk-forbidden` 403, `sk-unpaid` 402, `sk-busy` 429, `sk-down` 500, and `sk-hang` never an answer. /models and OpenRouter's
/key ask for a key too.

Whatever the model: a question that ends with tools' results is answered `told: ` and the results; one that asks for JSON
gets {"city": "Paris", "n": 1}; an answer ends before a stop sequence.
"""

import asyncio
import base64
import itertools
import json
import struct
import sys
import time
from collections import Counter, deque
from dataclasses import dataclass
from typing import Any

import uvloop
from aiohttp import web

HANG_S = 120
CALLS_KEPT = 5000
JSON_HEADERS = {"Content-Type": "application/json"}
SSE_HEADERS = {"Content-Type": "text/event-stream; charset=utf-8", "Cache-Control": "no-cache"}
MARKDOWN = (
    "## Answer\n\nA **bold** claim with `code` and a [link](https://example.com).\n\n- one\n- two\n- three\n\n"
    "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint('hello')\n```\n\nThe end, ünïcödé 👍 included.\n\n"
)
ARGUMENTS = '{"city": "Paris", "n": %d}'
# (prompt, completion) as JSON text, so that it can be what no JSON library would write
USAGES = {
    "zero": ("0", "0"),
    "null": ("null", "null"),
    "negative": ("-5", "-7"),
    "string": ('"12"', '"34"'),
    "nan": ("NaN", "NaN"),
    "huge": ("1e400", "1e400"),
    "2**31": (str(2**31), str(2**31)),
    "2**63": (str(2**63), str(2**63)),
    "wrong": ("1000000", "2000000"),
    "list": ("[1]", "[2]"),
}
KEY_STATUSES = {"sk-bad": 401, "sk-forbidden": 403, "sk-unpaid": 402, "sk-busy": 429, "sk-down": 500}
OPENAI_ERRORS = {400: "invalid_request_error", 401: "invalid_request_error", 404: "invalid_request_error"}
ANTHROPIC_ERRORS = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    529: "overloaded_error",
}


Call = tuple[str, str, list[str]]  # id, name, pieces of the arguments


@dataclass
class Answer:
    """What is to be said, in words, calls and numbers; `stop` is the stop sequence that ended it."""

    pieces: list[str]
    calls: list[Call]
    usage: tuple[str, str] | None
    reason: str
    stop: str
    thoughts: int = 0
    cached: int = 0


def options_of(model: str) -> dict[str, str]:
    return dict(part.partition("=")[::2] for part in model.split(";")[1:])


def markdown_pieces(tokens: int) -> list[str]:
    words = MARKDOWN.replace(" ", " \0").replace("\n", "\n\0").split("\0")
    return [words[n % len(words)] for n in range(tokens)]


def pieces_of(body: dict[str, Any], options: dict[str, str]) -> list[str]:
    if results := results_of(body["messages"]):
        return ["told: ", *(f"{result} " for result in results)]
    if "response_format" in body or "output_config" in body:
        return list(ARGUMENTS % 1)
    if body["model"].startswith("echo"):
        return [f"{word} " for word in str(body["messages"][-1]["content"]).split(" ")]
    tokens = int(options.get("tokens", 20))
    if "md" in options:
        return markdown_pieces(tokens)
    return [f"w{n:04d} " for n in range(1, tokens + 1)]


def results_of(messages: list[dict[str, Any]]) -> list[str]:
    """What the tools said at the end of the messages, in either protocol."""
    if len(messages) > 1 and messages[-1]["role"] == "user" and messages[-2]["role"] == "tool":
        messages = messages[:-1]  # what a person says beside the results
    if messages[-1]["role"] == "tool":
        last = [*itertools.takewhile(lambda message: message["role"] == "tool", reversed(messages))][::-1]
        return [text_of(message["content"]) for message in last]
    content = messages[-1]["content"]
    blocks = content if isinstance(content, list) else []
    return [text_of(block.get("content", "")) for block in blocks if block["type"] == "tool_result"]


def text_of(content: str | list[dict[str, Any]]) -> str:
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def calls_of(body: dict[str, Any], options: dict[str, str]) -> list[Call]:
    """The calls that were ordered and are allowed."""
    if results_of(body["messages"]) or not body.get("tools"):
        return []
    names = [tool.get("function", tool)["name"] for tool in body["tools"]]
    choice = body.get("tool_choice")
    if choice == "none" or (isinstance(choice, dict) and choice["type"] == "none"):
        return []
    if isinstance(choice, dict) and (named := choice.get("function", choice).get("name")):
        names = [named]
    calls = []
    for number, name in enumerate(names[: int(options.get("calls", 0))], 1):
        arguments = "" if options.get("args") == "empty" else ARGUMENTS % number
        calls.append((f"call_{number:04d}", name, [arguments[at : at + 7] for at in range(0, len(arguments), 7)]))
    return calls


def cut_at_stop(pieces: list[str], stops: list[str]) -> tuple[list[str], str]:
    for number, piece in enumerate(pieces):
        for stop in stops:
            if stop in piece:
                return pieces[:number], stop
    return pieces, ""


def usage_of(body: dict[str, Any], options: dict[str, str], tokens: int) -> tuple[str, str] | None:
    if options.get("usage") == "missing":
        return None
    texts = [str(message.get("content")) for message in body["messages"]] + [str(body.get("system", ""))]
    true = (str(sum(len(text.split()) for text in texts)), str(tokens))
    return USAGES.get(options.get("usage", ""), true)


class OpenAI:
    path = "/v1/chat/completions"

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.id = f"chatcmpl-{time.time_ns():x}"
        self.head = (
            f'{{"id":"{self.id}","object":"chat.completion.chunk","created":{int(time.time())},'
            f'"model":{json.dumps(body["model"])},"service_tier":"default","system_fingerprint":"fp_test",'
        )
        self.wants_usage = bool((body.get("stream_options") or {}).get("include_usage"))
        stop = body.get("stop") or []
        self.stops = [stop] if isinstance(stop, str) else stop
        usage = ',"usage":null' if self.wants_usage else ""
        self.before = f'data: {self.head}"choices":[{{"index":0,"delta":'
        self.after = f',"logprobs":null,"finish_reason":null}}]{usage}}}\n\n'

    def begin(self, answer: Answer) -> str:
        return f'{self.before}{{"role":"assistant","content":"","refusal":null}}{self.after}'

    def word(self, piece: str) -> str:
        return f'{self.before}{{"content":{json.dumps(piece)}}}{self.after}'

    def thought(self, name: str) -> str:
        return f'{self.before}{{"{name}":"Hm. "}}{self.after}'

    def calls(self, calls: list[Call], *, mixed: bool) -> list[str]:
        each = []
        for index, (call_id, name, pieces) in enumerate(calls):
            function = {"name": name, "arguments": ""}
            deltas = [{"index": index, "id": call_id, "type": "function", "function": function}]
            deltas += [{"index": index, "function": {"arguments": piece}} for piece in pieces]
            each.append(deltas)
        ordered = itertools.zip_longest(*each) if mixed else each
        told = [delta for deltas in ordered for delta in deltas if delta]
        return [f'{self.before}{{"tool_calls":{json.dumps([delta])}}}{self.after}' for delta in told]

    def end(self, answer: Answer) -> str:
        last = f'{self.before}{{}},"logprobs":null,"finish_reason":"{answer.reason}"}}]}}\n\n'
        if answer.usage and self.wants_usage:
            last += f'data: {self.head}"choices":[],"usage":{self.usage(answer)}}}\n\n'
        return f"{last}data: [DONE]\n\n"

    @staticmethod
    def usage(answer: Answer) -> str:
        usage = answer.usage or ("null", "null")
        total = int(usage[0]) + int(usage[1]) if usage[0].isdecimal() and usage[1].isdecimal() else 0
        details = ""
        if answer.thoughts:
            details += f',"completion_tokens_details":{{"reasoning_tokens":{answer.thoughts}}}'
        if answer.cached:
            details += f',"prompt_tokens_details":{{"cached_tokens":{answer.cached}}}'
        return f'{{"prompt_tokens":{usage[0]},"completion_tokens":{usage[1]},"total_tokens":{total}{details}}}'

    def whole(self, answer: Answer) -> str:
        message: dict[str, Any] = {"role": "assistant", "content": "".join(answer.pieces) or None, "refusal": None}
        if answer.calls:
            message["tool_calls"] = [
                {"id": call_id, "type": "function", "function": {"name": name, "arguments": "".join(arguments)}}
                for call_id, name, arguments in answer.calls
            ]
        choice = {
            "index": 0,
            "message": message,
            "logprobs": None,
            "finish_reason": answer.reason,
        }
        told = f',"usage":{self.usage(answer)}' if answer.usage else ""
        head = self.head.replace("chat.completion.chunk", "chat.completion")
        return f'{head}"choices":[{json.dumps(choice)}]{told}}}'

    @staticmethod
    def garbled() -> str:
        return 'data: {"id":"chatcmpl-1","choices":[{"delta":{"conte\n\n'

    def error_mid(self, name: str) -> str:
        error = {"message": "The server is overloaded.", "type": name, "param": None, "code": None}
        return f"data: {json.dumps({'error': error})}\n\n"

    @staticmethod
    def error(status: int, key: str) -> dict[str, Any]:
        code = {401: "invalid_api_key", 404: "model_not_found", 429: "rate_limit_exceeded"}.get(status)
        words = f"Incorrect API key provided: {key}." if status == 401 else f"Error {status} as ordered."
        kind = OPENAI_ERRORS.get(status, "server_error")
        return {"error": {"message": words, "type": kind, "param": None, "code": code}}


class Anthropic:
    path = "/v1/messages"
    reasons = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use"}

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.id = f"msg_{time.time_ns():x}"
        self.stops = body.get("stop_sequences") or []
        self.blocks = 0
        self.before = (
            'event: content_block_delta\ndata: {"type":"content_block_delta","index":0,'
            '"delta":{"type":"text_delta","text":'
        )

    def message(self, content: str, usage: str, reason: str, stop: str = "") -> str:
        return (
            f'{{"id":"{self.id}","type":"message","role":"assistant","model":{json.dumps(self.body["model"])},'
            f'"content":{content},"stop_reason":{reason},"stop_sequence":{json.dumps(stop or None)},"usage":{usage}}}'
        )

    @staticmethod
    def event(**data: Any) -> str:
        return f"event: {data['type']}\ndata: {json.dumps(data)}\n\n"

    def begin(self, answer: Answer) -> str:
        told = f'{{"input_tokens":{answer.usage[0]},"output_tokens":1}}' if answer.usage else "null"
        said = (
            f'event: message_start\ndata: {{"type":"message_start","message":{self.message("[]", told, "null")}}}\n\n'
        )
        if answer.pieces:
            self.blocks = 1
            said += self.event(type="content_block_start", index=0, content_block={"type": "text", "text": ""})
        return said + self.event(type="ping")

    def word(self, piece: str) -> str:
        return f"{self.before}{json.dumps(piece)}}}}}\n\n"

    def thought(self, name: str) -> str:
        return self.event(type="content_block_delta", index=0, delta={"type": "thinking_delta", "thinking": "Hm. "})

    def calls(self, calls: list[Call], *, mixed: bool) -> list[str]:
        told = [self.event(type="content_block_stop", index=0)] if self.blocks else []
        for index, (call_id, name, pieces) in enumerate(calls, self.blocks):
            block = {"type": "tool_use", "id": call_id, "name": name, "input": {}}
            told.append(self.event(type="content_block_start", index=index, content_block=block))
            told += [
                self.event(
                    type="content_block_delta", index=index, delta={"type": "input_json_delta", "partial_json": piece}
                )
                for piece in ["", *pieces]
            ]
            told.append(self.event(type="content_block_stop", index=index))
        if calls:
            self.blocks = 0
        return told if calls else []

    def end(self, answer: Answer) -> str:
        told = f',"usage":{{"output_tokens":{answer.usage[1]}}}' if answer.usage else ""
        return (
            (self.event(type="content_block_stop", index=0) if self.blocks else "")
            + 'event: message_delta\ndata: {"type":"message_delta","delta":'
            + f'{{"stop_reason":{self.reason(answer)},"stop_sequence":{json.dumps(answer.stop or None)}}}{told}}}\n\n'
            + 'event: message_stop\ndata: {"type":"message_stop"}\n\n'
        )

    def reason(self, answer: Answer) -> str:
        return '"stop_sequence"' if answer.stop else f'"{self.reasons[answer.reason]}"'

    def whole(self, answer: Answer) -> str:
        usage = answer.usage
        told = f'{{"input_tokens":{usage[0]},"output_tokens":{usage[1]}}}' if usage else "null"
        content: list[dict[str, Any]] = [{"type": "text", "text": "".join(answer.pieces)}] if answer.pieces else []
        content += [
            {"type": "tool_use", "id": call_id, "name": name, "input": json.loads("".join(arguments) or "{}")}
            for call_id, name, arguments in answer.calls
        ]
        return self.message(json.dumps(content), told, self.reason(answer), answer.stop)

    @staticmethod
    def garbled() -> str:
        return 'event: content_block_delta\ndata: {"type":"content_block_delta","delta":{"te\n\n'

    def error_mid(self, name: str) -> str:
        error = {"type": name, "message": "The server is overloaded."}
        return f"event: error\ndata: {json.dumps({'type': 'error', 'error': error})}\n\n"

    @staticmethod
    def error(status: int, key: str) -> dict[str, Any]:
        words = f"invalid x-api-key: {key}" if status == 401 else f"Error {status} as ordered."
        return {"type": "error", "error": {"type": ANTHROPIC_ERRORS.get(status, "api_error"), "message": words}}


def embedding(item: str | list[int], dimensions: int) -> list[float]:
    text = item if isinstance(item, str) else " ".join(map(str, item))
    return [float(len(text)), float(len(text.split())), *[0.5] * (dimensions - 2)]


class Server:
    def __init__(self) -> None:
        self.calls: deque[dict[str, Any]] = deque(maxlen=CALLS_KEPT)
        self.asked: Counter[str] = Counter()
        self.revoked: set[str] = set()

    async def openai(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, OpenAI)

    async def anthropic(self, request: web.Request) -> web.StreamResponse:
        return await self.answer(request, Anthropic)

    async def answer(self, request: web.Request, protocol: type[OpenAI] | type[Anthropic]) -> web.StreamResponse:
        body = json.loads(await request.read())
        options = options_of(body["model"])
        key = request.headers.get("x-api-key") or request.headers.get("Authorization", "").removeprefix("Bearer ")
        call = {
            "path": request.path,
            "model": body["model"],
            "key": key,
            "headers": dict(request.headers),
            "peer": str(request.transport.get_extra_info("peername")[1]) if request.transport else "",
            "body": body,
            "disconnected": False,
            "finished": False,
            "sent_tokens": 0,
        }
        self.calls.append(call)
        self.asked[body["model"]] += 1
        try:
            response = await self._answer(request, protocol(body), options, call)
        except (asyncio.CancelledError, ConnectionError):
            call["disconnected"] = True
            raise
        call["finished"] = True
        return response

    async def _answer(
        self, request: web.Request, said: OpenAI | Anthropic, options: dict[str, str], call: dict[str, Any]
    ) -> web.StreamResponse:
        status = int(options.get("status", 500 if "fails" in options else 200))
        if "fails" in options and self.asked[call["model"]] > int(options["fails"]):
            status = 200
        status = await self._about_key(call["key"]) or status
        if status != 200:
            headers = {"Retry-After": options["retry_after"]} if "retry_after" in options else {}
            return web.json_response(said.error(status, call["key"]), status=status, headers=headers)
        if "redirect" in options:
            raise web.HTTPTemporaryRedirect("/v1/models")
        if options.get("garble") == "html":
            return web.Response(text="<!doctype html><title>Welcome</title>", content_type="text/html")
        if options.get("hang") == "headers":
            await asyncio.sleep(HANG_S)
        pieces = pieces_of(said.body, options)
        most = said.body.get("max_tokens") or said.body.get("max_completion_tokens") or len(pieces)
        thoughts = int(options.get("thinks", 0))
        reason = "stop" if thoughts + len(pieces) <= most else "length"
        thoughts = min(thoughts, most)
        pieces, stop = cut_at_stop(pieces[: most - thoughts], said.stops)
        calls = calls_of(said.body, options)
        if calls:
            reason = "tool_calls"
        elif stop:
            reason = "stop"
        counted = thoughts + len(pieces) + sum(len(arguments) for _, _, arguments in calls)
        usage = usage_of(said.body, options, counted)
        answer = Answer(pieces, calls, usage, reason, stop, thoughts, int(options.get("cached", 0)))
        if not said.body.get("stream"):
            await asyncio.sleep(
                (int(options.get("first_ms", 0)) + len(pieces) * int(options.get("delay_ms", 0))) / 1000
            )
            call["sent_tokens"] = len(pieces)
            return web.Response(text=said.whole(answer), headers=JSON_HEADERS)
        return await self._stream(request, said, options, call, answer)

    async def _stream(
        self,
        request: web.Request,
        said: OpenAI | Anthropic,
        options: dict[str, str],
        call: dict[str, Any],
        answer: Answer,
    ) -> web.StreamResponse:
        response = web.StreamResponse(headers=SSE_HEADERS)
        if "gzip" in options:
            response.enable_compression(web.ContentCoding.gzip)
        await response.prepare(request)
        loop, stamp = asyncio.get_running_loop(), "stamp" in options
        delay_s = int(options.get("delay_ms", 0)) / 1000
        middle = min(int(options.get("after", 10)), len(answer.pieces))
        await response.write(said.begin(answer).encode())
        name = options.get("thought", "reasoning_content")
        for _ in range(answer.thoughts):
            if name != "silent":
                await response.write(said.thought(name).encode())
            await asyncio.sleep(delay_s)
        due = loop.time() + int(options.get("first_ms", 0)) / 1000
        chunks = [said.word(piece).encode() for piece in answer.pieces]
        for number in range(len(chunks) + 1):
            if number == 0 and await self._trouble(request, response, said, options, "first"):
                return response
            if number == middle and await self._trouble(request, response, said, options, "middle"):
                return response
            if number == len(chunks):
                break
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            stamped = said.word(f"{time.time():.6f} ").encode() if stamp else chunks[number]
            await response.write(stamped)
            call["sent_tokens"] += 1
            due += delay_s
        for told in said.calls(answer.calls, mixed="mixed" in options):
            await response.write(told.encode())
            if options.get("hang") == "call":
                await asyncio.sleep(HANG_S)
        await response.write(said.end(answer).encode())
        await response.write_eof()
        return response

    async def _trouble(
        self,
        request: web.Request,
        response: web.StreamResponse,
        said: OpenAI | Anthropic,
        options: dict[str, str],
        stage: str,
    ) -> bool:
        """Whatever was ordered for this stage. True when the answer ends here."""
        if options.get("hang") == stage:
            await asyncio.sleep(HANG_S)
        if options.get("cut") == stage:
            assert request.transport is not None
            await asyncio.sleep(0.05)  # so that what was said before arrives
            request.transport.abort()
            return True
        if stage == "first":
            return False
        if options.get("cut") == "quiet":
            return True
        if "garble" in options:
            await response.write(said.garbled().encode())
        if name := options.get("error_mid"):
            await response.write(said.error_mid("overloaded_error" if name == "1" else name).encode())
            return True
        return False

    async def embeddings(self, request: web.Request) -> web.Response:
        """Vectors whose first two numbers tell the text; floats=1 knows no base64, short=1 forgets the last one.

        vector=JSON is each of them instead, and pad=n adds n bytes that nobody asked for.
        """
        body = json.loads(await request.read())
        options = options_of(body["model"])
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        headers = dict(request.headers)
        self.calls.append({"path": request.path, "model": body["model"], "key": key, "headers": headers, "body": body})
        if status := await self._about_key(key) or int(options.get("status", 0)):
            return web.json_response(OpenAI.error(status, key), status=status)
        if options.get("hang") == "headers":
            await asyncio.sleep(HANG_S)
        await asyncio.sleep(int(options.get("delay_ms", 0)) / 1000)
        inputs = body["input"] if isinstance(body["input"], list) else [body["input"]]
        data = []
        for index, item in enumerate(inputs[: -1 if "short" in options else None]):
            vector: Any = embedding(item, body.get("dimensions", 8))
            if body.get("encoding_format") == "base64" and "floats" not in options:
                vector = base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
            if "vector" in options:
                vector = json.loads(options["vector"])
            data.append({"object": "embedding", "index": index, "embedding": vector})
        tokens = sum(len(item.split()) if isinstance(item, str) else len(item) for item in inputs)
        told = {"prompt_tokens": tokens, "total_tokens": tokens}
        pad = "x" * int(options.get("pad", 0))
        return web.json_response(
            {"object": "list", "data": data[::-1], "model": body["model"], "usage": told, "pad": pad}
        )

    async def _about_key(self, key: str) -> int:
        """The status that this key gets whatever is asked; 0 = it is as good as any."""
        if key.startswith("sk-hang"):
            await asyncio.sleep(HANG_S)
        if key in self.revoked:
            return 401
        return next((status for begins, status in KEY_STATUSES.items() if key.startswith(begins)), 0)

    async def models(self, request: web.Request) -> web.Response:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        call = {"path": request.path, "method": request.method, "key": key, "headers": dict(request.headers)}
        self.calls.append(call)
        if status := await self._about_key(key):
            return web.json_response(OpenAI.error(status, key), status=status)
        names = ["echo", "m"]
        return web.json_response(
            {
                "object": "list",
                "data": [{"id": name, "object": "model", "created": 0, "owned_by": "t"} for name in names],
            }
        )

    async def revoke(self, request: web.Request) -> web.Response:
        self.revoked.add(request.query["key"])
        return web.json_response({})

    async def list_calls(self, request: web.Request) -> web.Response:
        return web.json_response(list(self.calls))

    async def reset(self, request: web.Request) -> web.Response:
        self.calls.clear()
        self.asked.clear()
        self.revoked.clear()
        return web.json_response({})

    def app(self) -> web.Application:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.add_routes(
            [
                web.post(OpenAI.path, self.openai),
                web.post("/{gateway}" + OpenAI.path, self.openai),
                web.post("/v1/embeddings", self.embeddings),
                web.post(Anthropic.path, self.anthropic),
                web.route("*", "/v1/models", self.models),
                web.get("/v1/key", self.models),
                web.get("/control/calls", self.list_calls),
                web.post("/control/reset", self.reset),
                web.post("/control/revoke", self.revoke),
            ]
        )
        return app


async def _run(host: str, port: int, *, stay: bool) -> None:
    runner = web.AppRunner(Server().app(), handler_cancellation=True, access_log=None, keepalive_timeout=300)
    await runner.setup()
    site = web.TCPSite(runner, host, port, backlog=2048, shutdown_timeout=0.1)
    await site.start()
    print(json.dumps({"port": runner.addresses[0][1]}), flush=True)
    if stay:
        await asyncio.Event().wait()
    await asyncio.to_thread(sys.stdin.read)  # until whoever started us is gone
    await runner.cleanup()


def serve(host: str, port: int, *, stay: bool = False) -> None:
    uvloop.run(_run(host, port, stay=stay))
