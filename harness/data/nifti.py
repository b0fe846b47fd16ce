"""NIfTI files read fast and exactly as nibabel would.

nibabel parses the header and picks the affine; decompression goes through ISA-L, which is what makes it faster.
SimpleITK is never asked for a NIfTI file, because it silently reads ``x.nii`` for ``x.nii.gz`` where both exist.
"""

from __future__ import annotations

import io
import logging
import math
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.volume import Volume
from harness.errors import UserError
from harness.grid import Grid

__all__ = ["is_nifti", "parse_header", "read_nifti"]

_GZIP = b"\x1f\x8b"
_MAX_DEFLATE_RATIO = 1032  # no deflate stream expands more, so a larger promised size is no size
_PIECE = 1 << 18
_HEADER_BYTES = 540  # of NIfTI-2, the longer one
_UNITS = {0: "unknown", 1: "m", 2: "mm", 3: "µm"}
_quiet = logging.getLogger("harness.data.nifti.header")
_quiet.addHandler(logging.NullHandler())
_quiet.propagate = False


def is_nifti(path: Path) -> bool:
    """Tell by its name whether a file is NIfTI."""
    return path.name.lower().endswith((".nii", ".nii.gz"))


def read_nifti(path: Path) -> Volume:
    """Read one ``.nii`` or ``.nii.gz`` file; the errors are those of `harness.data.reading.read`."""
    content = _content(path)
    header = parse_header(content[:_HEADER_BYTES].tobytes(), path)
    data = _voxels(content, header, path)
    affine, facts = _affine(header, path)
    while data.ndim > 3 and 1 in data.shape[3:]:
        data = data.squeeze(axis=3 + data.shape[3:].index(1))
    if data.ndim not in (3, 4):
        raise UserError(
            f"{path} has shape {data.shape}; three axes of space and at most one of channels can be read. "
            "Split it into volumes."
        )
    return Volume(
        data=data,
        grid=Grid((data.shape[0], data.shape[1], data.shape[2]), tuple(map(tuple, affine))),
        path=path,
        dtype=header.get_data_dtype(),
        header=facts,
        raw_header=content[: int(header["sizeof_hdr"])].tobytes(),
    )


def _content(path: Path) -> NDArray[np.uint8]:
    """Return the bytes of the file, decompressed."""
    named = path.name.lower().endswith(".gz")
    content: bytes | NDArray[np.uint8]
    try:
        # numpy reads into memory that can be written to, which voxels must be; packed bytes need not
        content = path.read_bytes() if named else np.fromfile(path, np.uint8)
    except OSError as error:
        raise UserError(f"Cannot read {path}: {error.strerror}. Check the path and its permissions.") from error
    if not len(content):
        raise UserError(f"{path} is empty (0 bytes): it was never written or copied. Copy or download it again.")
    packed = bytes(content[:2]) == _GZIP
    if packed != named:
        right = path.name.lower().removesuffix(".gz") + (".gz" if packed else "")
        raise UserError(
            f"{path} is {'' if packed else 'not '}compressed with gzip, which its name denies. "
            f"Rename it to {right}, or download it again if it is no NIfTI file at all."
        )
    return content if isinstance(content, np.ndarray) else _decompress(content, path)


def _decompress(content: bytes, path: Path) -> NDArray[np.uint8]:
    """Unpack every gzip member of a file (bgzip writes many) and check that none was cut off or damaged.

    A piece at a time, small enough for the processor's cache, goes into one array of the size that the last four bytes
    promise: half the time of unpacking in one call, which touches fresh memory twice.
    """
    from isal import igzip_lib

    damaged: type[Exception] = igzip_lib.IsalError  # type: ignore[assignment]  # its stub calls the class an instance
    promised = min(int.from_bytes(content[-4:], "little"), _MAX_DEFLATE_RATIO * len(content))
    whole: NDArray[np.uint8] = np.empty(promised, np.uint8)
    filled, rest = 0, content
    try:
        while rest.startswith(_GZIP):
            unpacker, feed = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP), rest
            while not unpacker.eof:
                piece, feed = unpacker.decompress(feed, _PIECE), b""
                if not piece and not unpacker.eof:
                    raise damaged("it ends in the middle of the compressed data")
                if filled + len(piece) > whole.size:  # several members, or more than 4 GiB
                    whole = np.concatenate([whole[:filled], np.empty(max(whole.size, _PIECE), np.uint8)])
                whole[filled : filled + len(piece)] = memoryview(piece)
                filled += len(piece)
            rest = unpacker.unused_data
    except damaged as error:
        raise UserError(
            f"{path} cannot be decompressed ({error}): the file is damaged or was cut off while it was copied "
            f"({len(content)} bytes). Copy or download it again."
        ) from error
    return whole[:filled]


