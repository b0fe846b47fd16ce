"""NIfTI files written: label maps with the geometry of their scan bit by bit, and volumes on a grid of ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.nifti import is_nifti, parse_header
from harness.data.volume import Volume
from harness.errors import UserError
from harness.files import atomic_path
from harness.grid import Grid

__all__ = ["write_labels", "write_volume"]


def write_labels(path: Path, labels: NDArray[Any], like: Volume | Path) -> None:
    """Write a label map as NIfTI on the grid of ``like``, whole or not at all; the same input gives the same bytes.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.
    labels : ndarray of int, shape (a, b, c)
        In the stored axis order of ``like``. Stored as uint8, or uint16 where a value needs it.
    like : Volume or Path
        The scan. Where it is NIfTI, its affines, codes and units are copied bit by bit.

    Raises
    ------
    UserError
        The shape differs from the scan's, a label is negative or above 65535, or the name is not a NIfTI name.
    HarnessError
        The file cannot be written.
    """
    if isinstance(like, Path):
        from harness.data.reading import read

        like = read(like)
    if labels.shape != like.grid.shape:
        raise UserError(f"The labels have shape {labels.shape}, the scan {like.path} has {like.grid.shape}.")
    if not np.issubdtype(labels.dtype, np.integer) or labels.min() < 0 or labels.max() > np.iinfo(np.uint16).max:
        raise UserError(f"Labels are integers from 0 to 65535; found {labels.dtype}, {labels.min()} to {labels.max()}.")
    stored = labels.astype(np.uint8 if labels.max() <= np.iinfo(np.uint8).max else np.uint16)
    header = _fresh_header(like.grid) if like.raw_header is None else _same_geometry(like.raw_header, like.path)
    _write(path, stored, header)


def write_volume(path: Path, data: NDArray[Any], grid: Grid) -> None:
    """Write a volume as NIfTI on a grid, whole or not at all; the same input gives the same bytes.

    Parameters
    ----------
    path : Path
        Ends in ``.nii`` or ``.nii.gz``.
    data : ndarray of shape grid.shape or (*grid.shape, t)
        Stored in its own type.
    grid : Grid
        Stored as sform and qform, in the 32 bits that NIfTI-1 has for them.

    Raises
    ------
    UserError
        The shape is not that of the grid, or the name is not a NIfTI name.
    HarnessError
        The file cannot be written.
    """
    if data.shape[:3] != grid.shape:
        raise UserError(f"The voxels have shape {data.shape}, the grid {grid.shape}.")
    _write(path, data, _fresh_header(grid))


def _fresh_header(grid: Grid) -> Any:
    import nibabel

    header = nibabel.Nifti1Header()
    header.set_data_shape(grid.shape)
    header.set_zooms(grid.spacing)
    header.set_xyzt_units("mm")
    header.set_sform(grid.matrix, code="scanner")
    header.set_qform(grid.matrix, code="scanner", strip_shears=True)
    return header


def _same_geometry(raw_header: bytes, path: Path) -> Any:
    """Return a header with the affines, codes and units of another, bit by bit, and nothing else of it."""
    own = parse_header(raw_header, path)
    header = type(own)(endianness=own.endianness)
    for name in ("pixdim", "xyzt_units", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d"):
        header[name] = own[name]
    for name in ("qoffset_x", "qoffset_y", "qoffset_z", "srow_x", "srow_y", "srow_z"):
        header[name] = own[name]
    header["pixdim"][4:] = 1
    return header


def _write(path: Path, data: NDArray[Any], header: Any) -> None:
    from isal import isal_zlib

    if not is_nifti(path):
        raise UserError(f"Volumes are written as NIfTI, so {path.name} must end in .nii.gz or .nii.")
    header.set_data_shape(data.shape)
    header.set_data_dtype(data.dtype)
    header["scl_slope"], header["scl_inter"] = 1, 0
    header["vox_offset"] = header.single_vox_offset
    header["magic"] = header.single_magic
    voxels = data.astype(header.get_data_dtype(), copy=False).tobytes(order="F")
    body = header.binaryblock + bytes(4) + voxels  # four zero bytes say that no header extension follows
    if path.name.lower().endswith(".gz"):
        body = isal_zlib.compress(body, level=2, wbits=31)
    with atomic_path(path) as temporary:
        temporary.write_bytes(body)
