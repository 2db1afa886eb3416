"""Taking chats home: what is in the files, what they are called, and that nothing in them can do harm."""

import io
import json
import re
import socket
import time
import zipfile
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pypdf
import pytest
from django.test import Client
from markdown_it import MarkdownIt

from conversations.chats.export import background, packing, pdf
from conversations.chats.export.markdown import contained, markdown
from conversations.models import Conversation, Export, Message
from events.models import Notification
from lib import clock, files
from lib.db import SERVICE, scope
from tests import factories
from tests.post import outbox

AT = datetime(2026, 11, 3, 12, tzinfo=UTC)


def client(user, host="act.localhost"):
    browser = Client(headers={"host": host})
    browser.force_login(user)
    return browser


def message(role="assistant", content="", **fields):
    row = {
        "role": role, "content": content, "model_name": "Demo", "created_at": AT, "is_current": True, "files": [],
        "function_call": None, "status": "done", "error_detail": "", "deleted_at": None,
    }  # fmt: skip
    return {**row, **fields}


def chat(*messages, title="A chat"):
    return {"id": uuid4(), "title": title, "created_at": AT, "last_message_at": AT, "messages": list(messages),
            "provider": {"name": "Demo"}, "model": "demo"}  # fmt: skip


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    options = {**settings.STORAGES["files"]["OPTIONS"], "location": str(tmp_path / "files")}
    settings.STORAGES = {**settings.STORAGES, "files": {**settings.STORAGES["files"], "OPTIONS": options}}
    settings.FILES_DIR = str(tmp_path / "files")


@pytest.fixture
def talk(world):
    """A chat of bob's with two versions of its answer."""
    made = factories.make_conversation(world.act, world.bob, "Numbers & <b>more</b>", said=[("user", "How many?")])
    with scope(factories.member(world.act, world.bob)):
        question = made.messages.get()
        for content, is_current in (("First try", False), ("Forty-**two**", True)):
            Message.objects.create(
                brand=world.act, owner_id=world.bob.pk, conversation=made, role="assistant", content=content,
                model_name="Demo", parent_id=question.pk, is_current=is_current, tokens_used=7,
            )  # fmt: skip
        Conversation.objects.filter(pk=made.pk).update(
            system_prompt="Be brief.", context_type="Bill", context_id="C-11"
        )
    return made


def test_one_chat_comes_home_in_each_form(world, talk):
    """JSON has all of it, Markdown and PDF what is shown; each is stored by the browser and never shown."""
    bob = client(world.bob)
    found = {form: bob.get(f"/c/{talk.pk}/export/?as={form}") for form in packing.SUFFIXES}

    for form, answer in found.items():
        assert answer.status_code == 200
        assert answer.headers["Content-Type"] == packing.TYPES[form]
        name = f"{clock.now():%Y-%m-%d} Numbers & b more b{packing.SUFFIXES[form]}"
        assert answer.headers["Content-Disposition"] == f'attachment; filename="{name}"'
        assert "sandbox" in answer.headers["Content-Security-Policy"]
    file = json.loads(found["json"].content)
    assert (file["format"], file["version"], len(file["chats"])) == ("chatsite-chats", 1, 1)
    (told,) = file["chats"]
    assert told["system_prompt"] == "Be brief."
    assert told["context"] == {"type": "Bill", "id": "C-11", "label": ""}
    assert [row["content"] for row in told["messages"]] == ["How many?", "First try", "Forty-**two**"]
    assert [row["is_current"] for row in told["messages"]] == [True, False, True]
    assert told["messages"][2]["parent_id"] == told["messages"][0]["id"]
    text = found["markdown"].content.decode()
    assert "Forty-**two**" in text
    assert "First try" not in text
    assert "Be brief." not in text
    drawn = pypdf.PdfReader(io.BytesIO(found["pdf"].content)).pages[0].extract_text()
    assert "Forty-two" in drawn
    assert "First try" not in drawn
    for other, host in ((world.alice, "act.localhost"), (world.charlie, "globex.localhost")):
        assert client(other, host).get(f"/c/{talk.pk}/export/?as=json").status_code == 404
    assert bob.get(f"/c/{talk.pk}/export/?as=exe").status_code == 400


