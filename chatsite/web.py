"""One web process, and an end of it that loses nothing.

    python -m chatsite.web --host 127.0.0.1 --port 8000

Several of them stand behind a proxy that asks the next one when it cannot connect to one: then nothing was sent, so it is the
only refusal after which anything may be asked again. SIGTERM or SIGINT ends a process in this order:

1. at once: the listening socket closes. What comes on connections that are open is answered as ever, for LAME_DUCK_S (and up
   to twice that, while something waits for its answer), and each is closed after it: the proxy gives up idle ones sooner;
2. a new question is refused with 503 before anything is held, /readyz says 503, listeners and readers of other processes'
   answers are let go, and what is idle is closed; answers that are being written go on for up to DRAIN_S;
3. what still runs is ended as interrupted, with its text; its readers are told, and the process exits with 0.

A second signal cuts the waiting short.
"""

import argparse
import asyncio
import gc
import logging
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from types import FrameType

import uvicorn
from django.conf import settings
from django.urls import reverse
from uvicorn.supervisors import ChangeReload

from chatsite.asgi import django_application
from conversations.engine import relay, runner
from conversations.engine.live import hub
from events.realtime.hub import hub as listeners
from providers import calls

log = logging.getLogger("chatsite.web")
CLOSING = (b"connection", b"close")
LOOK_EVERY_S = 0.05
STALLED_S = 60  # bytes on their way that nobody acknowledges
TELL_S = 5  # for readers to hear of an end that came with the process's own


class Server(uvicorn.Server):
    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        self._loop, self._hurry = asyncio.get_running_loop(), asyncio.Event()
        warming = self._loop.create_task(warm_up())
        await super().serve(sockets)
        await warming

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Uvicorn would send itself the signal again at the end, and so never exit with 0; this does not remember it."""
        if self.should_exit:
            self._loop.call_soon_threadsafe(self._hurry.set)
        else:
            self.should_exit = True
            self.config.encoded_headers.append(CLOSING)  # what the clock makes the headers of each response from
            self.server_state.default_headers = [*self.server_state.default_headers, CLOSING]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers:
            for listener in server.sockets:
                hang_up_on_the_stalled(listener.fileno())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        log.info("Draining: %d answers are being written.", len(hub.unfinished()))
        await self._stop_listening(sockets or [])
        await self._wait(settings.LAME_DUCK_S)
        await self._while(
            lambda: bool(django_application.unanswered), settings.LAME_DUCK_S
        )  # who came in time is served
        runner.refuse()
        relay.reader.let_go()
        listeners.let_go()
        await _take_in()
        for connection in list(self.server_state.connections):
            connection.shutdown()
        await self._while(self._is_busy, settings.DRAIN_S)
        await runner.end_all()
        await super().shutdown(sockets)

    async def _stop_listening(self, sockets: list[socket.socket]) -> None:
        """Close the sockets; who is connected by then is answered. The kernel would reset those whom nobody accepted."""
        last = [
            socket.socket(fileno=os.dup(listener.fileno())) for server in self.servers for listener in server.sockets
        ]
        for server in self.servers:
            server.close()
        for listener in sockets:
            listener.close()
        accepted = []
        for listener in last:
            listener.setblocking(False)
            with suppress(BlockingIOError):
                while True:
                    accepted.append(listener.accept()[0])
            listener.close()
        for connection in accepted:
            connection.setblocking(False)
            await self._loop.connect_accepted_socket(self._protocol, connection)

    def _protocol(self) -> asyncio.Protocol:
        """As startup() makes them."""
        made: asyncio.Protocol = self.config.http_protocol_class(  # type: ignore[call-arg]
            config=self.config, server_state=self.server_state, app_state=self.lifespan.state
        )
        return made

    async def _wait(self, seconds: float) -> None:
        """Unless somebody hurries us."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._hurry.wait(), seconds)

    async def _while(self, is_so: Callable[[], bool], seconds: float) -> None:
        until = self._loop.time() + seconds
        while is_so() and self._loop.time() < until and not self._hurry.is_set():
            await self._wait(LOOK_EVERY_S)

    @staticmethod
    def _is_busy() -> bool:
        """A question may be about to become an answer."""
        return bool(hub.unfinished() or django_application.unanswered)


async def _take_in() -> None:
    """Read what the proxy has sent by now: a busy loop is behind, and what is closed unread is reset."""
    for _ in range(3):
        await asyncio.sleep(0)


def hang_up_on_the_stalled(listener: int, after_s: float = STALLED_S) -> None:
    """Whoever takes nothing of what is sent for so long is gone: the kernel cuts the connections that this socket accepts."""
    if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux; elsewhere it is for the proxy in front
        with socket.socket(fileno=os.dup(listener)) as listening:
            listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(after_s * 1000))


async def warm_up() -> None:
    """Load what would else be loaded while somebody waits, and look at none of it again for garbage.

    What stands now lives as long as the process. A full collection over it takes 0.2 s, in which no token moves.
    """
    await calls.warm_up()
    reverse("conversations:home")  # imports every page
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 20, 20)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m chatsite.web", description="One web process.")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1)")
    parser.add_argument("--port", type=int, default=8000, help="port to listen on (8000)")
    parser.add_argument("--reload", action="store_true", help="start again when a file changes; for development")
    given = parser.parse_args(arguments)
    config = uvicorn.Config(
        "chatsite.asgi:application",
        host=given.host,
        port=given.port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,  # its lines go where ours go
        log_level="warning",
        server_header=False,
        proxy_headers=settings.BEHIND_PROXY,
        forwarded_allow_ips=settings.FORWARDED_ALLOW_IPS,
        timeout_graceful_shutdown=TELL_S,
        reload=given.reload,
    )
    server = Server(config)
    if given.reload:
        ChangeReload(config, target=server.run, sockets=[config.bind_socket()]).run()
        return 0
    server.run()
    return 0 if server.started else 1


if __name__ == "__main__":
    sys.exit(main())
