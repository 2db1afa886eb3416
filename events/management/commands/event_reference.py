import json
from argparse import ArgumentParser
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from events.catalogue import CIRCUMSTANCES, KINDS, TEST, Kind, envelope

HEAD = """# Events

Made by `manage.py event_reference` from events/catalogue.py; change it there.

Written by `events.stream.publish()` in the transaction that did the thing; append-only; never content, never secrets. A
transaction that is rolled back tells nothing.

**Order.** Every event knows the transaction that wrote it and its number in the order of writing. A reader's place
(`events.reading`) is what one look at the database could see; reading on gives what the next look sees and that one did not,
by number. So nothing is missed or repeated, what happened to one subject comes in the order it happened, and a transaction
that stays open holds up nobody's events but its own. After a restore `manage.py restore` puts the
order in the new server's terms; who loads a dump by hand runs `manage.py settle_stream`.

**Readers**: alerts at 80 % and 100 % of a limit, what members hear of plan and payments, and [webhooks](webhooks.md).

"""


def reference() -> str:
    return "".join(_lines())


def _lines() -> Iterator[str]:
    yield HEAD
    yield "| name | subject | what happened | data | S2 / S3 call it |\n|---|---|---|---|---|\n"
    for kind in KINDS.values():
        known = " +" if "device" in kind.optional else ""
        own = [name for name in kind.optional if name not in CIRCUMSTANCES]
        names = ", ".join([*kind.data, *(f"{name}?" for name in own)]) + known
        yield f"| `{kind.name}` | {kind.subject} | {kind.says} | {names.strip() or '-'} | {kind.also or '-'} |\n"
    yield (
        "\n`+`: and of the request, where it is known: `visitor_id`, `device` (desktop, phone, tablet, bot), `country` (two "
        "letters, if the proxy says it in `COUNTRY_HEADER`). `?`: only sometimes.\n"
        f"\n`{TEST.name}` is sent to one endpoint by hand, and is not in the stream.\n"
    )
    yield f"\n## What a webhook's body says\n\n```json\n{_json(envelope())}\n```\n\n## Schemas of `data`\n"
    for schema, kinds in _by_schema().items():
        yield f"\n{', '.join(f'`{kind.name}`' for kind in kinds)}\n\n```json\n{schema}\n```\n"


def _by_schema() -> dict[str, list[Kind]]:
    found: dict[str, list[Kind]] = {}
    for kind in [*KINDS.values(), TEST]:
        found.setdefault(_json(kind.schema), []).append(kind)
    return found


def _json(schema: dict[str, Any]) -> str:
    return json.dumps(schema, indent=1)


class Command(BaseCommand):
    help = "Write docs/events.md from the catalogue in events/catalogue.py."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", type=Path, default=settings.BASE_DIR / "docs" / "events.md", help="the file")

    def handle(self, *args: Any, **options: Any) -> None:
        options["to"].write_text(reference())
        self.stdout.write(f"Wrote {options['to']}.")
