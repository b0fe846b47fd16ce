"""What a data set card knows about its cases beyond numbers of voxels: anatomy, tissues, known faults.

These rules find what no header shows: a flipped label, a moved organ, swapped numbers, another set under the same name.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard, Relation, Tissue
from harness.data.finding import Finding
from harness.grid import Grid

__all__ = ["against_anatomy", "against_known_faults", "against_tissues"]

_FLIPPED = "Image or label was flipped or moved without its affine, or the label numbers are swapped; get the original."
_DIRECTIONS = {
    "right_of": (0, 1),
    "left_of": (0, -1),
    "anterior_to": (1, 1),
    "posterior_to": (1, -1),
    "superior_to": (2, 1),
    "inferior_to": (2, -1),
}  # RAS+: which coordinate, and whether it is larger or smaller


def against_anatomy(
    card: DatasetCard, case: str, labels: NDArray[Any], grid: Grid, histogram: Mapping[int, int]
) -> Iterator[Finding]:
    """Yield every relation of the card that the case breaks, and every pair right_x and left_x on the wrong sides."""
    value_of = {name: value for value, name in card.labels.items()}
    sides = [
        Relation(label=name, lies="right_of", other="left_" + name.removeprefix("right_"))
        for name in value_of
        if name.startswith("right_") and "left_" + name.removeprefix("right_") in value_of
    ]
    places: dict[str, NDArray[np.float64]] = {}
    for rule in [*sides, *card.relations]:
        if not all(histogram.get(value_of[name]) for name in (rule.label, rule.other)):
            continue  # what is not there cannot lie wrong
        for name in (rule.label, rule.other):
            if name not in places:
                places[name] = _world(np.argwhere(labels == value_of[name]), grid)
        first, second = places[rule.label], places[rule.other]
        if rule.lies == "level_with":
            low, high = (
                max(first[:, 2].min(), second[:, 2].min()),
                min(first[:, 2].max(), second[:, 2].max()),
            )
            wrong, found = low > high, f"a gap of {low - high:.0f} mm between them"
        else:
            axis, sign = _DIRECTIONS[rule.lies]
            ahead = sign * float(first[:, axis].mean() - second[:, axis].mean())
            wrong, found = ahead <= 0, f"it {-ahead:.0f} mm the other way"
        if wrong:
            expected = f"it {rule.lies.replace('_', ' ')} {rule.other}"
            yield Finding(case, "error", f"place of {rule.label}", expected, found, _FLIPPED)


def against_tissues(
    rules: tuple[Tissue, ...], card: DatasetCard, case: str, image: NDArray[Any], labels: NDArray[Any]
) -> Iterator[Finding]:
    """Yield every label that covers values it cannot cover; ``image`` is the first channel."""
    value_of = {name: value for value, name in card.labels.items()}
    for rule in rules:
        inside = image[labels == value_of[rule.label]]
        if not inside.size:
            continue
        mean, mend = float(inside.mean(dtype=np.float64)), "The label does not lie on its organ; get the original."
        if not rule.mean[0] <= mean <= rule.mean[1]:
            expected = f"a mean of {rule.mean[0]:g} to {rule.mean[1]:g}"
            yield Finding(case, "error", f"values inside {rule.label}", expected, f"{mean:.0f}", mend)
        if rule.below is not None:
            share = float((inside < rule.below).mean())
            if share > rule.at_most:
                expected = f"at most {100 * rule.at_most:g} % below {rule.below:g}"
                yield Finding(case, "error", f"values inside {rule.label}", expected, f"{100 * share:.1f} %", mend)


def against_known_faults(card: DatasetCard, case: str, grid: Grid) -> Iterator[Finding]:
    """Yield what the card says of this very case: suspect, or of another size than the official one."""
    if case in card.suspects:
        mend = "Leave it out, or know what you do."
        yield Finding(case, "warning", "case", "nothing known against it", card.suspects[case], mend)
    slices = card.slices.get(case)
    if slices is not None and grid.shape[2] != slices:
        mend = "It is another scan under this id, or was resampled or cropped; get the original."
        yield Finding(case, "warning", "number of slices", str(slices), str(grid.shape[2]), mend)
    bare = np.abs(grid.matrix[:3, :3])
    if np.array_equal(bare, np.eye(3)) and not grid.matrix[:3, 3].any():
        mend = "The header looks as if it was never filled in; distances in mm cannot be trusted."
        yield Finding(case, "warning", "affine", "a spacing and an origin", "the identity (signs aside)", mend)


def _world(voxels: NDArray[np.intp], grid: Grid) -> NDArray[np.float64]:
    matrix = grid.matrix
    return np.asarray(voxels @ matrix[:3, :3].T + matrix[:3, 3], dtype=np.float64)
