"""One case opened once: what is in it (`CaseFacts`) and what is wrong with it (`Finding`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.finding import Finding
from harness.data.fingerprint import file_hash, join_hashes
from harness.data.reading import Volume, read
from harness.data.reference import Reference, read_reference
from harness.data.rules import against_anatomy, against_known_faults, against_tissues
from harness.errors import UserError
from harness.grid import Grid

__all__ = ["CaseFacts", "Look", "inspect_case"]

SAME_AFFINE = 1e-3  # entries of two affines may differ by this much; files round them differently
_BLOCK = 1 << 22
# Gets to see a case that was opened: its first image, and its labels where it has some.
Look = Callable[[Case, Volume, NDArray[Any] | None], None]


@dataclass(frozen=True)
class CaseFacts:
    """What one case holds.

    Attributes
    ----------
    shape, spacing : tuple
        Voxels and mm per axis of the stored image.
    axcodes : str
        Direction of the stored axes, such as ``"LPS"``.
    image_sha256, label_sha256 : str
        Hashes of the decoded content (`harness.data.fingerprint`); None without a label.
    label_histogram : dict of int to int
        Voxels per label value; empty without a label.
    ranges : tuple of (float, float)
        Lowest and highest value per channel.
    not_annotated : tuple of int
        Label values that nobody drew in this case: not absent, to be ignored.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    axcodes: str
    image_sha256: str
    label_sha256: str | None
    label_histogram: dict[int, int]
    ranges: tuple[tuple[float, float], ...]
    not_annotated: tuple[int, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; the label values become text, as JSON has it."""
        return {**asdict(self), "label_histogram": {str(k): v for k, v in self.label_histogram.items()}}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> CaseFacts:
        """Build the facts that `to_json` described."""
        return cls(
            shape=_triple(content["shape"]),
            spacing=_triple(content["spacing"]),
            axcodes=content["axcodes"],
            image_sha256=content["image_sha256"],
            label_sha256=content["label_sha256"],
            label_histogram={int(value): count for value, count in content["label_histogram"].items()},
            ranges=tuple((low, high) for low, high in content["ranges"]),
            not_annotated=tuple(content["not_annotated"]),
        )


def inspect_case(
    card: DatasetCard, case: Case, look: Look | None = None
) -> tuple[CaseFacts | None, tuple[Finding, ...]]:
    """Open each file of a case once and compare it with the card.

    Parameters
    ----------
    card : DatasetCard
        What should be there.
    case : Case
        The files.
    look : callable, optional
        Is shown the first image and the labels while they are in memory, if every file could be read.

    Returns
    -------
    CaseFacts or None
        None where a file could not be read, so that its content is unknown.
    tuple of Finding
        Everything wrong with the case.
    """
    findings: list[Finding] = []
    grid: Grid | None = None
    first: Volume | None = None
    hashes: list[str] = []
    ranges: list[tuple[float, float]] = []
    for path in case.images:
        try:
            volume = read(path)
        except UserError as error:
            findings.append(_unreadable(case, "image", error))
            continue
        hashes.append(file_hash(volume))
        findings += _geometry(card, case, volume) if grid is None else _same_grid(case, volume.grid, grid, path.name)
        grid = grid or volume.grid
        channels = [volume.data] if volume.data.ndim == 3 else list(np.moveaxis(volume.data, 3, 0))
        if first is None and (card.tissues or look is not None):
            first = volume
        for channel in channels:
            low, high, strange = _range(channel)
            ranges.append((low, high))
            findings += _values(card, case, volume, low, high, strange)
    if len(hashes) == len(case.images) and len(ranges) != len(card.channels):
        mend = "Check that these are the files of this data set."
        findings.append(
            Finding(case.id, "error", "number of channels", str(len(card.channels)), str(len(ranges)), mend)
        )

    reference, histogram, wrong = _inspect_reference(card, case, grid, first)
    findings += wrong
    if len(hashes) < len(case.images) or grid is None or (case.label is not None and reference is None):
        return None, tuple(findings)
    if look is not None and first is not None:
        look(case, first, None if reference is None else reference.labels)
    facts = CaseFacts(
        shape=grid.shape,
        spacing=grid.spacing,
        axcodes=grid.axcodes,
        image_sha256=join_hashes(hashes),
        label_sha256=None if reference is None else reference.sha256,
        label_histogram=histogram,
        ranges=tuple(ranges),
        not_annotated=() if reference is None else tuple(sorted(reference.not_annotated)),
    )
    return facts, tuple(findings)


def _inspect_reference(
    card: DatasetCard, case: Case, grid: Grid | None, image: Volume | None
) -> tuple[Reference | None, dict[int, int], list[Finding]]:
    """Read the labels of a case once; ``grid`` and ``image`` are those of its first image, where that could be read."""
    if case.label is None:
        mend = "Complete the data set, or leave the case out of the folder and of the split."
        missing = Finding(case.id, "error", "label", "a label file", "none", mend)
        return None, {}, [] if card.task == "unlabelled" else [missing]
    try:
        reference = read_reference(case, hashed=True, keep_unknown=True)
    except UserError as error:
        return None, {}, [_unreadable(case, "label", error)]
    histogram = _histogram(reference.labels)
    findings = list(_labels(card, case, histogram, reference.unknown or {}))
    findings += against_anatomy(card, case.id, reference.labels, reference.grid, histogram)
    if grid is not None:
        findings += _same_grid(case, reference.grid, grid, case.label.name)
    if image is not None and image.grid.shape == reference.labels.shape:
        channel = image.data if image.data.ndim == 3 else image.data[..., 0]
        findings += against_tissues(card.tissues, card, case.id, channel, reference.labels)
    return reference, histogram, findings


def _unreadable(case: Case, what: str, error: UserError) -> Finding:
    return Finding(case.id, "error", what, "a readable file", "one that is not", str(error))


def _geometry(card: DatasetCard, case: Case, volume: Volume) -> Iterator[Finding]:
    """Yield what is odd about the grid of the first image; ranges are for plausibility, so they only warn."""
    yield from against_known_faults(card, case.id, volume.grid)
    for name, values, bounds in (
        ("spacing in mm", volume.grid.spacing, card.ranges.spacing),
        ("shape", volume.grid.shape, card.ranges.shape),
    ):
        if bounds is not None and any(not a <= v <= b for v, (a, b) in zip(values, bounds, strict=True)):
            found = " x ".join(f"{v:g}" for v in values)
            expected = " x ".join(f"{a:g}..{b:g}" for a, b in bounds)
            yield Finding(case.id, "warning", name, expected, found, "Check that this is the scan it should be.")
    if volume.header.get("affine_from") == "spacing":
        mend = "Left and right are a guess (as nibabel has it: LAS); get the file with its orientation."
        yield Finding(case.id, "warning", "orientation", "a qform or an sform", "neither", mend)
    apart = volume.header.get("qform_sform_apart_mm")
    if apart is not None and apart > 0.1 * min(volume.grid.spacing):
        mend = "The sform is used here; other programs use the qform. Make them agree."
        yield Finding(case.id, "warning", "qform and sform", "one place for each voxel", f"{apart:.3g} mm apart", mend)


def _same_grid(case: Case, other: Grid, grid: Grid, name: str) -> Iterator[Finding]:
    mend = "Nothing is resampled or copied silently: export the files of the case on one grid."
    if other.shape != grid.shape:
        yield Finding(case.id, "error", f"shape of {name}", f"{grid.shape}, as the first image", f"{other.shape}", mend)
    elif not np.allclose(other.matrix, grid.matrix, rtol=0, atol=SAME_AFFINE):
        found = f"voxels up to {other.difference(grid):.3g} mm away, axes {other.axcodes}"
        expected = f"the grid of the first image, axes {grid.axcodes}"
        yield Finding(case.id, "error", f"affine of {name}", expected, found, mend)


def _values(card: DatasetCard, case: Case, volume: Volume, low: float, high: float, strange: int) -> Iterator[Finding]:
    name = volume.path.name
    if strange:
        mend = "Find out where they come from; they would turn the whole network output into NaN."
        yield Finding(case.id, "error", f"voxels of {name}", "finite numbers", f"{strange} NaN or infinite", mend)
    if low == high:
        mend = "The image is empty; copy or convert it again."
        yield Finding(case.id, "error", f"values of {name}", "an image", f"the one value {low:g}", mend)
    bounds = card.ranges.values
    if bounds is not None and (low < bounds[0] or high > bounds[1]):
        mend = "Check the unit and the slope in the header."
        yield Finding(
            case.id, "warning", f"values of {name}", f"{bounds[0]:g} to {bounds[1]:g}", f"{low:g} to {high:g}", mend
        )


def _labels(
    card: DatasetCard, case: Case, histogram: Mapping[int, int], unlisted: Mapping[int, int]
) -> Iterator[Finding]:
    """Yield label values that are not the card's, with the cause where the card knows it."""
    strange = {**{value: count for value, count in histogram.items() if value not in card.labels}, **unlisted}
    if strange:
        found = ", ".join(f"{value} ({strange[value]} voxels)" for value in sorted(strange)[:8])
        hints = [card.label_hints[value] for value in sorted(strange) if value in card.label_hints]
        mend = " ".join(hints) or "Check that these are the labels of this data set, numbered as the card says."
        yield Finding(case.id, "error", "label values", _spans(sorted(card.remap or card.labels)), found, mend)
    if not any(count for value, count in histogram.items() if value != 0):
        mend = "Check that this is right: the case teaches and tests nothing but background."
        yield Finding(case.id, "warning", "label", "at least one labelled voxel", "background only", mend)


def _range(data: NDArray[Any]) -> tuple[float, float, int]:
    """Return the lowest and highest finite value and the number of voxels that are NaN or infinite."""
    low, high = float(data.min()), float(data.max())
    if np.isfinite(low) and np.isfinite(high):
        return low, high, 0
    finite = np.isfinite(data)
    strange = int(data.size - finite.sum())
    if strange == data.size:
        return 0.0, 0.0, strange
    return float(data[finite].min()), float(data[finite].max()), strange


def _histogram(labels: NDArray[Any]) -> dict[int, int]:
    """Count the voxels of each value, a block at a time, because bincount widens what it counts to 64 bits."""
    flat = labels.ravel(order="K")
    if flat.dtype.itemsize > 2:
        values, counts = np.unique(flat, return_counts=True)
        return {int(v): int(c) for v, c in zip(values, counts, strict=True)}
    total = np.zeros(int(np.iinfo(flat.dtype).max) + 1, dtype=np.int64)
    for start in range(0, flat.size, _BLOCK):
        counts = np.bincount(flat[start : start + _BLOCK])
        total[: len(counts)] += counts
    return {int(value): int(total[value]) for value in np.flatnonzero(total)}


def _triple(values: Sequence[Any]) -> tuple[Any, Any, Any]:
    first, second, third = values
    return first, second, third


def _spans(values: Sequence[int]) -> str:
    """Write 0, 1, 2, 3, 7 as ``0..3, 7``."""
    spans: list[list[int]] = []
    for value in values:
        if spans and value == spans[-1][1] + 1:
            spans[-1][1] = value
        else:
            spans.append([value, value])
    return ", ".join(str(a) if a == b else f"{a}..{b}" for a, b in spans) or "none"
