"""The data set card: layout as downloaded, channels, labels, plausible ranges, terms, splits."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, model_validator

from harness.cards.base import Card, Fact
from harness.cards.model import Evidence
from harness.files import sha256_hex

__all__ = [
    "Archive",
    "DatasetCard",
    "Kin",
    "Layout",
    "MadeFolds",
    "Ranges",
    "Relation",
    "Split",
    "Terms",
    "Tissue",
    "ids_sha256",
]


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


class Relation(Fact):
    """Where the centre of one label lies as seen from another; a case that breaks it was flipped or tampered with."""

    label: str
    lies: Literal["right_of", "left_of", "anterior_to", "posterior_to", "superior_to", "inferior_to", "level_with"] = (
        Field(description="of the patient; level_with: they share heights along the body")
    )
    other: str


class Tissue(Fact):
    """What image values a label must cover, in the first channel (HU for CT)."""

    label: str
    mean: tuple[float, float] = Field(description="lowest and highest plausible mean")
    below: float | None = Field(default=None, description="a value that at most the share `at_most` lies below")
    at_most: float = 0.01


class Archive(Fact):
    """One published archive by its hash: the official one, or one that must not be used."""

    name: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    usable: bool = True
    note: str | None = None


class Kin(Fact):
    """Another name under which the same images, or some of them, are known; model cards speak of data by such names."""

    name: str
    how: Literal["is", "is a part of", "holds", "may share cases with"]


class MadeFolds(Fact):
    """How folds are made from the ids at hand, for data that come without a split or whose ids are not public."""

    folds: int = Field(ge=2)
    seed: int = 0
    group: str | None = Field(
        default=None, description="regular expression; ids whose first group agrees stay together"
    )


class Split(Fact):
    """A named division of the cases. Ids are sorted and hashed, so that a split cannot change under its name.

    A split that is ``made`` names no ids: its folds follow from the ids that are found on disk. Neither does one by
    ``folders``: its parts are the cases that lie in them.
    """

    id: str
    source: str
    parts: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="train, val, test (and train_…, test_… of them), or fold0 … foldN"
    )
    sha256: dict[str, str] = Field(
        default_factory=dict, description="per part: SHA-256 of the sorted ids joined by line feeds"
    )
    made: MadeFolds | None = None
    folders: dict[str, tuple[str, ...]] = Field(
        default_factory=dict, description="part to the names of the folders whose cases it has"
    )
    note: str | None = None

    @property
    def follows_disk(self) -> bool:
        """Whether the ids follow from what is found on disk instead of being named here."""
        return self.made is not None or bool(self.folders)

    @model_validator(mode="after")
    def _named_or_made(self) -> Split:
        if bool(self.parts) + (self.made is not None) + bool(self.folders) != 1:
            raise ValueError(f"split {self.id!r} needs one of parts, made and folders, and not two")
        return self

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
    remap: dict[int, int] = Field(
        default_factory=dict, description="stored label value to value here; every stored value is listed, or none is"
    )
    layout: Layout
    num_cases: int | None = Field(default=None, gt=0, description="labelled cases when complete")
    ranges: Ranges = Ranges()
    evidence: tuple[Evidence, ...] = Field(default=(), description="marks that follow every result on these data")
    bundled: bool = Field(default=False, description="whether the volumes lie beside this card")
    splits: tuple[Split, ...] = ()
    metric_convention: str = "adopted"
    terms: Terms
    archives: tuple[Archive, ...] = ()
    relations: tuple[Relation, ...] = ()
    tissues: tuple[Tissue, ...] = ()
    present_in: dict[str, int] = Field(
        default_factory=dict, description="in how many cases of the whole set a label is"
    )
    slices: dict[str, int] = Field(default_factory=dict, description="case to voxels along its third stored axis")
    suspects: dict[str, str] = Field(default_factory=dict, description="case to what is known to be wrong with it")
    label_hints: dict[int, str] = Field(
        default_factory=dict, description="stored value that is no label here to its cause"
    )
    known_faults: tuple[str, ...] = ()
    processing: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    shares_images_with: tuple[Kin, ...] = Field(
        default=(), description="so that what weights have seen is found whatever the data are called"
    )
    citation: str

    @model_validator(mode="after")
    def _names_are_labels(self) -> DatasetCard:
        names = {name for rule in self.relations for name in (rule.label, rule.other)}
        names |= {rule.label for rule in self.tissues} | set(self.present_in)
        unknown = sorted(names - set(self.labels.values()))
        values = {value for part in self.regions.values() for value in part} | set(self.remap.values())
        if unknown or values - set(self.labels):
            raise ValueError(
                f"relations, tissues, present_in, regions and remap speak of labels that the card has not: "
                f"{unknown or sorted(values - set(self.labels))}"
            )
        return self

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
