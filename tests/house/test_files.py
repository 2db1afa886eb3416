"""Files of people: kept by brand, served as what is stored and never shown."""

import io
import zipfile
from uuid import UUID

import pytest
from django.core.files.storage import storages

from chatsite.backups import archive
from lib import files
from lib.db import NOBODY

ACT, GLOBEX = UUID(int=1), UUID(int=2)


@pytest.fixture(autouse=True)
def folder(settings, tmp_path):
    options = {**settings.STORAGES["files"]["OPTIONS"], "location": str(tmp_path / "files")}
    settings.STORAGES = {**settings.STORAGES, "files": {**settings.STORAGES["files"], "OPTIONS": options}}
    return tmp_path / "files"


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("floor-plan.PDF", ".pdf"),
        ("../../etc/passwd", ""),
        ("/etc/cron.d/x.sh", ".sh"),
        ("..\\..\\boot.ini", ".ini"),
        ("a\0.txt", ".txt"),
        ("con.txt/..", ""),
        ("", ""),
        ("x." + "y" * 300, ""),
    ],
)
def test_no_name_leads_out_of_the_folder_of_its_brand(folder, name, suffix):
    """F-13: nothing of a name but a plain suffix comes into the key."""
    key = files.save(ACT, "attachment", name, b"bytes")

    assert files.KEY.fullmatch(key)
    assert key.startswith(f"{ACT}/attachment/")
    assert ("." + key.rpartition(".")[2] if "." in key else "") == suffix
    stored = [path for path in folder.rglob("*") if path.is_file()]
    assert [str(path.relative_to(folder)) for path in stored] == [key]
    assert stored[0].stat().st_mode & 0o077 == 0


def test_a_key_opens_for_its_own_brand_only_and_what_is_gone_is_gone():
    key = files.save(ACT, "attachment", "a.txt", io.BytesIO(b"mine"))
    for wrong in (f"{ACT}/attachment/../../{key}", f"{ACT}/../{key}", "/etc/passwd", "", key.upper(), key + "\n"):
        with pytest.raises(files.FileGone):
            files.open(wrong, brand_id=ACT)
    for read in (files.open, files.size, files.delete):
        with pytest.raises(files.FileGone):
            read(key, brand_id=GLOBEX)

    with files.open(key, brand_id=ACT) as file:
        assert file.read() == b"mine"
    assert list(files.stored()) == list(files.stored("attachment")) == [key]
    files.delete(key, brand_id=ACT)
    files.delete(key, brand_id=ACT)

    with pytest.raises(files.FileGone):
        files.open(key, brand_id=ACT)
    assert list(files.stored()) == []


async def test_a_file_is_stored_by_the_browser_and_never_shown():
    content = b"<script>alert(1)</script>" * 20_000
    key = files.save(ACT, "attachment", "x.html", content)

    answer = files.attached(key, "../\u202egpj.exe\r\nSet-Cookie: a", brand_id=ACT)
    received = b"".join([piece async for piece in answer.streaming_content])

    assert received == content
    assert answer.headers["Content-Length"] == str(len(content))
    assert answer.headers["Content-Disposition"] == 'attachment; filename="gpj.exe Set-Cookie a"'
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "sandbox" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("Invoice 2026.pdf", "Invoice 2026.pdf"),
        ("../../etc/passwd", "etc passwd"),
        ("C:\\Windows\\x", "C Windows x"),
        ("a\u202egpj.exe", "agpj.exe"),
        ("CON.txt", "_CON.txt"),
        ("lpt1", "_lpt1"),
        ("con", "_con"),
        ("console", "console"),
        ("  .hidden. ", "hidden"),
        ("...", "file"),
        ("line\nbreak\0", "line break"),
        ("\ud800half", "half"),
        ("שלום עולם", "שלום עולם"),
    ],
)
def test_names_are_ones_that_every_system_takes(given, safe):
    """F-13: no path, no turned direction, no device, no control character."""
    assert files.safe_name(given) == safe


def test_long_names_are_cut_between_letters_and_keep_their_end():
    for name in ("é" * 300, "日" * 300, "x" * 300, "👩‍👩‍👧" * 100):
        cut = files.safe_name(name, ".pdf")
        assert len(cut.encode()) <= 200
        assert cut.endswith(".pdf")
        assert files.safe_name(name + ".docx").endswith(".docx")


def test_a_backup_takes_the_files_along_and_gives_them_back(folder, tmp_path):
    """O-07: what people brought comes home with the rows that name it; what is gone tomorrow does not."""
    kept = {files.save(brand, "attachment", "a.txt", brand.bytes * 1000): brand for brand in (ACT, GLOBEX)}
    files.save(ACT, "export", "chats.zip", b"made again at will")
    path = tmp_path / "x.backup"
    with zipfile.ZipFile(path, "w") as zipped:
        assert archive.put_files(zipped) == 2
    one = next(iter(kept))
    for key, brand in list(kept.items())[1:]:
        files.delete(key, brand_id=brand)

    assert archive.get_files(path) == 2

    assert {*files.stored("attachment")} == {*kept}
    for key, brand in kept.items():
        with files.open(key, brand_id=brand) as file:
            assert file.read() == brand.bytes * 1000
    assert storages["files"].exists(one)
    with zipfile.ZipFile(path, "a") as zipped:
        zipped.writestr("files/../../etc/cron.d/x", "* * * * *")
    with pytest.raises(files.FileGone):
        archive.get_files(path)


def test_only_kinds_with_a_plain_name_are_taken():
    for kind in ("", "../x", "A", "a/b"):
        with pytest.raises(ValueError, match="no kind"):
            files.save(NOBODY, kind, "a.txt", b"")
