"""The load report: what became of every tensor, as data, as JSON and as a table for people."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Literal

__all__ = ["Fraction", "LoadReport", "TensorLine"]

State = Literal["loaded", "adapted", "fresh", "missing", "skipped", "unused"]


@dataclass(frozen=True)
class TensorLine:
    """One tensor: of the network (loaded, adapted, fresh, missing) or of the file alone (skipped, unused)."""

    name: str
    state: State
    shape: tuple[int, ...]
    reason: str | None = None
    source: str | None = None


@dataclass(frozen=True)
class Fraction:
    """How many values of a part of the network came from the file."""

    loaded: int
    total: int

    @property
    def value(self) -> float:
        """Share in 0–1; 1 where the part is empty, since nothing of it is missing."""
        return self.loaded / self.total if self.total else 1.0


@dataclass(frozen=True)
class LoadReport:
    """Everything that loading did and did not do."""

    lines: tuple[TensorLine, ...]
    encoder: Fraction
    decoder: Fraction
    floor: float

    @property
    def counts(self) -> dict[str, int]:
        """Number of tensors per state, all six states named."""
        counter = Counter(line.state for line in self.lines)
        return {state: counter[state] for state in ("loaded", "adapted", "fresh", "missing", "skipped", "unused")}

    @property
    def filled(self) -> frozenset[str]:
        """Names in the network whose values came from the file."""
        return frozenset(line.name for line in self.lines if line.state in ("loaded", "adapted"))

    def to_json(self) -> dict[str, Any]:
        """Return the report as JSON-ready data: what ``loading.json`` of a run holds."""
        return {
            "counts": self.counts,
            "encoder": {"loaded": self.encoder.loaded, "total": self.encoder.total, "fraction": self.encoder.value},
            "decoder": {"loaded": self.decoder.loaded, "total": self.decoder.total, "fraction": self.decoder.value},
            "floor": self.floor,
            "tensors": [
                {
                    "name": line.name,
                    "state": line.state,
                    "shape": list(line.shape),
                    "reason": line.reason,
                    "source": line.source,
                }
                for line in self.lines
            ],
        }

    def table(self) -> str:
        """Return a summary for people, with every tensor that was not simply loaded."""
        head = [
            f"encoder {self.encoder.value:7.2%}  ({self.encoder.loaded:,} of {self.encoder.total:,} values, "
            f"floor {self.floor:.0%})",
            f"decoder {self.decoder.value:7.2%}  ({self.decoder.loaded:,} of {self.decoder.total:,} values)",
            "  ".join(f"{state} {count}" for state, count in self.counts.items()),
        ]
        odd = [
            f"  {line.state:<8} {line.name} {line.shape}: {line.reason}"
            for line in self.lines
            if line.state != "loaded"
        ]
        return "\n".join(head + odd)
