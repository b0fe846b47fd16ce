"""The data set card: layout as downloaded, channels, labels, plausible ranges, terms, splits."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.cards.base import Card, Fact
from harness.cards.model import Evidence
from harness.files import sha256_hex

__all__ = ["DatasetCard", "Layout", "Ranges", "Split", "Terms", "ids_sha256"]


class Layout(Fact):
    """How cases lie on disk. ``kind`` names a reader in `harness.data.layouts`; ``options`` are its arguments."""

    kind: str
    options: dict[str, Any] = Field(default_factory=dict)
    verified: bool = Field(default=True, description="false: written from descriptions, not tried on the real files")


class Terms(Fact):
    """Under which terms the data may be used, and how to get them."""

    licence: str
    attribution: str
    how_to_get: str
    redistribution: bool
    note: str | None = None


class Ranges(Fact):
    """Plausibility bounds; outside of them a case is reported."""

    spacing: tuple[tuple[float, float], tuple[float, float], tuple[float, float]] | None = Field(
        default=None, description="mm, (lowest, highest) per axis of the stored array"
    )
    shape: tuple[tuple[int, int], tuple[int, int], tuple[int, int]] | None = None
    values: tuple[float, float] | None = Field(default=None, description="image values, HU for CT")


class Split(Fact):
    """A named division of the cases. Ids are sorted and hashed, so that a split cannot change under its name."""

    id: str
    source: str
    parts: dict[str, tuple[str, ...]] = Field(description="train, val, test, or fold0 … foldN")
    sha256: dict[str, str] = Field(description="per part: SHA-256 of the sorted ids joined by line feeds")
    note: str | None = None

    @model_validator(mode="after")
    def _hashes_agree(self) -> Split:
        for part, ids in self.parts.items():
            if self.sha256.get(part) != ids_sha256(ids):
                raise ValueError(
                    f"split {self.id!r}, part {part!r}: the ids hash to {ids_sha256(ids)}, "
                    f"the file says {self.sha256.get(part)}"
                )
        seen: dict[str, str] = {}
        for part, ids in self.parts.items():
            for case in ids:
                if case in seen:
                    raise ValueError(f"split {self.id!r}: case {case!r} is in {seen[case]!r} and in {part!r}")
                seen[case] = part
        return self


class DatasetCard(Card):
    """One data set, as people really have it."""

    id: str = Field(pattern=r"^[a-z0-9_]+$")
    version: str
    task: Literal["segmentation", "classification", "unlabelled"]
    modality: tuple[str, ...] = Field(min_length=1)
    body: str
    channels: tuple[str, ...] = Field(min_length=1, description="ordered names of the image channels")
    labels: dict[int, str] = Field(default_factory=dict, description="value to name, background included")
    regions: dict[str, tuple[int, ...]] = Field(
        default_factory=dict, description="overlapping targets made of labels; empty: every label is a class"
    )
    layout: Layout
    num_cases: int | None = Field(default=None, gt=0, description="labelled cases when complete")
    ranges: Ranges = Ranges()
    evidence: tuple[Evidence, ...] = Field(default=(), description="marks that follow every result on these data")
    bundled: bool = Field(default=False, description="whether the volumes lie beside this card")
    splits: tuple[Split, ...] = ()
    metric_convention: str = "adopted"
    terms: Terms
    known_faults: tuple[str, ...] = ()
    processing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    citation: str

    @property
    def classes(self) -> dict[str, tuple[int, ...]]:
        """Name to label values of everything that is scored: the regions, or each label but the background."""
        if self.regions:
            return dict(self.regions)
        return {name: (value,) for value, name in sorted(self.labels.items()) if value != 0}


def ids_sha256(ids: tuple[str, ...]) -> str:
    """Return the SHA-256 of the sorted ids joined by line feeds, without one at the end.

    >>> ids_sha256(("b", "a")) == ids_sha256(("a", "b"))
    True
    """
    return sha256_hex("\n".join(sorted(ids)))
