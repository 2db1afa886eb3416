"""check_activity: prove that the audit log is what was written; exit code 1 names each line that is not."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError, CommandParser

from events.activity import chain
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Prove the audit log: every line against its link, every link against the one before, every chain against its head. "
        "Exit code 1 names each line that was changed, removed, put in or moved. Keep the output of --json outside of the "
        "database, and hold the log against it with --against. Changes nothing; safe on a live database."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--against", type=Path, help="what an earlier run printed with --json")

    def work(self, **options: Any) -> dict[str, Any]:
        self.faults = chain.faults()
        if path := options["against"]:
            self.faults += chain.refuted(self.noted(path))
        return {
            **chain.counts(),
            "ok": not self.faults,
            "faults": [asdict(fault) | {"words": str(fault)} for fault in self.faults],
            "heads": chain.heads(),
        }

    @staticmethod
    def noted(path: Path) -> list[dict[str, Any]]:
        try:
            heads: list[dict[str, Any]] = json.loads(path.read_text())["heads"]
            for head in heads:
                bytes.fromhex(head["chain"].replace("-", "")), bytes.fromhex(head["digest"]), int(head["length"])
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise CommandError(f"{path} is not what check_activity --json printed ({type(error).__name__}).") from error
        return heads

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.faults:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        proved = f"{result['lines']:,} lines in {result['chains']:,} chains"
        if result["ok"]:
            return f"Proved {proved}: every line is what was written, and none is missing."
        return "\n".join(
            [*(fault["words"] for fault in result["faults"]), f"Of {proved}, {len(self.faults)} are wrong."]
        )
