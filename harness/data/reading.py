"""Reading one volume of any format, and nothing else: `read` knows the formats, layouts know where files lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import DTypeLike

from harness.data.nifti import is_nifti, read_nifti
from harness.data.nifti_writing import write_labels, write_volume
from harness.data.volume import Volume, as_labels
from harness.errors import UserError

__all__ = ["Volume", "as_labels", "read", "write_labels", "write_volume"]

_ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")


def read(path: Path, *, dtype: DTypeLike | None = None) -> Volume:
    """Read a volume as stored: no reorientation, values with slope and intercept applied.

    Parameters
    ----------
    path : Path
        ``.nii``, ``.nii.gz``, ``.mha``, ``.mhd``, ``.nrrd``, ``.nhdr``, or a folder with one DICOM series.
    dtype : data type, optional
        Convert the voxels to this type; by default the stored type, or float64 where the header scales the values.

    Returns
    -------
    Volume
        ``data`` has the axes of the file, ``grid`` their place in RAS+ mm whatever the convention of the format.

    Raises
    ------
    UserError
        The file is missing, damaged, cut off, of an unknown format, or its header makes no sense.
    """
    path = Path(path)
    if not path.exists():
        raise UserError(f"There is no file {path}. Check the path and that the data set is complete.")
    try:
        if path.is_file() and is_nifti(path):
            volume = read_nifti(path)
        elif path.is_dir() or path.name.lower().endswith(_ITK_SUFFIXES):
            from harness.data.itk import read_dicom, read_itk

            volume = read_dicom(path) if path.is_dir() else read_itk(path)
        else:
            raise UserError(
                f"The format of {path.name} is not known. Volumes are .nii, .nii.gz, {', '.join(_ITK_SUFFIXES)} "
                "or a folder with one DICOM series."
            )
    except UserError as error:
        if str(path) in str(error):
            raise
        raise UserError(f"{path}: {error}") from error
    if dtype is None or volume.data.dtype == np.dtype(dtype):
        return volume
    return replace(volume, data=volume.data.astype(dtype))
