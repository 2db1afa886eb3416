"""Model text to HTML, the only way: Markdown without HTML, then an allow-list as the last step."""

import re
import time
import unicodedata
from collections.abc import Iterator, MutableMapping, Sequence
from functools import cache
from importlib import import_module
from typing import Any

import nh3
from django.utils.html import escape
from django.utils.safestring import SafeString, mark_safe
from django.utils.text import Truncator
from django.utils.translation import gettext as _
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_core import StateCore
from markdown_it.token import Token
from pygments.lexer import Lexer  # type: ignore[import-untyped]
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]
from pygments.token import (  # type: ignore[import-untyped]
    Comment,
    Error,
    Generic,
    Keyword,
    Literal,
    Name,
    Number,
    Operator,
    String,
    _TokenType,
)

MAX_RENDERED = 200_000  # characters; beyond it a text is shown as it is
MAX_LINES = 10_000
MAX_MARKS = 15_000  # of MARKS; each costs the parser up to 40 us, and a book of 200 kB has fewer
MARKS = "[*_~`|"
MAX_FILLED_CELLS = 2_000  # empty cells that short rows of wide tables get
MAX_COLOURED_LINE = 400  # characters
COLOURING_S = 0.05  # of processor time for one text: Pygments' lexers are quadratic on inputs nobody can list
MAX_NESTING = 20
PLAIN_CHARACTERS = 60

SCHEMES = {"http", "https", "mailto"}
BLOCKS = {"p", "h1", "h2", "h3", "h4", "h5", "h6", "ul", "ol", "blockquote"}
LANGUAGES = set(
    """bash c c++ cpp c# cs csharp css diff docker dockerfile go golang graphql haskell hs html http ini java
    javascript js json jsx kotlin lua makefile nginx objective-c perl php powershell py python r rb rs ruby rust scala
    scss sh shell sql swift toml ts tsx typescript xml yaml yml zsh""".split()  # noqa: SIM905
)
COLOURS: dict[_TokenType, str] = {  # one class per colour of app.css; the nearest ancestor counts
    Comment: "c", Comment.Preproc: "k", Keyword: "k", Keyword.Constant: "m", Operator.Word: "k", Number: "m",
    Literal: "m", String: "s", Name.Builtin: "n", Name.Class: "n", Name.Decorator: "n", Name.Exception: "n",
    Name.Function: "n", Name.Tag: "k", Name.Attribute: "n", Generic.Deleted: "del", Generic.Inserted: "ins",
    Generic.Heading: "k", Generic.Subheading: "k", Error: "",
}  # fmt: skip

SANITISER = nh3.Cleaner(
    tags={
        *BLOCKS, "a", "br", "button", "code", "del", "div", "em", "header", "hr", "li", "pre", "s", "span",
        "strong", "table", "tbody", "td", "th", "thead", "tr",
    },
    attributes={"a": {"href"}, "ol": {"start"}, "div": {"aria-label"}, "button": {"data-copy"}},
    tag_attribute_values={
        "button": {"type": {"button"}},
        "div": {"role": {"group"}, "tabindex": {"0"}},
        "pre": {"dir": {"ltr"}, "tabindex": {"0"}},
        "th": {"scope": {"col"}},
        **{tag: {"dir": {"auto"}} for tag in BLOCKS},
    },
    allowed_classes={
        "button": {"btn", "btn--quiet", "btn--s"}, "div": {"code", "table-scroll"}, "table": {"table"}, "th": {"num"},
        "td": {"num"}, "li": {"task"}, "pre": {"plain"}, "span": {"sr-only", "target", *filter(None, COLOURS.values())},
    },
    set_tag_attribute_values={"a": {"target": "_blank"}},
    link_rel="nofollow noopener noreferrer",
    url_schemes=SCHEMES,
    url_relative="deny",
    clean_content_tags={"script", "style"},
)  # fmt: skip


def render(text: str) -> SafeString:
    """A model's Markdown as HTML that is safe in our pages: no images, no scripts, links only to SCHEMES."""
    text = text.encode("utf-8", "replace").decode()  # a model may send half of a surrogate pair
    if is_too_much(text):
        return mark_safe(f'<pre class="plain" tabindex="0" dir="ltr">{escape(text)}</pre>')  # noqa: S308
    return mark_safe(SANITISER.clean(MARKDOWN.render(text)))  # noqa: S308


