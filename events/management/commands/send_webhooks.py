import asyncio
import signal
from typing import Any

from django.core.management.base import BaseCommand

from events.webhooks.sending import Sender


class Command(BaseCommand):
    help = (
        "Send webhooks until it is stopped, in a process of their own. Every worker sends them too; any number may run."
    )
    requires_system_checks = ()

    def handle(self, *args: Any, **options: Any) -> None:
        async def main() -> None:
            sender = Sender()
            for number in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(number, sender.stop)
            await sender.run()

        asyncio.run(main())