def test_what_one_message_holds_stays_in_it():
    """Fences, HTML and lists that are never closed swallow nothing of what follows, and a title is no markup."""
    said = [
        "plain", "```\nnever closed", "~~~~\nnever closed\n```", "<!-- never closed", "<script>never closed", "",
        "- a\n\n  ```\n  x", "> quoted\n> ```\n> x", "<![CDATA[ x", "<pre>x", "```` `` ```\n~~~", "a\n===\nb\n---",
        "[x]: https://a.example 'never", "\0\x1b[31m", "    code\n\tmore", "`" * 50 + "\nx", "<div>\nx", "1. a\n2. ```",
        "---\ntitle: x\n---", "> " * 5000 + "deep", "- " * 5000, "[" * 20_000, "x" * 300_000,
    ]  # fmt: skip
    for content in said:
        text = markdown(
            chat(message(content=content), message("user", "THE QUESTION AFTER"), title="# x\n- [a](b) `c`")
        )
        tokens = MarkdownIt("commonmark").parse(text.split("---\n", 2)[2][:400_000])
        headings = [
            tokens[at + 1].content for at, token in enumerate(tokens)
            if token.type == "heading_open" and token.tag in ("h1", "h2") and token.level == 0
        ]  # fmt: skip
        assert [head for head in headings if "·" in head] == [
            "Demo · 2026\\-11\\-03 12:00 UTC",
            "You · 2026\\-11\\-03 12:00 UTC",
        ]
        assert "[a](b)" not in text.split("---\n", 2)[2]
    assert contained("a *b*\n\n```py\nx\n```") == "a *b*\n\n```py\nx\n```"


def test_a_pdf_has_every_script_and_says_which_letters_it_lacks():
    """C13: shaped, in reading order, with page numbers; the same chat gives the same bytes."""
    said = {
        "Ελληνικά κόσμε": "Greek", "Привет мир": "Cyrillic", "crème brûlée ß": "Latin", "नमस्ते": "Devanagari",
    }  # fmt: skip
    rows = [message(content=text) for text in said]
    rows += [message(content="مرحبا **بالعالم** with English 123"), message("user", "שלום עולם and English")]
    table = "# Head\n\n1. one\n2. two\n\n| a | b |\n|---|---|\n| cell | x |\n\n```py\ndef f(): pass\n```\n\n[words](https://a.example/x)"
    rows += [message(content=table), message(content="日本語 😀🎉👩‍👩‍👧 {nb}\x00\x1b"), message("user", "line\n" * 120)]

    first, again = (next(pdf.pdfs([chat(*rows, title="Everything 日本")])) for _ in range(2))

    assert first == again
    pages = pypdf.PdfReader(io.BytesIO(first)).pages
    text = "\n".join(page.extract_text() for page in pages)
    for each in (*list(said)[:3], "English 123", "Head", "1.", "cell", "def f(): pass", "words", "{nb}"):
        assert each in text, each
    assert "Page 1" in text
    assert f"Page {len(pages)}" in text
    assert len(pages) > 2
    assert "Chinese, Japanese or Korean" in text or "日本" in text
    letters = set(text)
    assert letters & set("नमस्ते")
    assert letters & set("שלום")
    links = [note.get_object()["/A"]["/URI"] for page in pages for note in page.get("/Annots") or ()]
    assert set(links) == {"https://a.example/x"}


def test_a_pdf_of_hostile_text_fetches_nothing_and_ends(tmp_path):
    """F-13, F-22: 10 MB, deep quotes, control characters, pictures, files: bounded, and the next is drawn."""
    secret = tmp_path / "secret.txt"
    secret.write_text("LOCAL-SECRET")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        address = f"http://127.0.0.1:{port}/x.png"
        fetching = (
            f"![a]({address}) <img src='{address}'> <iframe src='file://{secret}'></iframe> ![b](file://{secret})\n\n"
        )
        fetching += (
            f"<link rel=stylesheet href='{address}'>\n\n<svg><use href='{address}'/></svg>\n\n@import url({address});"
        )
        hostile = [
            chat(message(content=fetching)),
            chat(message(content="> " * 5000 + "deep"), message("user", "\x00\x1b\u202e\ufeff" * 5000 + "y" * 50_000)),
            chat(message("user", "a b " * 2_500_000)),
            chat(message(content="|" + "a|" * 500 + "\n|" + "-|" * 500 + "\n" + ("|x" * 500 + "|\n") * 20)),
            chat(message("user", "fine")),
        ]
        began_at = time.monotonic()
        drawn = list(pdf.pdfs(hostile))
        listener.settimeout(0)
        with pytest.raises(BlockingIOError):
            listener.accept()

    assert time.monotonic() - began_at < 2 * pdf.WALL_S
    assert drawn[0]
    assert drawn[4]
    assert b"LOCAL-SECRET" not in drawn[0]
    assert "LOCAL-SECRET" not in pypdf.PdfReader(io.BytesIO(drawn[0])).pages[0].extract_text()
    assert "too long for a PDF" in pypdf.PdfReader(io.BytesIO(drawn[2])).pages[-1].extract_text()


