"""Chats that come back: whole, once, and never more than somebody's word."""

import io
import json
import tracemalloc
import zipfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import uuid4

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import connections

from conversations.chats import importing
from conversations.chats.export import unwrapping
from conversations.chats.export.chats import collected, envelope
from conversations.chats.export.packing import as_json
from conversations.chats.export.unwrapping import NotAnExport
from conversations.chats.importing import bring
from conversations.models import Conversation, Message
from lib.db import SERVICE, scope
from lib.errors import DomainError
from quotas.models import Entry
from tests import factories
from tests.conversations.test_export import client

SAID = [
    ("user", "Why ☃?\r\n```"),
    ("assistant", "Because **of**\n\n```py\nx\n```"),
    ("user", "And?"),
    ("assistant", "…"),
]


@pytest.fixture
def bob(world):
    return factories.member(world.act, world.bob)


def taken(principal, brand, ids):
    with scope(principal):
        return as_json(envelope(brand, collected(principal, ids)))


def stored(principal):
    """What a person has, without what belongs to one store of it: ids and the moments of writing."""
    with scope(principal):
        ids = list(Conversation.objects.order_by("id").values_list("pk", flat=True))
        chats = json.loads(as_json(list(collected(principal, ids))))
    for chat in chats:
        places = {message["id"]: place for place, message in enumerate(chat["messages"])}
        for message in chat["messages"]:
            message["parent_id"] = places.get(message.pop("parent_id"))
            message.pop("id")
        for name in ("id", "updated_at", "last_message_at", "metadata", "message_count"):
            chat.pop(name)
    return chats


def test_what_is_taken_home_comes_back_as_it_was_and_once(world, bob):
    """All versions, settings and context; a second time, or where the chats still are, nothing appears twice."""
    chat = factories.make_conversation(world.act, world.bob, "Snow", said=SAID)
    with scope(bob):
        last = chat.messages.order_by("-id").first()
        Message.objects.create(
            brand=world.act, owner_id=world.bob.pk, conversation=chat, role="assistant", content="Another end",
            parent_id=last.parent_id, is_current=False,
        )  # fmt: skip
        Conversation.objects.update(
            system_prompt="Be kind.", settings={"temperature": 0.5}, context_type="Bill", context_label="C-11", model="demo",
            provider_id=world.demo.pk,
        )  # fmt: skip
        went = {"name": "bill.pdf", "kind": "pdf", "bytes": 9, "pages": 2, "is_cut": True}
        chat.messages.filter(role="user").update(files=[went], file_text="18,400 kWh")
    file = taken(bob, world.act, [chat.pk])
    before = stored(bob)

    def send(user, host, content, name="x.json"):
        upload = {"file": SimpleUploadedFile(name, content)}
        return client(user, host).post("/import/", upload, follow=True).content.decode()

    assert "1 was here already" in send(world.bob, "act.localhost", file)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("chats/snow.json", file)
        archive.writestr("about-me.json", "{}")
        archive.writestr("chats/readme.md", "# x")
    assert "1 chat was imported" in send(world.charlie, "globex.localhost", packed.getvalue(), "x.zip")
    assert "1 was here already" in send(world.charlie, "globex.localhost", file)
    charlie = factories.member(world.globex, world.charlie)
    assert [{**chat, "provider": None} for chat in stored(charlie)] == [{**chat, "provider": None} for chat in before]
    with scope(charlie):
        (there,) = Conversation.objects.values_list("pk", flat=True)
    back = taken(charlie, world.globex, [there])
    assert "1 was here already" in send(world.bob, "act.localhost", back)  # it began here
    with scope(SERVICE):
        Conversation.objects.filter(owner_id=world.bob.pk).delete()
    assert "1 chat was imported" in send(world.bob, "act.localhost", back)
    assert stored(bob) == before
    with scope(SERVICE):
        assert not Entry.objects.filter(owner_id=world.bob.pk, used_delta__gt=0).exists()
        assert not Conversation.objects.filter(is_counted=True, owner_id=world.bob.pk).exists()


