"""What one file holds, for a person who wonders whether it is read as it should be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.reading import read
from harness.grid import GridSpec

__all__ = ["describe"]

_MOST_LABELS = 256  # integer data with more different values are a scan, not labels
_LOOK = 100_000  # so many voxels settle for most scans of floats that they are no labels, before all are sorted


def describe(path: Path) -> dict[str, Any]:
    """Read a volume and tell what is in it.

    Parameters
    ----------
    path : Path
        Any file or folder that `harness.data.reading.read` knows.

    Returns
    -------
    dict
        Plain values for JSON: ``path``, ``shape``, ``dtype`` (as stored), ``spacing`` (mm), ``orientation`` (axis
        codes), ``affine`` (indices to RAS+ mm), ``canonical_shape`` (after reordering to RAS), ``min``, ``max`` and
        ``mean`` of the finite voxels (None where there is none), ``non_finite`` (how many are not), ``label_counts``
        (voxels per value of whole-numbered data with at most 256 values, else None), ``qform_code`` and ``sform_code``
        (None outside NIfTI), and ``header`` with what else the format says.

    Raises
    ------
    UserError
        The file cannot be read correctly.
    """
    volume = read(path)
    data = volume.data
    canonical = GridSpec.plan(volume.grid, axcodes="RAS").target
    finite = data if data.dtype.kind in "iu" else data[np.isfinite(data)]
    some = finite.size > 0
    return {
        "path": str(path),
        "shape": list(data.shape),
        "dtype": volume.dtype.name,
        "spacing": list(volume.grid.spacing),
        "orientation": volume.grid.axcodes,
        "affine": [list(row) for row in volume.grid.affine],
        "canonical_shape": [*canonical.shape, *data.shape[3:]],
        "min": float(finite.min()) if some else None,
        "max": float(finite.max()) if some else None,
        "mean": float(finite.mean(dtype=np.float64)) if some else None,
        "non_finite": int(data.size - finite.size),
        "label_counts": _label_counts(finite) if some and finite.size == data.size else None,
        "qform_code": volume.header.get("qform_code"),
        "sform_code": volume.header.get("sform_code"),
        "header": {key: value for key, value in volume.header.items() if key not in ("qform_code", "sform_code")},
    }


def _label_counts(data: NDArray[Any]) -> dict[str, int] | None:
    """Count the values of whole-numbered data, labels stored as floats included; None for what looks like a scan."""
    start = data.reshape(-1)[:_LOOK] if data.dtype.kind == "f" else data[:0]
    if not np.array_equal(np.rint(start), start):
        return None
    values, counts = np.unique(data, return_counts=True)
    if len(values) > _MOST_LABELS or (data.dtype.kind == "f" and not np.array_equal(np.rint(values), values)):
        return None
    return {str(int(value)): int(count) for value, count in zip(values, counts, strict=True)}