def test_a_process_that_dies_of_one_chat_draws_the_others(monkeypatch):
    """What is killed at its limits is left out, and named as such to whoever wanted it alone."""
    monkeypatch.setattr(pdf, "MEMORY_BYTES", 60 * 1024**2)  # not even enough to begin

    assert list(pdf.pdfs([chat(message(content="x"))] * 2)) == [None, None]
    with pytest.raises(packing.NotDrawn):
        packing.one(chat(message(content="x")), None, "pdf")


def test_many_come_as_a_zip_without_a_path_that_leads_anywhere(world, talk):
    """F-13: hostile and equal titles give names that are one each on every system."""
    titles = ["../../etc/passwd", "a\u202egpj.exe", "CON", "Same", "SAME", "same", "x" * 200, "C:\\x", ""]
    ids = [factories.make_conversation(world.act, world.bob, title, said=[("user", "hi")]).pk for title in titles]
    other = factories.make_conversation(world.act, world.alice, "Not yours", said=[("user", "hi")])

    answer = client(world.bob).post("/export/", {"id": [*ids, talk.pk, other.pk], "as": "markdown"})

    assert answer.headers["Content-Type"] == "application/zip"
    names = zipfile.ZipFile(io.BytesIO(answer.content)).namelist()
    assert len(names) == len({name.casefold() for name in names}) == len(ids) + 1
    for name in names:
        assert re.fullmatch(r"\d{4}-\d\d-\d\d( [^/\\:\u202e]+)?\.md", name), name
        assert len(name.encode()) <= 255
    with scope(factories.member(world.act, world.alice)):
        Conversation.objects.update(last_message_at=clock.now())
    everything = client(world.alice).post("/export/", {"all": "1", "back": "show=active&model=", "as": "json"})
    assert len(zipfile.ZipFile(io.BytesIO(everything.content)).namelist()) == 1
    assert client(world.bob).post("/export/", {"id": [other.pk], "as": "json"}).status_code == 404
    for wrong in (
        {"id": ["x"], "as": "json"},
        {"as": "json"},
        {"all": "1", "show": "x", "as": "json"},
        {"id": [talk.pk]},
    ):
        assert client(world.bob).post("/export/", wrong).status_code == 400


def begun(world, user, count):
    ids = [factories.make_conversation(world.act, user, f"Chat {n}", said=[("user", f"Q{n}")]).pk for n in range(count)]
    return ids, client(user).post("/export/", {"id": ids, "as": "markdown"})


def test_more_than_fifty_are_made_in_the_background(world, django_capture_on_commit_callbacks):
    """Part by part, to the end; then a notice leads to a file that is its person's alone, for 24 hours."""
    with django_capture_on_commit_callbacks(execute=True):
        _, answer = begun(world, world.bob, 51)
    bob = client(world.bob)

    assert (answer.status_code, answer.headers["Location"]) == (303, "/settings/data/#exports")
    with scope(SERVICE):
        export = Export.objects.get()
        notice = Notification.objects.get(owner_id=world.bob.pk, once=f"export:{export.pk}")
    assert (export.state, export.done, export.total, export.parts) == ("done", 51, 51, [])
    assert "51 chats" in notice.message
    assert [(mail.to, mail.subject) for mail in outbox()] == [(["bob@example.com"], "Your export is ready")]
    page = bob.get("/settings/data/").content.decode()
    assert f"/exports/{export.pk}/file/" in page
    assert f"/exports/{export.pk}/file/" not in client(world.alice).get("/settings/data/").content.decode()
    file = bob.get(f"/exports/{export.pk}/file/")
    with zipfile.ZipFile(io.BytesIO(b"".join(file))) as archive:
        assert len(archive.namelist()) == 51
        assert archive.testzip() is None
    assert client(world.alice).get(f"/exports/{export.pk}/file/").status_code == 404
    assert [*files.stored("export")] == [export.file_key]

    assert background.tend(export.expires_at + timedelta(seconds=1)) == ([], 1)

    assert [*files.stored("export")] == []
    gone = bob.get(f"/exports/{export.pk}/file/")
    assert gone.status_code == 404
    assert "24 hours" in gone.content.decode()


