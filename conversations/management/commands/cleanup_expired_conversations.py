"""cleanup_expired_conversations: delete the chats whose time is over. Every hour by itself."""

import sys
from typing import Any

from conversations.chats import retention
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Delete the chats whose time is over, with all that was said in them: what plan or brand keeps no longer, what "
        "visitors said, and what has been in the bin for 30 days. It does what was due at the last 02:00 of each brand's "
        "zone, so it may run at any hour, late, or twice. What the chats cost stays. Exit code 1 if a brand could not be "
        "swept; the log says why, and the next run tries again."
    )
    scoped = False

    def add_arguments(self, parser: Any) -> None:
        super().add_arguments(parser)
        parser.add_argument("--dry-run", action="store_true", help="count what would be deleted, and delete nothing")

    def work(self, **options: Any) -> dict[str, Any]:
        swept = retention.sweep(dry_run=options["dry_run"])
        self.failed = sum(counts.pop("failed", 0) for counts in swept.values())
        return {
            "dry_run": options["dry_run"],
            "deleted": sum(counts.total() for counts in swept.values()),
            "failed": self.failed,
            "brands": {slug: dict(counts) for slug, counts in swept.items() if counts},
        }

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.failed:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        lines = [f"{result['deleted']:,} chats {'would be deleted' if result['dry_run'] else 'deleted'}."]
        for slug, counts in result["brands"].items():
            lines.append(f"{slug}: " + ", ".join(f"{count:,} by {reason}" for reason, count in counts.items()))
        if result["failed"]:
            lines.append(f"{result['failed']:,} brands could not be swept: see the log. The next run tries them again.")
        return "\n".join(lines)
