"""One thing that is wrong with a data set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

__all__ = ["Finding", "Level"]

Level = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: where, what was expected, what was found, and how to mend it.

    ``case`` is None for what concerns the data set as a whole.
    """

    case: str | None
    level: Level
    what: str
    expected: str
    found: str
    mend: str

    def __str__(self) -> str:
        place = f"case {self.case}: " if self.case is not None else ""
        return f"{place}{self.what}; expected {self.expected}, found {self.found}. {self.mend}"
