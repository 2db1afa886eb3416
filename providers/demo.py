"""The model that answers when no key is set: deterministic, marked as a demo, never on the network."""

import asyncio
import base64
import hashlib
import math
import random
import re
import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

from django.conf import settings

from lib.secret import Secret
from providers.shapes import Call, Embedding, Limits, Piece, Usage, Vectors

BANNER = "**Demo answer — no AI key is set.** Set `OPENAI_API_KEY` or `ANTHROPIC_API_KEY` to ask a real model."
DIMENSIONS = 256  # of an embedding, where nobody asks for another number
TOKEN = re.compile(r"\s*\S+|\s+$")
WORD = re.compile(r"[^\W\d_][\w'-]*")
COMMON = re.compile(
    r"an?|about|and|are|as|at|be|but|by|can|could|do|does|for|from|give|ha[ds]|have|hello|help|hey|hi|how|i|if|in|is|"
    r"its?|like|make|me|more|my|need|o[fnr]|our|please|show|should|so|some|tell|thank?s?|that|the|their|them|then|"
    r"there|these|they|this|those|to|two|us|use|want|was|we|were|what|when|where|which|who|why|will|with|would|write|"
    r"you|your",
    re.IGNORECASE,
)
OPENINGS = (
    "Here is a first look at {topic}.",
    "Let us take {topic} one step at a time.",
    "Three things matter most about {topic}.",
    "A short answer on {topic}, then the details.",
)
POINTS = (
    "Start small: one {word} that works beats five that are planned.",
    "Decide early who owns the {word} and how you notice that it fails.",
    "Write down what you know about the {word} before you change it.",
    "Measure the {word} for a week; the surprise is usually in the first number.",
    "Keep the {word} reversible: what can be undone can be tried.",
    "Ask the people who live with the {word} every day.",
)
CLOSINGS = (
    "Ask again with more detail on *{word}* and the answer follows it.",
    "Tell me which part of *{word}* you would like to go deeper into.",
    "If *{word}* is only half of your question, send me the other half.",
)
PLAIN = ("joke", "hello", "hi", "hey", "thanks", "thank", "ping", "test")


async def stream(
    call: Call, *, key: Secret | None, limits: Limits, alive: Callable[[], object] | None = None
) -> AsyncGenerator[Piece, None]:
    """Yield the pieces of answer() at settings.DEMO_TOKENS_PER_SECOND (0 is at once), then one Usage."""
    pieces = TOKEN.findall(answer(question_of(call)))
    finish_reason = "stop" if len(pieces) <= call.max_tokens else "length"
    tokens_per_second = settings.DEMO_TOKENS_PER_SECOND
    loop = asyncio.get_running_loop()
    due = loop.time()
    sent_tokens = 0
    for piece in pieces[: call.max_tokens]:
        if tokens_per_second:
            due += 1 / tokens_per_second
            await asyncio.sleep(max(0, due - loop.time()))
        sent_tokens += 1
        yield piece
    prompt_tokens = sum(len(TOKEN.findall(text_of(message))) for message in call.messages)
    counted = {"prompt_tokens": prompt_tokens, "completion_tokens": sent_tokens}
    yield Usage(prompt_tokens, sent_tokens, model=call.model, finish_reason=finish_reason, raw=counted)


async def embed(wanted: Embedding, *, key: Secret | None, limits: Limits) -> Vectors:
    """Vectors from hashed words and letters: texts that share some are near each other. No meaning, but no network."""
    return await asyncio.to_thread(_vectors, wanted)  # a megabyte of text takes a second


def _vectors(wanted: Embedding) -> Vectors:
    texts = [text for text in wanted.inputs if isinstance(text, str)]
    counted = {"prompt_tokens": sum(len(TOKEN.findall(text)) for text in texts), "completion_tokens": 0}
    vectors = tuple(_vector(text, wanted.dimensions or DIMENSIONS) for text in texts)
    return Vectors(vectors, Usage(counted["prompt_tokens"], 0, model=wanted.model, finish_reason="stop", raw=counted))


def _vector(text: str, dimensions: int) -> str:
    vector = [0.0] * dimensions
    words = [word.lower() for word in WORD.findall(text)] or [text]
    for word in words:
        for feature in {word, *(f"{word}_"[at : at + 3] for at in range(len(word)))}:
            number = int.from_bytes(hashlib.blake2b(feature.encode("utf-8", "replace"), digest_size=8).digest())
            vector[number % dimensions] += 1 if number >> 63 else -1
    length = math.sqrt(sum(value * value for value in vector)) or 1.0
    return base64.b64encode(struct.pack(f"<{dimensions}f", *(value / length for value in vector))).decode()


def question_of(call: Call) -> str:
    return next((text_of(message) for message in reversed(call.messages) if message["role"] == "user"), "")


def text_of(message: Mapping[str, Any]) -> str:
    content = message["content"] or ""
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def answer(question: str) -> str:
    """Markdown that takes up the question's own words; the same question gets the same answer."""
    chance = random.Random(question)  # noqa: S311 - variety, not secrecy
    words = WORD.findall(question)
    topics = [word.lower() for word in words if not COMMON.fullmatch(word)] or ["your question"]
    word = max(topics[:8], key=len)
    if len(words) <= 3 and any(said.lower() in PLAIN for said in words):
        return f"{BANNER}\n\nHello! I am the demo model of this site. Ask me anything to see how an answer streams.\n"
    parts = [
        BANNER,
        chance.choice(OPENINGS).format(topic=" and ".join(list(dict.fromkeys(topics))[:2])),
        f"### What to know about {word}",
        "\n".join(f"{n}. {point.format(word=word)}" for n, point in enumerate(chance.sample(POINTS, 3), 1)),
        "### At a glance",
        _table(topics, chance),
        "### In code",
        _code(word),
        chance.choice(CLOSINGS).format(word=word),
    ]
    return "\n\n".join(parts) + "\n"


def _table(topics: list[str], chance: random.Random) -> str:
    names = list(dict.fromkeys([*topics, "time", "cost"]))[:4]
    rows = [f"| {name} | {chance.choice(('low', 'medium', 'high'))} | {chance.randint(1, 9)} h |" for name in names]
    return "\n".join(["| Part | Effort | First result |", "|---|:---:|---:|", *rows])


def _code(word: str) -> str:
    name = re.sub(r"\W+", "_", word.lower()).strip("_") or "question"
    return (
        "```python\n"
        f"def plan_{name}(steps: list[str]) -> dict[str, int]:\n"
        '    """Number the steps, the most urgent first."""\n'
        "    return {step: number for number, step in enumerate(steps, start=1)}\n\n\n"
        f'print(plan_{name}(["look", "try", "keep what works"]))\n'
        "```"
    )