def test_a_file_is_somebodys_word_and_no_more(world, bob):
    """No number of it counts, no row of it is another's, and no path through its versions is shown that is none."""
    mine, other = str(uuid4()), factories.make_conversation(world.act, world.alice, "Alice's", said=SAID)
    ids = [str(uuid4()) for _ in range(4)]
    rows = [
        {
            "id": ids[0],
            "parent_id": None,
            "is_current": True,
            "role": "user",
            "content": "a\0<script>",
            "files": [{"name": "../x\u202e.pdf", "kind": "exe", "bytes": -1, "pages": "7"}],
            "file_text": "t\0",
        },
        {
            "id": ids[1],
            "parent_id": ids[0],
            "is_current": True,
            "role": "assistant",
            "content": "b",
            "status": "pending",
        },
        {
            "id": ids[2],
            "parent_id": ids[0],
            "is_current": True,
            "role": "assistant",
            "content": "c",
            "tokens_used": 10**12,
        },
        {"id": ids[3], "parent_id": str(uuid4()), "is_current": False, "role": "user", "content": "d", "owner_id": "x"},
    ]
    chat = {
        "id": mine, "origin_id": str(other.pk), "title": "x\u202e\n" * 200, "created_at": "2999-01-01T00:00:00Z",
        "brand_id": str(world.globex.pk), "owner_id": str(world.alice.pk), "total_cost_microusd": 5, "is_counted": True,
        "settings": {"temperature": 99, "max_tokens": 5, "evil": 1}, "model": "no-such-model",
        "messages": [{**row, "created_at": "2026-01-01T00:00:00Z"} for row in rows],
    }  # fmt: skip
    file = {"format": "chatsite-chats", "version": 1, "chats": [chat]}

    with scope(bob):
        assert bring(bob, json.dumps(file).encode()).new == 1
        found = Conversation.objects.get()
        messages = list(found.messages.order_by("id"))

    assert (found.brand_id, found.owner_id) == (world.act.pk, world.bob.pk)
    assert (found.total_cost_microusd, found.is_counted, found.settings) == (0, False, {"max_tokens": 5})
    assert found.provider_id is None
    assert len(found.title) <= 200
    assert "\u202e" not in found.title
    assert found.created_at.year < 2999
    assert [(row.content, row.is_current) for row in messages] == [
        ("a\ufffd<script>", True), ("b", False), ("c", True), ("d", False),
    ]  # fmt: skip
    assert messages[0].files == [{"name": "x .pdf", "kind": "text", "bytes": 0, "pages": 7, "is_cut": False}]
    assert messages[0].file_text == "t\ufffd"
    assert {row.tokens_used for row in messages} == {0}
    assert messages[1].status == "done"


def test_files_that_are_none_store_nothing(world, bob, monkeypatch):
    """F-02, F-13, F-16: whatever is wrong is a refusal in words, and all of the file is left out."""
    good = {"id": str(uuid4()), "title": "x", "created_at": "2026-01-01T00:00:00Z", "messages": []}
    message = {"id": str(uuid4()), "role": "user", "content": "x", "created_at": "2026-01-01T00:00:00Z"}

    def file(*chats, **fields):
        return json.dumps({"format": "chatsite-chats", "version": 1, "chats": chats, **fields}).encode()

    def zipped(*contents):
        bomb = io.BytesIO()
        with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
            for number, content in enumerate(contents):
                archive.writestr(f"{number}.json", content)
        return bomb.getvalue()

    wide = file(good).replace(b'"version"', b'"x": [' + b"[]," * 1_000_000 + b'[]], "version"')
    monkeypatch.setattr(importing, "MOST_IN_ALL", 5)
    full = [file({**good, "id": str(uuid4()), "messages": [message] * 2}) for _ in range(3)]
    wrong = [
        b"", b"{", b"[]", b"null", b"PK\x03\x04broken", b"\xff\xfe", b"[" * 100_000, file(format="other"), file(version=2),
        file(chats="x"), file("x"), file({}), file(good, {**good, "id": "../x"}), file({**good, "created_at": "yesterday"}),
        file({**good, "messages": {}}), file({**good, "messages": [{**message, "role": "root"}]}),
        file({**good, "messages": [{**message, "content": None}]}), file({**good, "context": "x"}),
        file({**good, "system_prompt": "x" * 32_001}),
        file({**good, "messages": [{**message, "function_call": {"calls": [{"id": 1}]}}]}),
        file({**good, "messages": [message] * 5001}), file(*[{**good, "id": str(uuid4())} for _ in range(1001)]),
        file({**good, "settings": "x"}), file({**good, "title": 5}), b"x" * (20 * 1024**2 + 1),
        zipped(b" " * (20 * 1024**2 + 1)), zipped(*full), wide,
    ]  # fmt: skip
    for content in wrong:
        with pytest.raises(DomainError) as refused, scope(bob):
            bring(bob, content)
        assert 400 <= refused.value.status < 500
    with scope(bob):
        assert not Conversation.objects.exists()
    assert client(world.bob).post("/import/").status_code == 400
    assert client(world.bob).post("/import/", {"file": SimpleUploadedFile("x.json", b"{")}).status_code == 400