def test_an_export_survives_its_workers_and_is_made_once(world):
    """A part that is drawn twice is taken over once; what is cancelled, or whose member is removed, leaves no file."""
    ids, _ = begun(world, world.bob, 51)
    with scope(SERVICE):
        export = Export.objects.get()
    assert background.go_on(export.pk) is True
    with scope(SERVICE):
        export.refresh_from_db()
    assert (export.done, export.state, len(export.parts)) == (25, "running", 1)

    stale = Export.objects.none()
    with scope(SERVICE):
        stale = Export.objects.select_related("brand").get()
    stale.done, stale.parts = 0, []
    assert background._make_part(stale, factories.member(world.act, world.bob)) is False  # a second worker, too late
    assert len([*files.stored("export")]) == 1
    assert background.tend(clock.now() + timedelta(minutes=7)) == ([export.pk], 0)  # its worker died: somebody goes on
    assert [background.go_on(export.pk) for _ in range(4)] == [True, True, False, False]
    with scope(SERVICE):
        export.refresh_from_db()
    assert export.state == "done"
    assert [*files.stored("export")] == [export.file_key]

    lost = files.save(world.act.pk, "export", "part.zip", b"of a worker that died before it said so")
    assert background.forget_lost_files() == 0
    assert background.forget_lost_files(clock.now() + timedelta(hours=24, minutes=30)) == 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "stored_at", lambda key: clock.now() - timedelta(hours=26) if key == lost else clock.now())
        assert background.forget_lost_files() == 1

    for end in ("cancelled", "stalled", "removed"):
        with scope(factories.member(world.act, world.bob)):
            again = background.ask(factories.member(world.act, world.bob), "chats", "json", ids)
        background.go_on(again.pk)
        if end == "cancelled":
            assert client(world.alice).post(f"/exports/{again.pk}/cancel/").status_code == 404
            assert client(world.bob).post(f"/exports/{again.pk}/cancel/").status_code == 303
        elif end == "stalled":
            assert background.tend(clock.now() + timedelta(minutes=11)) == ([], 1)
        else:
            with scope(SERVICE):
                world.bob.memberships.all().delete()
        assert background.go_on(again.pk) is False  # I-11
        with scope(SERVICE):
            again.refresh_from_db()
        assert again.state == ("cancelled" if end == "cancelled" else "failed")
        assert bool(again.error) == (end != "cancelled")
        assert [*files.stored("export")] == [export.file_key]


def test_nobody_makes_more_than_three_at_once(world):
    ids, _ = begun(world, world.bob, 51)
    for expected in (303, 303, 409):
        assert client(world.bob).post("/export/", {"id": ids, "as": "json"}).status_code == expected


def test_all_my_data_is_all_of_mine_and_nobody_elses(world, talk, django_capture_on_commit_callbacks):
    """O-17: chats, also from the bin, and what every room knows; no secret of anybody's."""
    binned = factories.make_conversation(world.act, world.bob, "Thrown away", said=[("user", "BIN-CANARY")])
    factories.make_conversation(world.act, world.alice, "Alice's", said=[("user", "ALICE-CANARY")])
    with scope(factories.member(world.act, world.bob)):
        Conversation.objects.filter(pk=binned.pk).update(deleted_at=clock.now())

    bob = client(world.bob)
    asked = bob.post("/settings/data/take/")  # who is there, first; it goes on then
    with django_capture_on_commit_callbacks(execute=True):
        bob.post(asked.headers["Location"], {"password": factories.PASSWORD})

    with scope(SERVICE):
        export = Export.objects.get()
    with zipfile.ZipFile(io.BytesIO(b"".join(client(world.bob).get(f"/exports/{export.pk}/file/")))) as archive:
        read = {name: archive.read(name).decode() for name in archive.namelist()}
    everything = "".join(read.values())
    assert "BIN-CANARY" in everything
    assert "Forty-**two**" in everything
    assert "ALICE-CANARY" not in everything
    me = json.loads(read["about-me.json"])
    assert me["account"]["email"] == "bob@example.com"
    assert me["profile"]["full_name"] == "Bob"
    assert [row["role"] for row in me["memberships"]] == ["member"]
    assert "secret" not in re.findall(r'"(\w+)":', read["about-me.json"])
    assert "bob@example.com" in read["about-me.md"]
    assert {name for name in read if "/" in name} == {name for name in read if name.startswith("chats/")}


def test_every_table_of_a_persons_is_in_all_my_data_or_left_out_on_purpose():
    """O-17, by enumeration: a new table of rows that are somebody's is thought of here."""
    from django.apps import apps

    from accounts.models import Owned
    from chatsite.about_me import MINE

    taken = {model for models in MINE.values() for model in models.values()}
    owned = {model for model in apps.get_models() if issubclass(model, Owned)}
    left_out = {model.__name__ for model in owned - taken}

    assert left_out == {
        "Conversation", "Message",  # files of their own
        "Turn", "IdempotencyRecord",  # how an answer came about: its message says what of it is its person's
        "Account", "Bucket", "Entitlement", "Entry", "Hold", "Customer", "OverageReport",  # the meter's and the till's books
        "Correction", "Agent",  # what a brand is made of
    } & {model.__name__ for model in owned}  # fmt: skip
