"""A chat laid out on A4. Runs in press.py's confined process: nothing here opens a file once the fonts are loaded.

Letters come from the fonts beside this file; Chinese, Japanese and Korean from a font of the system, where there is one.
What no font has is drawn as a box, and a note on the first page says so. Pictures are never fetched: a link is a link.
"""

import codecs
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from fpdf import FPDF
from fpdf.bidi import BidiParagraph
from fpdf.enums import Align, TextDirection, WrapMode, XPos, YPos
from fpdf.fonts import FontFace
from markdown_it.token import Token

from lib.html import MARKDOWN, is_too_much

FONTS = Path(__file__).with_name("fonts")
OURS = (
    ("sans", "", "DejaVuSans.ttf"),
    ("sans", "B", "DejaVuSans-Bold.ttf"),
    ("mono", "", "DejaVuSansMono.ttf"),
    ("devanagari", "", "NotoSansDevanagari.ttf"),
    ("devanagari", "B", "NotoSansDevanagari-Bold.ttf"),
)
CJK = re.compile("[\u1100-\u11ff\u2e80-\u9fff\uac00-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff]")
CJK_FONTS = (
    "/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",  # Debian: fonts-noto-cjk
    "/usr/share/fonts/truetype/wqy/wqy-microhei.ttc",  # fonts-wqy-microhei
    "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc",
    "/usr/share/fonts/truetype/droid/DroidSansFallbackFull.ttf",  # fonts-droid-fallback, without Korean
    "/System/Library/Fonts/PingFang.ttc",
)
TURNING = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")  # no message turns what stands beside it
# What joins, changes its shape or runs from right to left. The rest is drawn four times as fast without being shaped.
SHAPED = re.compile("[\u0300-\u036f\u0590-\u109f\u1780-\u18af\u200c\u200d\ufb1d-\ufdff\ufe70-\ufefc]")
UNDRAWN, BOX = ("Cc", "Cs", "Co", "Cn"), "\u25a1"
SHAPED_COSTS = 3  # times what other letters cost
BLANK = re.compile(r"\n(?:[ ]*\n)+")
PIECE = 1500  # characters that are laid out at once: fpdf2 is quadratic in them
MOST_CELLS, MOST_COLUMNS = 600, 12  # of a table; a larger one is shown as it was typed
MOST_CELLS_IN_ALL = 6000
INDENT_MM, DEEPEST = 6, 8
SIZES = {"h3": 14, "h4": 12.5, "h5": 11, "h6": 11}
BODY, SMALL, LINE = 10, 8, 1.35
GREY, INK, BLUE, PAPER = (105, 105, 110), (25, 25, 30), (20, 80, 160), (244, 244, 246)


@dataclass(frozen=True, slots=True)
class Run:
    """A piece of one line of thought in one style."""

    text: str
    family: str = "sans"
    style: str = ""
    link: str = ""


@dataclass(slots=True)
class Place:
    """Where in lists and quotes we are."""

    indent: int = 0
    quotes: int = 0
    counters: list[int | None] = field(default_factory=list)  # of the lists we are in; None = bullets
    marker: str = ""


