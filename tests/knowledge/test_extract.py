"""Honest files are read, hostile ones refused in words; what reads them can reach nothing (F-02, F-15 to F-18)."""

import os
import re
import subprocess
import sys
import time
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knowledge import extract as extraction
from knowledge import kinds
from knowledge.extract import PROGRAM, extract
from knowledge.kinds import Unreadable, called, sniff
from tests.knowledge import papers
from tests.knowledge.papers import said, word

GIF = b"GIF89a\x01\x00\x01\x00"


def test_what_people_attach_becomes_text():
    """Encodings by their mark, as UTF-8, else by a guess; pages are told as they are read."""
    told = []
    found = extract("plan.pdf", papers.pdf("Ground floor", "First floor"), tell=lambda *page: told.append(page))
    assert (found.text, found.pages, found.kind, found.is_cut) == ("Ground floor\nFirst floor", 2, "pdf", False)
    assert told == [(1, 2), (2, 2)]
    assert extract("any", papers.locked_pdf("x", owner_only=True)).text == "The secret.", "locked for printing only"
    assert extract("report.docx", papers.real_word()).text == "Report\nHello\tworld\na | b\nc |"

    russian = "Съешь ещё этих мягких французских булок, да выпей чаю. " * 3
    for name, content, kind, text in (
        ("a.txt", ("naïve\x00 ☃\r\n" + "word " * 40).encode(), "text", "naïve ☃\n" + "word " * 39 + "word"),
        ("a.md", b"# Title", "markdown", "# Title"),
        ("a.CSV", b"a;b\r\n1;2", "csv", "a;b\n1;2"),
        ("a.py", b"print(1)", "text", "print(1)"),
        ("a.txt", "hello".encode("utf-16"), "text", "hello"),
        ("a.txt", russian.encode("cp1251"), "text", russian.strip()),
    ):
        found = extract(name, content)
        assert (found.kind, found.text, found.pages) == (kind, text, None), name


def test_a_word_file_is_read_as_it_is_shown():
    """Text boxes once, deleted words not at all, cells of content controls too; macros and pictures are left alone."""
    box = "<w:r><mc:AlternateContent xmlns:mc='http://schemas.openxmlformats.org/markup-compatibility/2006'>"
    box += (
        f"<mc:Choice>{said('boxed')}</mc:Choice><mc:Fallback>{said('boxed')}</mc:Fallback></mc:AlternateContent></w:r>"
    )
    body = f"<w:p>{box}</w:p><w:p><w:del><w:r><w:delText>gone</w:delText></w:r></w:del></w:p>"
    body += f"<w:sdt><w:sdtContent>{said('filled in')}</w:sdtContent></w:sdt>"
    found = extract("form.docm", word(body, content_type=papers.MACROS, vbaProject=b"Shell(1)"))

    assert found.text.split() == ["boxed", "filled", "in"]


REFUSED = {
    "picture.png": (b"\x89PNG\r\n\x1a\n", "image"),
    "photo.jpg": (b"\xff\xd8\xff\xe0", "image"),
    "not-what-it-says.txt": (GIF + b"/*<script>alert(1)</script>*/", "image"),
    "zip+png.docx": (b"\x89PNG\r\n\x1a\n" + word(said("x")), "image"),
    "drawing.svg": (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "image"),
    "drawing.xml": (b"<?xml version='1.0'?>\n<svg/>", "image"),
    "page.txt": (b"\n<!DOCTYPE html><script>alert(1)</script>", "web_page"),
    "html-and-pdf.pdf": (b"<html>" + papers.pdf("x"), "web_page"),
    "is-text.pdf": (b"just text", "mismatch"),
    "is-pdf.txt": (papers.pdf("x"), "mismatch"),
    "is-pdf.docx": (papers.pdf("x"), "mismatch"),
    "is-text.png": (b"just text", "mismatch"),
    "sheet.xlsx": (papers.archive(**{"xl/workbook.xml": b"x"}), "spreadsheet"),
    "talk.pptx": (papers.archive(**{"ppt/presentation.xml": b"x"}), "slides"),
    "all.zip": (papers.archive(a=b"x"), "archive"),
    "old.doc": (b"\xd0\xcf\x11\xe0" + bytes(600), "old_word"),
    "letter.rtf": (b"{\\rtf1 x}", "rtf"),
    "program": (b"\x7fELF" + bytes(200), "unknown"),
    "nothing.txt": (b" \n", "empty"),
}


