import base64
import gzip
import hashlib
import json
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENDORED = json.loads((ROOT / "static/vendor/vendor.json").read_text())


def test_every_vendored_file_is_the_one_that_was_fetched():
    for entry in VENDORED:
        digest = hashlib.sha384((ROOT / entry["file"]).read_bytes()).digest()
        assert entry["sha384"] == f"sha384-{base64.b64encode(digest).decode()}", entry["file"]


def test_every_vendored_file_is_named_with_its_licence_and_version():
    present = {path for folder in ("static/vendor", "tests/vendor") for path in (ROOT / folder).glob("*.js")}

    assert present == {ROOT / entry["file"] for entry in VENDORED}
    assert all(entry["licence"] and entry["version"] and entry["npm"] for entry in VENDORED)


def test_the_chat_page_ships_at_most_25_kb_of_javascript_and_10_kb_of_css():
    """DESIGN 8, gzip."""
    scripts = [ROOT / "static/vendor/htmx.min.js", *(ROOT / "static/js").glob("*.js")]
    styles = [ROOT / "static" / sheet for sheet in ("tokens.css", "components.css", "app.css")]

    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in scripts) <= 25_000
    assert sum(len(gzip.compress(path.read_bytes(), 9)) for path in styles) <= 10_000
