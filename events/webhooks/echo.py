"""A receiver to try webhooks with: it takes everything, and shows what came and whether its signature holds.

It knows nothing of the site and proves signatures with the official library, as an integrator's server would. What it was
given is in its memory only. Paths that end in a number are answered with it: /hook/500 fails, /hook/410 says that it is gone.
"""

import json
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from http import HTTPStatus

from aiohttp import web
from standardwebhooks import Webhook, WebhookVerificationError

KEPT, MOST_BYTES = 100, 1024 * 1024
PAGE = """<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Webhook echo</title><style>
body {{ font: 16px/1.5 system-ui; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color-scheme: light dark }}
pre {{ overflow: auto; border: 1px solid; padding: 0.5rem }}
</style>
<h1>Webhook echo</h1>
<p>Send webhooks to <code>http://{host}/hook</code>. <code>/hook/500</code> is answered with 500, and so on.</p>
<form method="post" action="/-/secret"><label>Signing secret of the webhook
<input name="secret" type="password" placeholder="whsec_..." required autocomplete="off"></label>
<button>Check with it</button></form><p>Secrets known here: {secrets}.</p>{received}"""
ONE = """<article><h2>{type}</h2><p>{at} <code>{path}</code> <code>webhook-id: {id}</code>
<strong>{verdict}</strong></p><pre>{headers}</pre><pre>{body}</pre></article>"""


@dataclass(frozen=True, slots=True)
class Received:
    at: float
    path: str
    headers: Mapping[str, str]
    body: bytes


class Echo:
    def __init__(self, secrets: list[str]) -> None:
        self.secrets = secrets
        self.received: deque[Received] = deque(maxlen=KEPT)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=MOST_BYTES)
        app.router.add_route("GET", "/", self.show)
        app.router.add_route("GET", "/received.json", self.tell)
        app.router.add_route("POST", "/-/secret", self.learn)
        app.router.add_route("POST", "/{path:.*}", self.take)
        return app

    async def take(self, request: web.Request) -> web.Response:
        self.received.appendleft(Received(time.time(), request.path, dict(request.headers), await request.read()))
        wanted = request.path.rpartition("/")[2]
        status = int(wanted) if wanted.isdigit() and wanted in {str(s.value) for s in HTTPStatus if s >= 200} else 200
        return web.Response(status=status, text="received\n")

    async def learn(self, request: web.Request) -> web.Response:
        secret = str((await request.post()).get("secret", "")).strip()
        if secret and secret not in self.secrets:
            self.secrets.append(secret)
        raise web.HTTPSeeOther("/")

    async def tell(self, request: web.Request) -> web.Response:
        return web.json_response(
            [
                {"path": one.path, "id": one.headers.get("webhook-id"), "signature": self.verdict(one)}
                for one in self.received
            ]
        )

    async def show(self, request: web.Request) -> web.Response:
        shown = "".join(self.drawn(one) for one in self.received) or "<p>Nothing came yet.</p>"
        text = PAGE.format(host=escape(request.host), secrets=len(self.secrets), received=shown)
        return web.Response(text=text, content_type="text/html")

    def drawn(self, one: Received) -> str:
        told = {
            "type": _type(one.body),
            "at": time.strftime("%H:%M:%S", time.localtime(one.at)),
            "path": one.path,
            "id": one.headers.get("webhook-id", "none"),
            "verdict": self.verdict(one),
            "headers": "\n".join(f"{name}: {value}" for name, value in one.headers.items()),
            "body": one.body.decode("utf-8", "replace"),
        }
        return ONE.format(**{name: escape(value) for name, value in told.items()})

    def verdict(self, one: Received) -> str:
        if not self.secrets:
            return "No secret is known here, so nothing was checked."
        for secret in self.secrets:
            try:
                Webhook(secret).verify(one.body, {name.lower(): value for name, value in one.headers.items()})
            except WebhookVerificationError as refused:
                why = str(refused)
            except ValueError:
                why = "this is no secret"
            else:
                return "The signature holds."
        return f"The signature does not hold: {why}."


def _type(body: bytes) -> str:
    try:
        return str(json.loads(body)["type"])
    except (ValueError, KeyError, TypeError):
        return "something else"
