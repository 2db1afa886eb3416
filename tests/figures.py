"""What a long test found, for the table of `make soak`: printed, and written down where SOAK_FIGURES says."""

import json
import os
from pathlib import Path


def tell(part: str, **figures: object) -> None:
    """`part` is the row of the table; figures are shown as they are, in this order."""
    words = ", ".join(f"{name.replace('_', ' ')} {figure}" for name, figure in figures.items())
    print(f"\n{part}: {words}", flush=True)
    if path := os.environ.get("SOAK_FIGURES"):
        with Path(path).open("a") as lines:
            lines.write(json.dumps({"part": part, "figures": words}) + "\n")
