"""What a browser must fetch before a page works, gzip."""

import gzip
import re
from pathlib import Path

from django.contrib.staticfiles import finders

KB = 1024
STATIC = re.compile(r'(?:src|href)="/static/([^"?]+\.(?:js|css))"')
IMPORT = re.compile(r'^import [^;]*?from "\./([\w.-]+)";', re.M)


def bytes_of(name):
    return Path(finders.find(name)).read_bytes()


def fetched(page):
    """Files that the page names, and what its modules import before they run."""
    found = list(dict.fromkeys(STATIC.findall(page)))
    for name in found:
        if name.startswith("js/"):
            found += [f"js/{one}" for one in IMPORT.findall(bytes_of(name).decode()) if f"js/{one}" not in found]
    return found


def weighed(page):
    kinds = {"html": len(gzip.compress(page.encode(), 9)), "js": 0, "css": 0}
    for name in fetched(page):
        kinds[name.rpartition(".")[2]] += len(gzip.compress(bytes_of(name), 9))
    return {kind: size / KB for kind, size in kinds.items()}
