"""What a metric id means: one card per metric, with a version and a hash. The cards lie in `catalogue.py`."""

from __future__ import annotations

import dataclasses
import math
import re
from dataclasses import dataclass
from typing import Any, Literal, get_args

from harness.errors import UserError, unknown_name
from harness.files import canonical_json, sha256_hex

__all__ = ["Averaging", "Definition", "EmptyRule", "Grid", "Needs", "Unit", "definition", "from_record_id", "known"]

Grid = Literal["native", "resampled", "patch"]
Unit = Literal["fraction", "mm", "count", "ml", "voxels"]
Averaging = Literal["class_then_case", "case_then_class", "pooled"]
Needs = Literal["labels", "probabilities", "case_scores"]


@dataclass(frozen=True, kw_only=True)
class EmptyRule:
    """The raw value of a metric where masks are empty, before any policy.

    Attributes
    ----------
    both : str
        Neither prediction nor reference has a voxel: ``"nan"``, or a number as text.
    one : str
        Exactly one of them is empty: ``"0"``, ``"inf"``, ``"nan"`` or ``"as formula"``.
    """

    both: str
    one: str


@dataclass(frozen=True, kw_only=True)
class Definition:
    """One metric, completely said. Two scores may share a column only if their definitions have the same `sha256`.

    Attributes
    ----------
    id : str
        The short id, such as ``"hd95"`` or ``"nsd@2"``.
    stem : str
        The id as records write it, without grid and version, such as ``"dice.hard"``.
    version : int
        Raised when the formula changes; never reused.
    grid : {"native", "resampled", "patch"}
        The voxel grid that the masks lived on when they were compared.
    unit : {"fraction", "mm", "count", "ml", "voxels"}
        Unit of the value. A fraction is never a percentage.
    higher_is_better : bool
        Direction of improvement.
    formula : str
        The value from counts, distances or sums.
    surface : str
        Which elements are the surface; ``"none"`` where no surface is involved.
    percentile : str
        The percentile rule; ``"none"`` where there is none.
    empty_rule : EmptyRule
        Raw values for empty masks.
    threshold : str
        How probabilities became masks.
    averaging : {"class_then_case", "case_then_class", "pooled"}
        How the metric is averaged unless the caller says otherwise.
    tolerance_mm : float or None
        The tolerance of an NSD.
    needs : {"labels", "probabilities", "case_scores"}
        What it is computed from: label maps (`harness.scoring.score`), sums over probabilities
        (`harness.scoring.soft`), or one score and one label per case.
    source : str
        Who defined it so, and the tools that agree.
    """

    id: str
    stem: str
    version: int = 1
    grid: Grid = "native"
    unit: Unit
    higher_is_better: bool
    formula: str
    surface: str = "none"
    percentile: str = "none"
    empty_rule: EmptyRule
    threshold: str = "argmax or 0.5, applied before scoring"
    averaging: Averaging = "class_then_case"
    tolerance_mm: float | None = None
    needs: Needs = "labels"
    source: str

    @property
    def record_id(self) -> str:
        """The id in records, such as ``"dice.hard.native.v1"``."""
        return f"{self.stem}.{self.grid}.v{self.version}"

    def card(self) -> dict[str, Any]:
        """Return the definition card: plain values, ready for JSON."""
        return {"record_id": self.record_id, **dataclasses.asdict(self)}

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of the card, 64 hexadecimal digits."""
        return sha256_hex(canonical_json(self.card()))


_TAKES_TOLERANCE = re.compile(r"^(?P<family>[a-z0-9_]+)@(?P<tolerance>.*)$")


def definition(metric_id: str, grid: Grid = "native") -> Definition:
    """Look up what a metric id means.

    Parameters
    ----------
    metric_id : str
        A short id. The NSD family takes its tolerance in mm after ``@``.
    grid : {"native", "resampled", "patch"}
        The voxel grid the score was taken on; part of the record id and of the hash.

    Raises
    ------
    UserError
        Nobody knows the id (with the nearest known one), a tolerance is missing, superfluous or not positive, or
        the grid is none of the three.

    Examples
    --------
    >>> definition("dice").record_id
    'dice.hard.native.v1'
    >>> definition("nsd@2.0", grid="resampled").record_id
    'nsd@2.resampled.v1'
    """
    from harness.scoring.catalogue import CARDS, WITH_TOLERANCE

    if grid not in get_args(Grid):
        raise unknown_name("grid", str(grid), get_args(Grid))
    if not isinstance(metric_id, str):
        raise UserError(f"A metric id is a text such as 'dice'; {metric_id!r} is {type(metric_id).__name__}.")
    match = _TAKES_TOLERANCE.match(metric_id)
    family = match["family"] if match else metric_id
    if family in WITH_TOLERANCE:
        found = _with_tolerance(WITH_TOLERANCE[family], metric_id, match["tolerance"] if match else "")
    elif match and family in CARDS:
        raise UserError(f"Metric {metric_id!r}: {family!r} takes no tolerance. Ask for {family!r}.")
    elif metric_id in CARDS:
        found = CARDS[metric_id]
    else:
        raise unknown_name("metric", metric_id, known())
    return dataclasses.replace(found, grid=grid)


def _with_tolerance(family: Definition, metric_id: str, text: str) -> Definition:
    try:
        tolerance = float(text)
    except ValueError:
        tolerance = math.nan
    if not (math.isfinite(tolerance) and tolerance > 0):
        raise UserError(
            f"Metric {metric_id!r}: the tolerance after '@' is {text!r}, but an NSD needs a positive number of "
            f"millimetres, because its value means nothing without one. Write for example '{family.id}@2'."
        )
    # repr is the shortest text that reads back as the same float, so nsd@2, nsd@2.0 and nsd@2e0 are one metric.
    suffix = "@" + repr(tolerance).removesuffix(".0")
    return dataclasses.replace(family, id=family.id + suffix, stem=family.stem + suffix, tolerance_mm=tolerance)


def known() -> list[str]:
    """Return every short id, sorted; ids with a tolerance appear as ``nsd@<mm>``."""
    from harness.scoring.catalogue import CARDS, WITH_TOLERANCE

    return sorted([*CARDS, *(f"{family}@<mm>" for family in WITH_TOLERANCE)])


_RECORD_ID = re.compile(r"^(?P<stem>.+)\.(?P<grid>[a-z]+)\.v(?P<version>[0-9]+)$")


def from_record_id(record_id: str) -> Definition:
    """Return the definition that a record names, refusing versions and grids that this release does not know.

    Raises
    ------
    UserError
        The text is no record id, or its stem, grid or version is unknown.

    Examples
    --------
    >>> from_record_id("nsd@2.native.v1").id
    'nsd@2'
    """
    from harness.scoring.catalogue import CARDS, WITH_TOLERANCE

    match = _RECORD_ID.match(record_id)
    stems = {card.stem: card.id for card in [*CARDS.values(), *WITH_TOLERANCE.values()]}
    known_ids = [f"{stem}.{grid}.v1" for stem in stems for grid in get_args(Grid)]
    if match is None or match["grid"] not in get_args(Grid):
        raise unknown_name("metric record id", record_id, known_ids)
    stem, separator, tolerance = match["stem"].partition("@")
    if stem not in stems:
        raise unknown_name("metric record id", record_id, known_ids)
    grid: Grid = match["grid"]  # type: ignore[assignment]
    found = definition(stems[stem] + separator + tolerance, grid)
    if found.record_id != record_id:
        raise UserError(
            f"The record names metric {record_id!r}, but this release computes {found.record_id!r}. "
            "They are different definitions; score the predictions again or use the release that wrote the record."
        )
    return found
