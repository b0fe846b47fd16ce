"""The claim: a number somebody published, with its own provenance. Never mixed with records."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from harness.cards.base import Fact

__all__ = ["BriefFact", "Claim", "ClaimFile"]

Confidence = Literal["brief", "paper", "repo", "secondary"]


class Claim(Fact):
    """One published number. ``unit`` stays as the source printed it; `fraction` converts."""

    id: str = Field(pattern=r"^r\d{3,}$")
    model: str
    variant: str
    init: Literal["pretrained", "scratch", "other"]
    dataset: str
    task: str | None
    split: str | None
    metric: str
    unit: str
    value: float
    std: float | None = Field(default=None, description="in the unit of the value; its kind is in the note or unknown")
    ci: tuple[float, float] | None = None
    per_class: dict[str, float] | None = None
    per_fold: dict[str, float] | None = None
    source: str
    confidence: Confidence
    note: str | None = None

    @property
    def fraction(self) -> float | None:
        """The value in 0–1 where its unit is a share, else None (counts and volumes have no such form)."""
        if self.unit == "percent":
            return self.value / 100
        return self.value if self.unit == "fraction" else None


class BriefFact(Fact):
    """A fact of the model page that the project starts from, such as an openness score."""

    model: str
    key: str
    value: float | str | tuple[int, ...] | None
    unit: str | None = None
    confidence: Confidence
    note: str | None = None


class ClaimFile(Fact):
    """The ledger of claims as one file. Rows nobody re-read in their source are kept apart and never displayed."""

    schema_version: Literal["1.0"]
    name: str
    how_to_read: dict[str, str | dict[str, str]]
    checks: tuple[str, ...]
    results: tuple[Claim, ...]
    brief_facts: tuple[BriefFact, ...]
    unverified: tuple[dict[str, object], ...] = Field(description="never displayed until someone reads the paper")
