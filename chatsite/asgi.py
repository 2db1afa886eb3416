"""The web process: Django over ASGI, with a beginning and an end.

On SIGTERM the server stops accepting, then the lifespan's shutdown drains the answers that are still being written.
"""

import os
from collections.abc import Awaitable, Callable
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")

from django.core.asgi import get_asgi_application  # noqa: E402

django_application = get_asgi_application()

from conversations import runner  # noqa: E402

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]
DRAIN_S = float(os.environ.get("DRAIN_S", "5"))


async def application(scope: dict[str, Any], receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await django_application(scope, receive, send)  # type: ignore[arg-type]
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await runner.drain(DRAIN_S)
            await send({"type": "lifespan.shutdown.complete"})
            return