@pytest.mark.django_db(transaction=True)
def test_two_windows_at_once_bring_a_file_once(live_world):
    """Each has read the file before the other has stored it."""
    principal = factories.member(live_world.act, live_world.bob)
    chat = {"id": str(uuid4()), "title": "x", "created_at": "2026-01-01T00:00:00Z"}
    chat["messages"] = [{"id": str(uuid4()), "role": "user", "content": "x", "created_at": chat["created_at"]}]
    file = json.dumps({"format": "chatsite-chats", "version": 1, "chats": [chat]}).encode()
    both = Barrier(2)

    def window(_):
        try:
            with scope(principal):
                both.wait(20)
                return bring(principal, file).new
        finally:
            connections.close_all()

    with ThreadPoolExecutor(2) as threads:
        assert sorted(threads.map(window, range(2))) == [0, 1]

    with scope(principal):
        assert (Conversation.objects.count(), Message.objects.count()) == (1, 1)


def test_only_one_chat_of_a_file_is_in_memory(world, bob):
    """F-16: what is held grows with the longest chat, and not with the file. Sizes are counted, no time is."""

    def peak(chats):
        message = {"role": "user", "content": "x" * 1000, "created_at": "2026-01-01T00:00:00Z"}
        rows = [
            {"id": str(uuid4()), "title": "x", "created_at": "2026-01-01T00:00:00Z",
             "messages": [{**message, "id": str(uuid4())} for _ in range(20)]}
            for _ in range(chats)
        ]  # fmt: skip
        file = json.dumps(
            {"chats": rows, "format": "chatsite-chats", "version": 1}
        ).encode()  # ours come in another order
        tracemalloc.start()
        with scope(bob):
            assert bring(bob, file).new == chats
        most = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return most, len(file)

    peak(1)  # fills caches
    (few, of_few), (many, of_many) = peak(4), peak(40)

    assert many - few < (of_many - of_few) / 2


def test_what_only_looks_like_chats_is_no_export():
    """F-02: chats are cut out by their brackets; neither what is cut nor what is left may be anything but JSON."""
    around = b'{"format": "chatsite-chats", "version": 1, "chats": [%s]}'
    good = [b"", b'{"a": "]}\\"[{"}', b'{"a": {"chats": [[]]}},\n {"b": ["\\\\"]}', b'[], {"chats": 1}']
    wrong = [
        b"-{}",
        b"{}{}",
        b"1{}",
        b"{}.5",
        b"{},",
        b"{]",
        b"{}]",
        b'{"a": 1',
        b"null",
        b"0",
        b'"x"',
        b"{} // x",
        b'{"a": NaN}',
    ]

    assert [list(unwrapping.chats(around % text)) for text in good] == [
        json.loads(b"[%s]" % text) for text in good
    ]  # fmt: skip
    for text in [
        *(around % each for each in wrong),
        b'{"x\\"chats": [{}]}',
        b'{"chats": [' * 1000,
        b'{"chats": [{}]}' * 2,
    ]:
        with pytest.raises(NotAnExport):
            list(unwrapping.chats(text))
