"""What a check says: findings, and the level of trust that follows from them. Levels are computed, never typed."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from harness.errors import UserError

__all__ = ["TOLERANCE", "TRUST", "Finding", "Level", "Verification", "differ"]

Level = Literal["error", "warning", "note"]
TOLERANCE = 1e-6  # how far a recomputed number may be off: another machine's floating point, not another score
TRUST = ("claimed", "self-run", "re-aggregated", "re-scored", "re-inferred", "re-trained")
_SHOWN = 8


def differ(a: float | None, b: float | None) -> bool:
    """Whether two numbers differ by more than another machine's floating point; null differs from every number."""
    if a is None or b is None:
        return a is not b
    return not math.isclose(a, b, rel_tol=1e-9, abs_tol=TOLERANCE)


@dataclass(frozen=True)
class Finding:
    """One thing that a check has to say.

    Attributes
    ----------
    check : int
        Number of the check: 1 schema and hashes, 2 completeness, 3 re-aggregation, 4 range and counts, 5 identity,
        6 re-scoring, 7 loading, 8 separation, 9 plausibility, 10 regression, 11 privacy, 12 declarations.
    level : {"error", "warning", "note"}
        An error makes the record invalid; a warning is for a person to look at; a note says what was not checked.
    field : str
        Dotted path in the record, or the name of a file.
    message : str
        What is there, what should be, and why.
    """

    check: int
    level: Level
    field: str
    message: str

    def __str__(self) -> str:
        return f"[{self.check}] {self.field}: {self.message}"


@dataclass(frozen=True)
class Verification:
    """The outcome for one record.

    Attributes
    ----------
    path : Path
        The record's folder as it was given.
    run_id : str or None
        As stated; None where the record cannot be read.
    findings : tuple of Finding
        Errors first.
    trust : int
        0 claimed (invalid), 1 self-run, 2 re-aggregated, 3 re-scored, 4 re-inferred (`harness.reinfer`, on other
        hardware). Level 5 needs another person, and no file can prove it.
    """

    path: Path
    run_id: str | None
    findings: tuple[Finding, ...]
    trust: int

    @property
    def errors(self) -> tuple[Finding, ...]:
        """What makes the record invalid."""
        return tuple(finding for finding in self.findings if finding.level == "error")

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return not self.errors

    @property
    def trust_name(self) -> str:
        """The level of trust in words."""
        return TRUST[self.trust]

    def refuse(self) -> None:
        """Raise a UserError that lists the errors, if there are any."""
        errors = self.errors
        if errors:
            more = f" And {len(errors) - _SHOWN} more." if len(errors) > _SHOWN else ""
            raise UserError(f"The record in {self.path} is not valid. {' '.join(map(str, errors[:_SHOWN]))}{more}")

    def to_json(self) -> dict[str, Any]:
        """Return plain values, without the path."""
        return {
            "run_id": self.run_id,
            "trust": self.trust,
            "findings": [
                {"check": f.check, "level": f.level, "field": f.field, "message": f.message} for f in self.findings
            ],
        }