class Page(FPDF):
    """One chat. `words` are the sentences of the note, the footer and the end, in the reader's language."""

    def __init__(self, words: dict[str, str], at: str) -> None:
        super().__init__(format="A4")
        self.words, self.footing, self.cells_left = words, "", MOST_CELLS_IN_ALL
        self.str_alias_nb_pages = None  # type: ignore[assignment]  # somebody may well write {nb}
        self.set_creation_date(datetime.fromisoformat(at))
        self.set_producer("chatsite")
        self.set_margins(20, 18)
        self.set_auto_page_break(True, 20)
        for family, style, name in OURS:
            self.add_font(family, style, FONTS / name)
        self.others = ["sans", "devanagari", "mono"]
        if found := next((name for name in CJK_FONTS if Path(name).is_file()), ""):
            with suppress(Exception):  # a font that fpdf2 does not understand is none
                self.add_font("cjk", "", found)
                self.others.append("cjk")
        self.set_fallback_fonts(self.others, exact_match=False)
        for font in self.fonts.values():
            font.hbfont  # type: ignore[union-attr]  # noqa: B018 - loaded by being asked for
        self.letters = set().union(*(font.cmap for font in self.fonts.values()))  # type: ignore[union-attr]

    def footer(self) -> None:
        self.set_y(-14)
        self.style(Run(""), SMALL, GREY)
        self.set_text_shaping(bool(SHAPED.search(self.footing)))
        number = self.words["page"].replace("%", str(self.page_no()))
        self.cell(0, 5, f"{self.footing} · {number}", align=Align.C)

    def style(self, run: Run, size: float, colour: tuple[int, int, int] = INK) -> None:
        self.set_font(run.family, run.style, size)
        self.set_text_color(*colour)

    def flow(
        self, runs: Sequence[Run], *, size: float = BODY, colour: tuple[int, int, int] = INK, indent: int = 0
    ) -> None:
        """One paragraph, in the direction of its first letter that has one."""
        text = "".join(run.text for run in runs)
        base = TextDirection.RTL if _is_right_to_left(text) else TextDirection.LTR
        align = Align.R if base == TextDirection.RTL else Align.L
        margin = self.l_margin + min(indent, DEEPEST) * INDENT_MM
        self.set_text_shaping(bool(SHAPED.search(text)))
        with (
            self.text_columns(line_height=LINE, l_margin=margin, r_margin=self.r_margin) as column,
            column.paragraph(text_align=align, bottom_margin=1.6) as paragraph,
        ):
            for run in runs:
                self.style(run, size, BLUE if run.link else colour)
                for piece in _pieces(run.text):
                    for said in self.directed(piece, base):
                        paragraph.write(said, link=run.link or None)

    def printable(self, text: str) -> str:
        """Without what a page cannot show or what would turn it around; a box for what no font has."""
        text = text.replace("\r\n", "\n").replace("\t", "    ")
        return text.translate({ord(letter): self.shape(letter) for letter in set(text)})

    def shape(self, letter: str) -> str:
        if letter == "\n":
            return letter
        if unicodedata.category(letter) in UNDRAWN or TURNING.match(letter):
            return ""
        return BOX if self.lacks(letter) else letter

    def lacks(self, letter: str) -> bool:
        return ord(letter) not in self.letters and unicodedata.category(letter) not in ("Cf", "Zs", "Mn", *UNDRAWN)

    def directed(self, text: str, base: TextDirection) -> Iterator[str]:
        """The stretches of one direction, each with that direction in force: a column does not look for them itself."""
        if not self.text_shaping:
            yield text
            return
        self.text_shaping["paragraph_direction"] = base
        for stretch, direction in BidiParagraph(
            text=text, base_direction=base, preserve_bn_chars=True
        ).get_bidi_fragments():
            self.text_shaping["fragment_direction"] = direction
            yield stretch

    def code(self, text: str, indent: int = 0) -> None:
        margin = self.l_margin + min(indent, DEEPEST) * INDENT_MM
        self.set_fill_color(*PAPER)
        for line in _wrapped_lines(text):
            self.style(Run(line, "mono"), 8.5)
            self.set_text_shaping(bool(SHAPED.search(line)))
            self.set_x(margin)
            self.multi_cell(
                self.w - self.r_margin - margin, 4.2, line or " ", fill=True, align=Align.L, wrapmode=WrapMode.CHAR,
                new_x=XPos.LMARGIN, new_y=YPos.NEXT,
            )  # fmt: skip
        self.ln(2)

    def markdown(self, text: str) -> None:
        tokens = MARKDOWN.parse(text)
        place, index = Place(), 0
        while index < len(tokens):
            token = tokens[index]
            if token.type == "table_open":
                end = next(at for at in range(index, len(tokens)) if tokens[at].type == "table_close")
                self.grid(tokens[index:end], text, token, place)
                index = end
            else:
                self.block(tokens, index, place)
            index += 1

    def block(self, tokens: Sequence[Token], index: int, place: Place) -> None:
        token = tokens[index]
        match token.type:
            case "inline":
                opened = tokens[index - 1].tag
                runs = list(_runs(token.children or (), "B" if opened in SIZES else ""))
                if place.marker:
                    runs.insert(0, Run(place.marker))
                    place.marker = ""
                colour = GREY if place.quotes else INK
                self.flow(runs, size=SIZES.get(opened, BODY), colour=colour, indent=place.indent)
            case "fence" | "code_block":
                self.code(token.content.rstrip("\n"), place.indent)
            case "hr":
                self.set_draw_color(*GREY)
                self.line(self.l_margin, self.get_y() + 1, self.w - self.r_margin, self.get_y() + 1)
                self.ln(4)
            case "bullet_list_open" | "ordered_list_open":
                first = int(token.attrGet("start") or 1) if token.type[0] == "o" else None
                place.counters.append(first)
                place.indent += 1
            case "bullet_list_close" | "ordered_list_close":
                place.counters.pop()
                place.indent -= 1
            case "list_item_open":
                count = place.counters[-1]
                place.marker = "•  " if count is None else f"{count}.  "
                if count is not None:
                    place.counters[-1] = count + 1
            case "blockquote_open":
                place.quotes, place.indent = place.quotes + 1, place.indent + 1
            case "blockquote_close":
                place.quotes, place.indent = place.quotes - 1, place.indent - 1

    def grid(self, tokens: Sequence[Token], text: str, opened: Token, place: Place) -> None:
        rows: list[list[str]] = []
        for token in tokens:
            if token.type == "tr_open":
                rows.append([])
            elif token.type == "inline":
                rows[-1].append("".join(run.text for run in _runs(token.children or (), "")))
        columns = max(map(len, rows))
        cells = sum(map(len, rows))
        self.cells_left -= cells
        if (
            self.cells_left < 0
            or cells > MOST_CELLS
            or columns > MOST_COLUMNS
            or any(len(cell) > PIECE for row in rows for cell in row)
        ):
            start, end = opened.map or (0, 0)
            self.code("\n".join(text.split("\n")[start:end]), place.indent)
            return
        self.style(Run(""), SMALL + 1)
        self.set_text_shaping(bool(SHAPED.search("".join(map("".join, rows)))))
        self.set_draw_color(*GREY)
        with self.table(
            headings_style=FontFace(emphasis="BOLD", fill_color=PAPER), line_height=5, text_align=Align.L, padding=1
        ) as table:
            for row in rows:
                table.row([*row, *[""] * (columns - len(row))])
        self.ln(3)


