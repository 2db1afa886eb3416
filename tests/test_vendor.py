import base64
import gzip
import hashlib
import json
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDORED = json.loads((ROOT / "static/vendor/vendor.json").read_text())
SCRIPT = re.compile(r"""src="{% static '([\w/.-]+\.js)'""")
IMPORT = re.compile(r"""^import .*?"(\./[\w/.-]+\.js)";""", re.MULTILINE)


def test_every_vendored_file_is_the_one_that_was_fetched():
    for entry in VENDORED:
        digest = hashlib.sha384((ROOT / entry["file"]).read_bytes()).digest()
        assert entry["sha384"] == f"sha384-{base64.b64encode(digest).decode()}", entry["file"]


def test_every_vendored_file_is_named_with_its_licence_and_version():
    present = {path for folder in ("static/vendor", "tests/vendor") for path in (ROOT / folder).glob("*.js")}

    assert present == {ROOT / entry["file"] for entry in VENDORED}
    assert all(entry["licence"] and entry["version"] and entry["npm"] for entry in VENDORED)


def test_the_chat_page_ships_at_most_25_kb_of_javascript_and_10_kb_of_css():
    """DESIGN 8, gzip: what the page asks for when it is opened, with what that imports. What is fetched when it is first
    used (static/js/later, the palette) comes beside."""
    wanted = [ROOT / "static" / name for page in ("base", "conversations/chat") for name in SCRIPT.findall(_page(page))]
    scripts: set[Path] = set()
    while wanted:
        path = wanted.pop()
        if path not in scripts:
            scripts.add(path)
            wanted += [path.parent / name for name in IMPORT.findall(path.read_text())]
    styles = [ROOT / "static" / sheet for sheet in ("tokens.css", "components.css", "app.css")]

    assert len(scripts) > 8
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in scripts) <= 25_000
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in styles) <= 10_000


def _page(name: str) -> str:
    return (ROOT / f"templates/{name}.html").read_text()
