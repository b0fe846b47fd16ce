"""How many bytes the cache of prepared volumes will take, from the headers alone."""

from __future__ import annotations

import math
from collections.abc import Iterable

import nibabel
import numpy as np
from nibabel.filebasedimages import ImageFileError

from harness.data.case import Case
from harness.data.settings import Preprocessing

__all__ = ["prepared_bytes"]


def prepared_bytes(cases: Iterable[Case], settings: Preprocessing) -> int | None:
    """Return the size of the prepared images and labels; cropping and padding are not counted.

    Parameters
    ----------
    cases : iterable of Case
        On this machine; only headers are read.
    settings : Preprocessing
        Spacing and storage type.

    Returns
    -------
    int or None
        Bytes; None where a header is of a format that needs the whole file (DICOM, ITK), or cannot be read.
    """
    total = 0.0
    for case in cases:
        if not case.images or not case.images[0].is_file():
            return None
        try:
            header = nibabel.load(case.images[0]).header
        except (ImageFileError, OSError, ValueError):
            return None
        shape, spacing = header.get_data_shape()[:3], header.get_zooms()[:3]
        voxels = float(math.prod(shape))
        if settings.spacing != "native":
            voxels *= math.prod(map(float, spacing)) / math.prod(settings.spacing)
        channels = header.get_data_shape()[3] if len(header.get_data_shape()) > 3 else len(case.images)
        total += voxels * (channels * np.dtype(settings.dtype).itemsize + (1 if case.label or case.structures else 0))
    return round(total)