def test_what_is_no_text_is_refused_by_what_it_is_before_anything_parses_it():
    """F-15: by content, never by name alone; the sentence says what to do instead."""
    for name, (content, why) in REFUSED.items():
        with pytest.raises(Unreadable) as refused:
            sniff(name, content)
        assert (refused.value.why, name in refused.value.detail) == (why, True), name
    assert "picture" in kinds.words("image", "a.png")


BOMB = said("w" * 1000) * 30_000
DEEP = "<w:sdt><w:sdtContent>" * 2000 + said("x") + "</w:sdtContent></w:sdt>" * 2000
LAUGHS = "<!DOCTYPE w [<!ENTITY a 'lol'>" + "".join(
    f"<!ENTITY {chr(98 + n)} '{f'&{chr(97 + n)};' * 10}'>" for n in range(9)
)
TEMPLATE = f"{papers.OFFICE}/attachedTemplate"
FETCHED = f'<Relationship Id="r9" Type="{TEMPLATE}" Target="http://127.0.0.1:9/t" TargetMode="External"/>'


def readers_of(pid):
    """The processes that read a file for this one, whoever their parent is by now."""
    told = subprocess.run(
        ["ps", "-A", "-ww", "-o", "pid=,stat=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = [row.split() for row in told.splitlines() if PROGRAM.name in row and f" {pid} " in row]
    return [int(reader) for reader, state, *_ in rows if not state.startswith("Z")]


def outcome(name, content):
    """What is read, and why it is not."""
    try:
        return extract(name, content).text, ""
    except Unreadable as refused:
        return "", refused.why


def test_hostile_files_end_in_a_sentence_and_not_in_a_crash():
    """F-16, F-18: 97 KB to 100 MB, nested archives, entities, deep XML, page trees, locked, scanned, cut off."""
    whole = papers.pdf("x" * 50)
    for name, content, why in (
        ("bomb.docx", word(BOMB), "too_big"),
        ("nested.docx", word(said("x"), inner=papers.archive(a=bytes(60 * 1024**2))), ""),
        ("deep.docx", word(DEEP), "damaged"),
        ("laughs.docx", word("<w:p>&j;</w:p>", before=LAUGHS + "]>"), "damaged"),
        (
            "outside.docx",
            word("<w:p>&x;</w:p>", before="<!DOCTYPE w [<!ENTITY x SYSTEM 'file:///etc/passwd'>]>"),
            "damaged",
        ),
        ("template.docx", word(said("x"), rels=FETCHED), ""),
        ("half.docx", word(said("x"))[:-30], "damaged"),
        ("locked.pdf", papers.locked_pdf("x"), "locked"),
        ("scan.pdf", papers.pdf("", ""), "no_text"),
        ("no-end.pdf", whole[: len(whole) // 3], "damaged"),
        ("junk.pdf", b"%PDF-1.4\n" + os.urandom(2000), "damaged"),
    ):
        assert outcome(name, content) == (("x", "") if not why else ("", why)), name


def test_what_takes_too_long_or_too_much_is_killed_and_said(monkeypatch):
    """F-16: CPU, memory and what it says are limited from outside; nothing is left running."""
    assert outcome("million.pdf", papers.pdf_of_a_million_pages())[1] in ("damaged", "too_slow", "too_big")
    monkeypatch.setattr(extraction, "CPU_S", 1)
    assert outcome("busy.pdf", papers.pdf_with(b"BT /F 12 Tf " + b"(abc) Tj " * 400_000 + b"ET")) == ("", "too_slow")
    monkeypatch.setattr(extraction, "CPU_S", 20)
    packed = papers.pdf_with(zlib.compress(zlib.compress(b" " * 60 * 1024**2)), "/Filter [/FlateDecode /FlateDecode]")
    monkeypatch.setattr(extraction, "MEMORY_BYTES", 200 * 1024**2)
    assert outcome("stream.pdf", packed)[1] in ("damaged", "too_big", "no_text")

    monkeypatch.setattr(extraction, "MOST_SAID_BYTES", 1000)
    assert outcome("long.txt", b"word " * 1000) == ("", "damaged")
    monkeypatch.setattr(extraction, "WALL_S", 0.01)
    assert outcome("late.txt", b"word") == ("", "too_slow")

    assert readers_of(os.getpid()) == []


TRIES = """
import os, socket, subprocess, sys, json
sys.path.insert(0, {folder!r})
import confined
os.environ.get("PATH")
confined.be_small(os.getppid(), 5, 512 * 1024 ** 2)
confined.be_alone()
done = []
def attempt(name, work):
    try:
        work()
        done.append(name)
    except (OSError, MemoryError):
        pass
attempt("read a file", lambda: open("/etc/passwd"))
attempt("write a file", lambda: open({folder!r} + "/confined", "w"))
attempt("list a folder", lambda: list(os.scandir("/")))
attempt("connect", lambda: socket.create_connection(("127.0.0.1", {port})))
attempt("resolve and connect", lambda: socket.create_connection(("localhost", {port})))
attempt("talk to a local socket", lambda: socket.socket(socket.AF_UNIX))
attempt("make a pipe", os.pipe)
attempt("start a program", lambda: subprocess.run(["/bin/true"], check=True))
attempt("take a gigabyte", lambda: bytearray(1024 ** 3))
print(json.dumps([done, sorted(os.environ)]))
"""


def test_the_process_that_reads_can_open_nothing_start_nothing_and_knows_no_secret():
    """F-13, F-16: proved in the process itself, with a listener that would be heard."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        code = TRIES.format(folder=str(PROGRAM.parent), port=listener.getsockname()[1])
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", code],
            env={"LC_ALL": "C.UTF-8"},
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.stdout.strip() == '[[], ["LC_ALL"]]', done.stderr
        with pytest.raises(BlockingIOError):
            listener.accept()


READS_FOR_LONG = """
import sys
sys.path.insert(0, {folder!r})
from knowledge import extract
print("ready", flush=True)
extract.extract("busy.pdf", sys.stdin.buffer.read())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only there a process dies with its parent")
def test_a_worker_that_is_killed_takes_the_process_that_reads_with_it():
    """kill -9: nobody else would ever end it."""
    code = READS_FOR_LONG.format(folder=str(PROGRAM.parent.parent))
    worker = subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert worker.stdout.readline() == b"ready\n"
    worker.stdin.write(papers.pdf_with(b"BT /F 12 Tf " + b"(abc) Tj " * 400_000 + b"ET"))
    worker.stdin.close()

    until = time.monotonic() + 30
    while not (reading := readers_of(worker.pid)):
        assert time.monotonic() < until
        time.sleep(0.05)
    worker.kill()
    worker.wait(10)
    while readers_of(worker.pid):
        assert time.monotonic() < until, f"{reading} goes on"
        time.sleep(0.05)


@settings(max_examples=int(os.environ.get("FUZZ", "12")), deadline=None)
@given(st.sampled_from(["pdf", "docx"]), st.lists(st.tuples(st.integers(0, 10**6), st.binary(max_size=9)), max_size=20))
def test_no_damage_to_a_file_gets_more_than_a_sentence(kind, hits):
    content = bytearray({"pdf": papers.pdf("one", "two"), "docx": word(said("one"))}[kind])
    for place, junk in hits:
        place = 8 + place % (len(content) - 8)
        content[place : place + len(junk)] = junk
    text, why = outcome(f"any.{kind}", bytes(content))
    assert text or why in kinds.WHY


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "passwd"), ("..\\x.txt", "x.txt"), ("C:\\a\\b.pdf", "b.pdf"), ("a\x00b.txt", "a b.txt"),
        ("a\u202efdp.exe", "a fdp.exe"), ("", "file"), ("..", ".."), ("e\u0301.txt", "é.txt"), ("\ud800.txt", "?.txt"),
        ("a\r\nSet-Cookie: x.txt", "a Set-Cookie: x.txt"), ("x" * 300 + ".pdf", "x" * 115 + "….pdf"),
    ],
)  # fmt: skip
def test_a_name_is_shown_on_one_line_and_leads_nowhere(name, shown):
    """F-02, F-04, F-17: nothing is ever stored under it, so it only has to be readable."""
    assert called(name) == shown
    assert not re.search(r"[/\\\x00-\x1f\u202a-\u202e]", called(name))
