"""check_balances: prove every bucket, pack and debt by its lines; exit code 1 names each that drifted."""

import sys
from dataclasses import asdict
from typing import Any

from lib.commands import OperatorCommand
from quotas import proof


class Command(OperatorCommand):
    help = (
        "Prove every balance: each bucket's limit, used and held against the sums of its entries and open holds, each pack "
        "and what is owed against its lines, and that nothing was settled "
        "twice. Exit code 1 names each that drifted. Changes nothing; safe on a live database."
    )

    def work(self, **options: Any) -> dict[str, Any]:
        self.drifts = proof.drifts()
        return {
            **proof.counts(),
            "ok": not self.drifts,
            "drifts": [asdict(drift) | {"words": str(drift)} for drift in self.drifts],
        }

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.drifts:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        buckets, packs, entries, holds = (result[name] for name in ("buckets", "packs", "entries", "open_holds"))
        proved = f"{buckets:,} buckets and {packs:,} packs against {entries:,} entries and {holds:,} open holds"
        if result["ok"]:
            return f"Proved {proved}: every balance is the sum of its lines."
        drifts = result["drifts"]
        return "\n".join([*(drift["words"] for drift in drifts), f"Of {proved}, {len(drifts)} drifted."])
