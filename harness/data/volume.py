"""A volume in memory: its voxels, where they lie, and what its header said."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError
from harness.grid import Grid

__all__ = ["Volume", "as_labels"]


@dataclass(frozen=True)
class Volume:
    """One file as read.

    Attributes
    ----------
    data : ndarray of shape (a, b, c) or (a, b, c, t)
        Decoded voxels in native byte order with slope and intercept applied.
    grid : Grid
        Of the three axes of space, in RAS+ mm.
    path : Path
        Where it came from.
    dtype : numpy.dtype
        As stored in the file.
    header : mapping
        What the header says and which of its affines was used; plain values.
    raw_header : bytes, optional
        The header of a NIfTI file as stored, to give its exact geometry to labels written for it.
    """

    data: NDArray[Any]
    grid: Grid
    path: Path
    dtype: np.dtype[Any]
    header: Mapping[str, Any] = field(default_factory=dict)
    raw_header: bytes | None = field(default=None, repr=False)


def as_labels(volume: Volume) -> NDArray[Any]:
    """Return the voxels of a label file as integers.

    Returns
    -------
    ndarray of uint8 or uint16, or a wider integer type where the values need it
        Same shape as ``volume.data``.

    Raises
    ------
    UserError
        A value is not a whole number of 0 or more, so it cannot name a class.
    """
    data = volume.data
    if data.size and np.issubdtype(data.dtype, np.floating):
        if not np.isfinite(data).all():
            raise UserError(f"{volume.path} holds NaN or infinite voxels, which no label can have. Export it again.")
        rounded = np.rint(data)
        if not np.array_equal(rounded, data):
            wrong = data[rounded != data]
            raise UserError(
                f"{volume.path} holds {wrong.size} voxels that are not whole numbers (such as {wrong.flat[0]:g}), so "
                "it was probably resampled with interpolation. Export the labels again with nearest neighbour."
            )
    low, high = (data.min(), data.max()) if data.size else (0, 0)
    if low < 0:
        raise UserError(
            f"{volume.path} holds the label {low:g}; labels are 0 or more. Check that this is a label file."
        )
    if high > np.iinfo(np.int64).max:
        raise UserError(f"{volume.path} holds the value {high:g}, which is too large to be a label.")
    if np.issubdtype(data.dtype, np.unsignedinteger) and data.dtype.itemsize <= 2:
        return data
    return data.astype(np.min_scalar_type(int(high)))