def parse_header(content: bytes, path: Path) -> Any:
    """Return the nibabel header of the first bytes of a file; UserError where it makes no sense."""
    import nibabel
    from nibabel.spatialimages import HeaderDataError
    from nibabel.wrapstruct import WrapStructError

    kinds = {348: nibabel.Nifti1Header, 540: nibabel.Nifti2Header}
    size = next((n for n in kinds if content[:4] in (n.to_bytes(4, "little"), n.to_bytes(4, "big"))), None)
    if size is None:
        raise UserError(
            f"{path} does not begin like a NIfTI file (its first bytes are {content[:4]!r}). Check what it really is."
        )
    magic = content[344:347] if size == 348 else content[4:7]
    if magic not in (b"n+1", b"n+2"):
        raise UserError(
            f"{path} is one half of a header and image pair, an Analyze file, or damaged (magic {magic!r}). "
            "Convert it to a single .nii.gz."
        )
    try:
        header = kinds[size].from_fileobj(io.BytesIO(content[:size]), check=False)
        if not np.isfinite(header["vox_offset"]):  # nibabel would turn it into an integer
            raise HeaderDataError(f"its voxels begin at byte {header['vox_offset']}")
        header.check_fix(logger=_quiet, error_level=40)
        dtype = header.get_data_dtype()
    except (HeaderDataError, WrapStructError) as error:
        raise UserError(f"The header of {path} cannot be read: {error}. Export the file again.") from error
    if dtype.kind not in "iuf" or dtype.itemsize > 8:
        raise UserError(
            f"{path} stores voxels of type {header.get_value_label('datatype')}; only integers and floats of up to "
            "64 bits are scans or labels. Convert it."
        )
    return header


def _voxels(content: NDArray[np.uint8], header: Any, path: Path) -> NDArray[Any]:
    from nibabel.spatialimages import HeaderDataError
    from nibabel.volumeutils import apply_read_scaling

    shape, dtype, offset = header.get_data_shape(), header.get_data_dtype(), int(header["vox_offset"])
    needed = offset + dtype.itemsize * math.prod(map(int, shape))  # of Python's integers, which do not wrap around
    if len(shape) < 3 or min(shape) < 1:
        raise UserError(f"{path} has shape {shape}; a volume needs three axes with at least one voxel each.")
    if len(content) < needed:
        raise UserError(
            f"{path} ends after {len(content)} bytes of decompressed content; its header announces {needed} for shape "
            f"{shape} and type {dtype.name}. The file was cut off; copy or download it again."
        )
    try:
        slope, inter = header.get_slope_inter()
    except HeaderDataError as error:
        raise UserError(f"The intensity scaling in the header of {path} cannot be used: {error}.") from error
    stored = content[offset:needed].view(dtype).reshape(shape, order="F")
    native: NDArray[Any] = stored.astype(dtype.newbyteorder("="), copy=False)
    if slope is None:
        return native
    scaled: NDArray[Any] = apply_read_scaling(native, np.float64(slope), np.float64(inter))
    return scaled


def _affine(header: Any, path: Path) -> tuple[NDArray[np.float64], dict[str, Any]]:
    """Return the affine that nibabel would use (sform, else qform, else spacing alone) and the header's facts."""
    from nibabel.spatialimages import HeaderDataError

    unit = _UNITS.get(int(header["xyzt_units"]) & 7, "unknown")
    if unit in ("m", "µm"):
        raise UserError(
            f"The header of {path} gives lengths in {unit}; every spacing would be wrong by orders of magnitude. "
            "Rewrite the header in mm."
        )
    try:
        sform, sform_code = header.get_sform(coded=True)
        qform, qform_code = header.get_qform(coded=True)
        affine = header.get_best_affine()
    except HeaderDataError as error:
        raise UserError(f"The orientation in the header of {path} cannot be read: {error}.") from error
    slope, inter = header.get_slope_inter()
    apart = None
    if sform is not None and qform is not None:
        shape = header.get_data_shape()[:3]
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in shape], indexing="ij")).reshape(3, -1)
        moved = (sform - qform) @ np.vstack([corners, np.ones(corners.shape[1])])
        apart = float(np.sqrt((moved**2).sum(axis=0)).max())
    return affine, {
        "format": "NIfTI-1" if int(header["sizeof_hdr"]) == 348 else "NIfTI-2",
        "byte_order": "little" if header.endianness == "<" else "big",
        "qform_code": int(qform_code),
        "sform_code": int(sform_code),
        "affine_from": "sform" if sform_code else "qform" if qform_code else "spacing",
        "qform_sform_apart_mm": apart,
        "unit": unit,
        "slope": slope,
        "inter": inter,
    }
