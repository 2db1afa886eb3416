"""An operation as a program that runs as it stands: curl, Python (nothing to install), JavaScript (Node 20, browsers)."""

import json
import shlex
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

LANGUAGES = {"curl": "curl", "python": "Python", "javascript": "JavaScript"}


def programs(
    method: str, address: str, key: str, body: Any = None, headers: Mapping[str, str] | None = None
) -> dict[str, str]:
    """The same request in each language. `address` is a whole one; `body` goes as JSON, None = there is none."""
    given = {"Authorization": f"Bearer {key}", **({"Content-Type": "application/json"} if body is not None else {})}
    given |= headers or {}
    return {
        "curl": _curl(method, address, given, body),
        "python": _python(method, address, given, body),
        "javascript": _javascript(method, address, given, body),
    }


def address(root: str, path: str, ids: Mapping[str, str], query: Mapping[str, Any]) -> str:
    return f"{root}{path.format(**ids)}{'?' if query else ''}{urlencode(query)}"


def _curl(method: str, address: str, headers: Mapping[str, str], body: Any) -> str:
    lines = [f"curl -sS {'' if method in ('GET', 'POST') else f'-X {method} '}{shlex.quote(address)}"]
    lines += [f"-H {shlex.quote(f'{name}: {value}')}" for name, value in headers.items()]
    if body is not None:
        lines.append(f"-d {shlex.quote(json.dumps(body, ensure_ascii=False))}")
    elif method == "POST":
        lines.append("-X POST")
    return " \\\n  ".join(lines)


def _python(method: str, address: str, headers: Mapping[str, str], body: Any) -> str:
    lines = [
        "import json",
        "from urllib.request import Request, urlopen",
        "",
        "request = Request(",
        f"    {address!r},",
    ]
    lines += [f"    method={method!r},", "    headers={"]
    lines += [f"        {name!r}: {value!r}," for name, value in headers.items()]
    lines.append("    },")
    if body is not None:
        lines.append(f"    data=json.dumps({_indented(repr_of(body))}).encode(),")
    lines += [")", "with urlopen(request) as response:"]
    lines.append("    print(response.status)" if method == "DELETE" else "    print(json.load(response))")
    return "\n".join(lines).replace("'", '"') if "'" not in json.dumps(body) else "\n".join(lines)


def _javascript(method: str, address: str, headers: Mapping[str, str], body: Any) -> str:
    lines = [f"const response = await fetch({json.dumps(address)}, {{", f'  method: "{method}",', "  headers: {"]
    lines += [f"    {json.dumps(name)}: {json.dumps(value)}," for name, value in headers.items()]
    lines.append("  },")
    if body is not None:
        lines.append(f"  body: JSON.stringify({_indented(json.dumps(body, indent=2, ensure_ascii=False), 2)}),")
    lines += ["});", "console.log(response.status);" if method == "DELETE" else "console.log(await response.json());"]
    return "\n".join(lines)


def repr_of(body: Any) -> str:
    """As Python writes it, one field in a line."""
    if isinstance(body, dict):
        return "{\n" + "".join(f"    {name!r}: {_indented(repr_of(value))},\n" for name, value in body.items()) + "}"
    return repr(body)


def _indented(text: str, by: int = 4) -> str:
    return text.replace("\n", "\n" + " " * by)
