"""The table of gates: one row a measure, as the README shows it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Row:
    measure: str
    value: str
    gate: str
    goal: str
    is_met: bool
    note: str = ""


def show(rows: list[Row]) -> None:
    print("| measure | here | gate | goal | |\n|---|---|---|---|---|")
    for row in rows:
        note = f" ({row.note})" if row.note else ""
        print(
            f"| {row.measure} | **{row.value}**{note} | {row.gate} | {row.goal} | {'met' if row.is_met else 'MISSED'} |"
        )