def is_too_much(text: str) -> bool:
    """A text that would hold the event loop: longer than anybody reads, or made to hurt."""
    return (
        len(text) > MAX_RENDERED
        or text.count("\n") > MAX_LINES
        or (len(text) > MAX_MARKS and sum(map(text.count, MARKS)) > MAX_MARKS)
    )


def plain(text: str, characters: int = PLAIN_CHARACTERS) -> str:
    """The first words of a Markdown text on one line, for titles. Characters that reorder a line are left out."""
    tokens = MARKDOWN.parse(text[: characters * 20].encode("utf-8", "replace").decode())
    words = " ".join(" ".join(_words(tokens)).split())
    words = "".join(character for character in words if unicodedata.category(character) not in ("Cc", "Cf", "Cs"))
    return Truncator(words).chars(characters)


def _words(tokens: Sequence[Token]) -> Iterator[str]:
    for token in tokens:
        if token.type == "inline":
            inline = (" " if child.type.endswith("break") else child.content for child in token.children or ())
            yield "".join(inline)
        elif token.type in ("fence", "code_block"):
            yield token.content


class Blocks:
    """Where the blocks of a growing text end, so that each is rendered once while the answer streams.

    A block ends at a blank line outside a code fence, or with the line that closes the fence. `ends` holds the
    offsets in characters of the whole text. The same text gives the same ends however it is cut into pieces.
    """

    def __init__(self) -> None:
        self.ends: list[int] = []
        self._line: list[str] = []  # pieces of the line that has no end yet
        self._offset = 0  # where that line begins
        self._fence = ""
        self._has_content = False

    def feed(self, piece: str) -> bool:
        """Take the next piece; True if it closed a block."""
        if "\n" not in piece:
            self._line.append(piece)
            return False
        before = len(self.ends)
        *lines, rest = ("".join(self._line) + piece).split("\n")
        for line in lines:
            self._offset += len(line) + 1
            if self._closes(line):
                self.ends.append(self._offset)
                self._has_content = False
        self._line = [rest]
        return len(self.ends) > before

    def _closes(self, line: str) -> bool:
        line = line.strip()
        if self._fence:
            if line.startswith(self._fence) and not line.strip(self._fence[0]):
                self._fence = ""
                return True
            return False
        if not line:
            return self._has_content
        self._has_content = True
        if fence := FENCE.match(line):
            self._fence = fence[1]
        return False


FENCE = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})")


def _markdown() -> MarkdownIt:
    options = {"html": False, "maxNesting": MAX_NESTING}
    markdown = MarkdownIt("commonmark", options, renderer_cls=Renderer).enable(["table", "strikethrough"])
    markdown.validateLink = lambda url: url.split(":", 1)[0].lower() in SCHEMES  # type: ignore[method-assign]
    markdown.core.ruler.push("house", _house)
    return markdown


def _house(state: StateCore) -> None:
    """What our pages want of the token stream: outline, direction, task marks, and links in place of images."""
    depth = 2  # the page owns h1 and h2
    for index, token in enumerate(state.tokens):
        if token.type == "heading_open":
            depth = token.meta["depth"] = min(max(3, int(token.tag[1]) + 1), depth + 1, 6)
            token.tag = f"h{depth}"
        elif token.type == "heading_close":
            token.tag = f"h{depth}"
        elif token.type == "inline" and token.children:
            if index >= 2 and state.tokens[index - 2].type == "list_item_open":
                _mark_task(state.tokens[index - 2], token.children[0])
            if "://" in token.content or "![" in token.content:
                token.children = list(_links(token.children))
        if token.level == 0 and token.nesting == 1 and token.tag in BLOCKS:
            token.attrSet("dir", "auto")


def _mark_task(item: Token, first: Token) -> None:
    """`[ ] buy milk` at the start of a list item becomes a drawn box; a form field would need a label."""
    mark = {"[ ] ": "☐ ", "[x] ": "☑ ", "[X] ": "☑ "}.get(first.content[:4])
    if mark and first.type == "text":
        item.attrSet("class", "task")
        first.content = mark + first.content[4:]


def _links(tokens: Sequence[Token]) -> Iterator[Token]:
    """Bare addresses become links, and so do images: a picture would be fetched without a click and tell its host
    what was said. Only whole addresses count: main.rs and app.sh are files, and linkify-it is quadratic."""
    in_link = 0
    for token in tokens:
        in_link += {"link_open": 1, "link_close": -1}.get(token.type, 0)
        if token.type == "image":
            target = str(token.attrGet("src"))
            label = " ".join(filter(None, [token.content, f"({target})"]))
            yield from [_text(label)] if in_link else _link(target, label)
        elif token.type == "text" and not in_link and "://" in token.content:
            end = 0
            for address in ADDRESS.finditer(token.content):
                yield _text(token.content[end : address.start()])
                yield from _link(address[0], address[0])
                end = address.end()
            yield _text(token.content[end:])
        else:
            yield token