def typeset(page: Page, chat: dict[str, Any], most_letters: int) -> bytes:
    """One chat as a PDF, on a page of its own. The same chat and words give the same bytes.

    most_letters  what comes after them is left to the other forms
    chat          {"title", "at" (ISO), "messages": [{"who", "text", "is_markdown", "remarks"}]}
    """
    words, title = page.words, page.printable(chat["title"])
    page.footing = title
    page.set_title(title)
    page.add_page()
    page.flow([Run(title, style="B")], size=18)
    letters = set(chat["title"]).union(*(message["text"] for message in chat["messages"]))
    if lacking := set(filter(page.lacks, letters)):
        page.flow([Run(words["lacking_cjk" if any(map(CJK.match, lacking)) else "lacking"])], size=SMALL, colour=GREY)
    left = most_letters
    for message in chat["messages"]:
        page.ln(2)
        page.flow([Run(page.printable(message["who"]), style="B")], size=SMALL + 1, colour=GREY)
        text = page.printable(message["text"])
        costs = SHAPED_COSTS if SHAPED.search(text) else 1
        shown = text[: left // costs]
        left -= len(text) * costs
        if message["is_markdown"] and not is_too_much(shown):
            page.markdown(shown)
        else:
            for paragraph in BLANK.split(shown.strip("\n")):
                page.flow([Run(paragraph)])
        for remark in message["remarks"]:
            page.flow([Run(page.printable(remark))], size=SMALL, colour=GREY)
        if left < 0:
            page.flow([Run(words["cut"], style="B")])
            break
    return bytes(page.output())


def _runs(children: Sequence[Token], style: str) -> Iterator[Run]:
    bold, link = 0, ""
    for child in children:
        if child.type == "link_open":
            link = str(child.attrGet("href"))
        elif child.type == "link_close":
            link = ""
        elif child.type in ("strong_open", "em_open"):  # emphasis of either kind is bold: there is no slanted font
            bold += 1
        elif child.type in ("strong_close", "em_close"):
            bold -= 1
        elif child.type.endswith("break"):
            yield Run("\n" if child.type == "hardbreak" else " ")
        elif child.content:
            if child.type == "code_inline":
                yield Run(child.content, "mono", "", link)
            else:
                yield Run(child.content, "sans", "B" if bold or style else "", link)


def _pieces(text: str) -> Iterator[str]:
    """Bounded, and cut between words where there are any."""
    while len(text) > PIECE:
        cut = text.rfind(" ", PIECE // 2, PIECE) + 1 or PIECE
        yield text[:cut]
        text = text[cut:]
    if text:
        yield text


def _wrapped_lines(text: str) -> Iterator[str]:
    for line in text.split("\n"):
        for start in range(0, len(line) or 1, PIECE):
            yield line[start : start + PIECE]


def _is_right_to_left(text: str) -> bool:
    for letter in text[:PIECE]:
        direction = unicodedata.bidirectional(letter)
        if direction in ("L", "R", "AL"):
            return direction != "L"
    return False


def warm_up(words: dict[str, str]) -> None:
    """Draw a bit of everything, so that what is loaded only when it is used is there: later no file can be opened."""
    for codec in ("unicode_escape", "utf-16-be", "utf-16", "latin-1", "ascii", "idna"):
        codecs.lookup(codec)
    said = "Warm **up** `x` [a](https://a.example)\n\n> שלום مرحبا नमस्ते\n\n1. x\n\n|a|b|\n|-|-|\n|1|2|\n\n```\nx\n```\n\n---"
    at, messages = "2026-01-01T00:00:00+00:00", [{"who": "x", "text": said, "is_markdown": True, "remarks": []}]
    typeset(Page(words, at), {"title": "עß日", "at": at, "messages": messages}, 1000)
