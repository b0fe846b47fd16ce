"""Small volumes of a scored case for a viewer: the image in grey levels, the reference and the prediction.

They lie beside the pictures, in ``slices/``, under the same rules: only where the terms of the data allow images to be
passed on, named in the record with their hashes, withheld at will.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.data.nifti_writing import write_volume
from harness.errors import UserError
from harness.grid import Grid
from harness.records.pictures import file_stem, grey_window

__all__ = ["PARTS", "find_volumes", "write_volumes"]

PARTS: Final = ("image", "reference", "prediction")
_MOST_VOXELS: Final = 1 << 19  # about 80 x 80 x 80: enough to see an organ, a third of a megabyte when compressed
_MARGIN_MM: Final = 30.0


def write_volumes(
    folder: Path,
    name: str,
    image: NDArray[Any],
    reference: NDArray[Any],
    prediction: NDArray[Any],
    grid: Grid,
    window: tuple[float, float] | None = None,
) -> list[Path]:
    """Write one case as three NIfTI files, cropped to what was drawn or predicted and thinned out to a small size.

    Parameters
    ----------
    folder : Path
        Where the files go; made if need be.
    name : str
        Of the case, made safe as the names of pictures are. The files are ``<name>.image.nii.gz``,
        ``<name>.reference.nii.gz`` and ``<name>.prediction.nii.gz``.
    image : ndarray of shape grid.shape
        One channel.
    reference, prediction : integer ndarray of shape grid.shape
        Label maps; 0 is background.
    grid : Grid
        Where the voxels lie.
    window : tuple of 2 floats, optional
        Values stored as 0 and 255; by default the 1st and 99th percentile of the image.

    Returns
    -------
    list of Path
        The files, in the order of `PARTS`. Where voxels were left out, every n-th along an axis stays, so that no
        label is made up; the grid in the files says which.

    Raises
    ------
    UserError
        The shapes differ.
    """
    if {np.shape(image), np.shape(reference), np.shape(prediction)} != {grid.shape}:
        shapes = [np.shape(volume) for volume in (image, reference, prediction)]
        raise UserError(f"A viewer needs three volumes of one shape {grid.shape}; got {shapes}.")
    box = _box((np.asarray(reference) != 0) | (np.asarray(prediction) != 0), grid.spacing)
    shape = tuple(part.stop - part.start for part in box)
    steps = _steps(shape, grid.spacing)
    kept = tuple(slice(part.start, part.stop, step) for part, step in zip(box, steps, strict=True))
    low, high = window or grey_window(np.asarray(image))
    levels = np.clip((np.asarray(image)[kept].astype(np.float32) - low) / (high - low), 0, 1) * 255
    small = _part_of(grid, box, steps)
    paths = []
    for part, data in zip(PARTS, (levels.round(), reference, prediction), strict=True):
        stored = data if part == "image" else np.asarray(data)[kept]
        path = folder / f"{file_stem(name)}.{part}.nii.gz"
        kind = np.uint8 if stored.max(initial=0) <= np.iinfo(np.uint8).max else np.uint16
        path.parent.mkdir(parents=True, exist_ok=True)
        write_volume(path, np.nan_to_num(stored).astype(kind), small)
        paths.append(path)
    return paths


def find_volumes(names: Sequence[str]) -> dict[str, tuple[str, str, str]]:
    """Return case name to its three file names, for every case of which all three are among ``names``.

    >>> find_volumes(["a.image.nii.gz", "a.reference.nii.gz", "a.prediction.nii.gz", "b.image.nii.gz", "a.png"])
    {'a': ('a.image.nii.gz', 'a.reference.nii.gz', 'a.prediction.nii.gz')}
    """
    there = set(names)
    found = {}
    for name in sorted(there):
        stem = name.removesuffix(".image.nii.gz")
        wanted = (f"{stem}.image.nii.gz", f"{stem}.reference.nii.gz", f"{stem}.prediction.nii.gz")
        if stem != name and there.issuperset(wanted):
            found[stem] = wanted
    return found


def _box(drawn: NDArray[np.bool_], spacing: Sequence[float]) -> tuple[slice, slice, slice]:
    """Return the box of everything drawn with a margin around it; all of the volume where nothing is."""
    ranges = []
    for axis in range(3):
        others = tuple(other for other in range(3) if other != axis)
        places = np.flatnonzero(drawn.any(axis=others))
        length, margin = drawn.shape[axis], round(_MARGIN_MM / spacing[axis])
        low, high = (int(places[0]), int(places[-1])) if places.size else (0, length - 1)
        ranges.append(slice(max(0, low - margin), min(length, high + 1 + margin)))
    return ranges[0], ranges[1], ranges[2]


def _steps(shape: Sequence[int], spacing: Sequence[float]) -> tuple[int, int, int]:
    """Return which n-th voxel stays along each axis, coarsening where voxels are closest until there are few."""
    steps = [1, 1, 1]
    while np.prod([-(-length // step) for length, step in zip(shape, steps, strict=True)]) > _MOST_VOXELS:
        finest = min((a for a in range(3) if shape[a] > steps[a]), key=lambda a: spacing[a] * steps[a])
        steps[finest] += 1
    return steps[0], steps[1], steps[2]


def _part_of(grid: Grid, box: Sequence[slice], steps: Sequence[int]) -> Grid:
    matrix = grid.matrix
    matrix[:3, 3] += matrix[:3, :3] @ np.array([part.start for part in box], np.float64)
    matrix[:3, :3] *= np.array(steps, np.float64)
    lengths = [-(-(part.stop - part.start) // step) for part, step in zip(box, steps, strict=True)]
    return Grid((lengths[0], lengths[1], lengths[2]), tuple(tuple(float(value) for value in row) for row in matrix))
