import json
import sys
import time
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand
from django.db import Error, connections

from chatsite.isolation import CHECKS, trial
from chatsite.isolation.catalogue import Proof


class Command(BaseCommand):
    help = (
        "Prove that no brand can reach another's rows: read PostgreSQL's catalogue, then try to break in, with two "
        "throw-away brands in a transaction that is rolled back. Exit code 1 names what is wrong. Safe on a live database."
    )

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        started = time.monotonic()
        with connections["service"].cursor() as cursor:
            cursor.execute("select current_database(), current_setting('server_version')")
            database, version = cursor.fetchone()
            read = [check(cursor) for check in CHECKS]
        tried = _try()
        proofs, faults = read + tried, [fault for proof in read + tried for fault in proof.faults]
        if options["json"]:
            self.stdout.write(
                json.dumps({"ok": not faults, "database": database, "proofs": [asdict(proof) for proof in proofs]})
            )
        else:
            self.stdout.write(f"The walls of {database} (PostgreSQL {version.split()[0]})\n")
            self.list("What the catalogue says", read)
            self.list("What was tried, and taken back", tried)
            took = f"{time.monotonic() - started:.1f} s"
            if faults:
                self.stdout.write(self.style.ERROR(f"\n{len(faults)} faults ({took}). Do not let traffic in."))
            else:
                self.stdout.write(self.style.SUCCESS(f"\nNo brand reaches another ({took})."))
        if faults:
            sys.exit(1)

    def list(self, title: str, proofs: list[Proof]) -> None:
        self.stdout.write(f"\n{title}")
        for proof in proofs:
            mark = self.style.ERROR("wrong") if proof.faults else self.style.SUCCESS("   ok")
            self.stdout.write(f"  {mark} {proof.count:5} {proof.claim}")
            for fault in proof.faults:
                self.stdout.write(self.style.ERROR(f"              {fault}"))


def _try() -> list[Proof]:
    try:
        return trial.run()
    except Error as error:  # the walls are so far from what they must be that the attempts cannot even be made
        return [Proof("attempts", 0, [f"the attempts could not be made: {str(error).splitlines()[0]}"])]
