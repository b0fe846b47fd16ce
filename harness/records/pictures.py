"""Slices of a scored case as pictures: the image in grey with the outlines of reference and prediction.

Which cases are shown (best, median, worst) is for the caller; `choose` names them from the scores.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from harness.errors import UserError
from harness.files import atomic_path, file_sha256
from harness.records.cases import CaseRow

__all__ = [
    "PREDICTION_COLOUR",
    "REFERENCE_COLOUR",
    "choose",
    "file_stem",
    "grey_window",
    "hash_pictures",
    "write_slices",
]

# Blue and orange stay apart for every kind of colour blindness and on grey; in print the outlines differ in width too.
REFERENCE_COLOUR = (86, 180, 233)
PREDICTION_COLOUR = (230, 159, 0)
_PIXEL_MM = 0.75
_LARGEST_SIDE = 420
_SMALLEST_SIDE = 120
_GAP = 4
_FOOT = 18
_SAFE = re.compile(r"[^A-Za-z0-9._-]+")


def choose(rows: Sequence[CaseRow], metric_id: str, *, higher_is_better: bool = True) -> dict[str, str]:
    """Name the best, the median and the worst case by the mean over classes of one metric.

    Returns
    -------
    dict of str to str
        ``best``, ``median`` and ``worst`` to case id; fewer where there are fewer cases. A tie goes to the first id.
    """
    values: dict[str, list[float]] = {}
    for row in rows:
        if row.metric_id == metric_id and row.value is not None:
            values.setdefault(row.case_id, []).append(row.value)
    sign = -1.0 if higher_is_better else 1.0
    order = sorted(values, key=lambda case: (sign * math.fsum(values[case]) / len(values[case]), case))
    places = {"best": 0, "worst": len(order) - 1, "median": len(order) // 2}
    chosen: dict[str, str] = {}
    for role, place in places.items():
        if order and order[place] not in chosen.values():
            chosen[role] = order[place]
    return chosen


def write_slices(
    folder: Path,
    name: str,
    image: NDArray[Any],
    reference: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    window: tuple[float, float] | None = None,
    axcodes: str = "RAS",
) -> Path:
    """Draw three orthogonal slices of one case, side by side, into one PNG file.

    Parameters
    ----------
    folder : Path
        Where the picture goes; made if need be.
    name : str
        Of the file, without ending; anything but letters, digits, ``.``, ``_`` and ``-`` becomes ``-``.
    image : ndarray of shape (a, b, c)
        One channel.
    reference, prediction : integer ndarray of shape (a, b, c)
        Label maps on the image's grid; 0 is background and every other value gets its own outline.
    spacing : sequence of 3 floats
        mm per array axis. Pixels are resampled to squares, so that bodies keep their proportions.
    window : tuple of 2 floats, optional
        Values shown as black and white; by default the 1st and 99th percentile of the image.
    axcodes : str
        Direction in which each array axis increases, so that heads point up and pictures are in radiological
        convention (the patient's right on the left).

    Returns
    -------
    Path
        The picture. Each slice goes through the largest cross-section of the reference along its axis (of the
        prediction where there is none, of the middle where there is neither).

    Raises
    ------
    UserError
        The shapes differ or are not those of a volume.
    """
    shapes = {np.shape(image), np.shape(reference), np.shape(prediction)}
    if len(shapes) != 1 or len(np.shape(image)) != 3:
        raise UserError(f"Pictures need three volumes of one shape; got {sorted(shapes)}.")
    low, high = window or grey_window(image)
    volumes = _upright([np.asarray(image), np.asarray(reference), np.asarray(prediction)], axcodes)
    steps = _steps(spacing, axcodes)
    panels = [_panel(volumes, axis, steps, (low, high)) for axis in (2, 1, 0)]  # axial, coronal, sagittal
    path = folder / f"{file_stem(name)}.png"
    with atomic_path(path) as temporary:
        # No metadata: a picture must be the same bytes twice, and say nothing about the machine.
        _beside(panels).save(temporary, format="PNG", optimize=True)
    return path


def hash_pictures(folder: Path) -> dict[str, str]:
    """Return file name to SHA-256 of every picture and volume in a folder, for `harness.records.build.assemble`."""
    if not folder.is_dir():
        return {}
    return {path.name: file_sha256(path) for path in sorted([*folder.glob("*.png"), *folder.glob("*.nii.gz")])}


def file_stem(name: str) -> str:
    """Make a name safe for a file: what is no letter, digit, ``.``, ``_`` or ``-`` becomes ``-``.

    >>> file_stem("best_../a b")
    'best_..-a-b'
    """
    return _SAFE.sub("-", name).strip(".-") or "case"


def grey_window(image: NDArray[Any]) -> tuple[float, float]:
    """Return the values to show as black and white: the 1st and 99th percentile of an image of shape (a, b, c)."""
    finite = np.asarray(image, np.float32)[:: max(1, image.shape[0] // 64)]
    low, high = (float(value) for value in np.percentile(finite, [1, 99]))
    return (low, high) if high > low else (low, low + 1.0)


def _order(axcodes: str) -> tuple[list[int], list[bool]]:
    """Return the array axis of each of left-right, back-front, foot-head, and whether it must be turned round."""
    places = [next(i for i, code in enumerate(axcodes) if code in pair) for pair in ("LR", "PA", "IS")]
    return places, [axcodes[place] != wanted for place, wanted in zip(places, "LPS", strict=True)]


def _upright(volumes: list[NDArray[Any]], axcodes: str) -> list[NDArray[Any]]:
    """Turn volumes so that their axes increase to the patient's left, back and head."""
    places, turned = _order(axcodes)
    flips = tuple(slice(None, None, -1) if turn else slice(None) for turn in turned)
    return [volume.transpose(places)[flips] for volume in volumes]


def _steps(spacing: Sequence[float], axcodes: str) -> tuple[float, float, float]:
    places, _ = _order(axcodes)
    x, y, z = (float(spacing[place]) for place in places)
    return x, y, z


def _slice_at(volumes: list[NDArray[Any]], axis: int) -> int:
    for labels in volumes[1:]:
        sizes = np.count_nonzero(labels, axis=tuple(other for other in range(3) if other != axis))
        if sizes.any():
            return int(sizes.argmax())
    return int(volumes[0].shape[axis] // 2)


def _panel(
    volumes: list[NDArray[Any]], axis: int, steps: tuple[float, float, float], window: tuple[float, float]
) -> Image.Image:
    """Draw one slice: rows go down, so the head is turned up and the front is up in axial slices."""
    index = _slice_at(volumes, axis)
    grey, reference, prediction = (np.take(volume, index, axis=axis).T for volume in volumes)
    across, down = [step for number, step in enumerate(steps) if number != axis]
    if axis != 2:
        grey, reference, prediction = grey[::-1], reference[::-1], prediction[::-1]
    width, height = _size(grey.shape[1] * across, grey.shape[0] * down)
    low, high = window
    levels = np.clip((grey.astype(np.float32) - low) / (high - low), 0, 1) * 255
    picture = Image.fromarray(levels.astype(np.uint8)).resize((width, height), Image.Resampling.BILINEAR)
    canvas = np.repeat(np.asarray(picture)[..., None], 3, axis=2)
    for labels, colour, thick in ((reference, REFERENCE_COLOUR, True), (prediction, PREDICTION_COLOUR, False)):
        canvas[_outlines(labels, width, height, thick)] = colour
    return Image.fromarray(canvas)


def _size(width_mm: float, height_mm: float) -> tuple[int, int]:
    """Return pixels of equal size in mm, within bounds for a page."""
    longest = max(width_mm, height_mm)
    scale = min(max(1 / _PIXEL_MM, _SMALLEST_SIDE / longest), _LARGEST_SIDE / longest)
    return max(1, round(width_mm * scale)), max(1, round(height_mm * scale))


def _outlines(labels: NDArray[Any], width: int, height: int, thick: bool) -> NDArray[np.bool_]:
    """Mark the inner border of every label, drawn at the size of the picture."""
    rows = (np.arange(height) * labels.shape[0] // height).astype(np.intp)
    columns = (np.arange(width) * labels.shape[1] // width).astype(np.intp)
    drawn = labels[rows][:, columns]
    inner = _border(drawn)
    if thick:
        inner |= _border(np.where(inner, 0, drawn))
    return inner


def _border(labels: NDArray[Any]) -> NDArray[np.bool_]:
    padded = np.pad(labels, 1)
    middle = padded[1:-1, 1:-1]
    differs = np.zeros(labels.shape, bool)
    for neighbour in (padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]):
        differs |= neighbour != middle
    return np.asarray(differs & (middle != 0), bool)


def _beside(panels: list[Image.Image]) -> Image.Image:
    """Put the panels in a row with a legend below, which says what is what without colour as well."""
    width = sum(panel.width for panel in panels) + _GAP * (len(panels) - 1)
    tallest = max(panel.height for panel in panels)
    whole = Image.new("RGB", (max(width, 300), tallest + _FOOT))
    left = 0
    for panel in panels:
        whole.paste(panel, (left, (tallest - panel.height) // 2))
        left += panel.width + _GAP
    pen = ImageDraw.Draw(whole)
    pen.text((4, tallest + 3), "reference (wide)", fill=REFERENCE_COLOUR)
    pen.text((118, tallest + 3), "prediction (narrow)", fill=PREDICTION_COLOUR)
    return whole
