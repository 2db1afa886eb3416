from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong.

    level   error: people are refused, or what they trust us with is at risk; warning: it works, until something happens
    """

    level: Literal["error", "warning"]
    topic: str
    cause: str
    effect: str
    remedy: str