ADDRESS = re.compile(
    r"\bhttps?://(?=\w)[^\s<>\"'`|\\^{}()\[\]]*(?:\([^\s<>\"'`()]*\)[^\s<>\"'`()\[\]]*)*(?<![.,:;!?*_~'])"
)


def _link(target: str, label: str) -> list[Token]:
    return [Token("link_open", "a", 1, attrs={"href": target}), _text(label), Token("link_close", "a", -1)]


def _text(content: str) -> Token:
    return Token("text", "", 0, content=content)


class Renderer(RendererHTML):
    """The markup of our components for what Markdown leaves plain."""

    def table_open(self, *_args: Any) -> str:
        name = _("Table")
        return f'<div class="table-scroll" role="group" tabindex="0" aria-label="{name}"><table class="table">'

    def table_close(self, *_args: Any) -> str:
        return "</table></div>\n"

    def th_open(self, tokens: Sequence[Token], index: int, *_args: Any) -> str:
        return f'<th scope="col"{_numeric(tokens[index])}>'

    def td_open(self, tokens: Sequence[Token], index: int, *_args: Any) -> str:
        return f"<td{_numeric(tokens[index])}>"

    def link_open(self, tokens: Sequence[Token], index: int, *_args: Any) -> str:
        return f'<a href="{escape(tokens[index].attrGet("href"))}">'

    def fence(self, tokens: Sequence[Token], index: int, _options: Any, env: MutableMapping[str, Any]) -> str:
        code, language = tokens[index].content, tokens[index].info.strip().split(" ", 1)[0][:40]
        lexer = _lexer(language.lower())  # the first use of a language loads it, which the budget does not count
        started, left_s = time.thread_time(), env.get("left_s", COLOURING_S)
        coloured = colour(code, lexer, seconds=left_s)
        env["left_s"] = left_s - (time.thread_time() - started)
        title, copy, what = escape(language) or _("Code"), _("Copy"), _("code")
        return (
            f'<div class="code"><header><span>{title}</span>'
            f'<button class="btn btn--quiet btn--s" type="button" data-copy>{copy}'
            f'<span class="sr-only"> {what}</span></button></header>'
            f'<pre tabindex="0" dir="ltr"><code>{coloured}</code></pre></div>\n'
        )

    code_block = fence  # type: ignore[assignment]


def _numeric(cell: Token) -> str:
    return ' class="num"' if cell.attrGet("style") == "text-align:right" else ""


def colour(code: str, lexer: Lexer | None, *, seconds: float) -> str:
    """Code as escaped HTML with a span per coloured run; what is not coloured in time stays plain."""
    if lexer is None or seconds <= 0 or any(len(line) > MAX_COLOURED_LINE for line in code.splitlines()):
        return str(escape(code))
    parts: list[str] = []
    run_start, run_class, end = 0, "", len(code)
    deadline = time.thread_time() + seconds
    for start, kind, value in lexer.get_tokens_unprocessed(code):
        if time.thread_time() > deadline:
            end = start
            break
        value_class = _class(kind) if value.strip() else run_class  # white space joins the run it follows
        if value_class != run_class:
            parts.append(_span(code[run_start:start], run_class))
            run_start, run_class = start, value_class
    parts += [_span(code[run_start:end], run_class), str(escape(code[end:]))]
    return "".join(parts)


def _span(run: str, run_class: str) -> str:
    return f'<span class="{run_class}">{escape(run)}</span>' if run_class else str(escape(run))


def _lexer(language: str) -> Lexer | None:
    return _loaded(language) if language in LANGUAGES else None


@cache
def _loaded(language: str) -> Lexer:
    return get_lexer_by_name(language)


@cache
def _class(kind: _TokenType) -> str:
    return next((COLOURS[ancestor] for ancestor in reversed(kind.split()) if ancestor in COLOURS), "")


table_rule = import_module("markdown_it.rules_block.table")
table_rule.MAX_AUTOCOMPLETED_CELLS = MAX_FILLED_CELLS  # type: ignore[attr-defined]  # 65,536 take a second
MARKDOWN = _markdown()
