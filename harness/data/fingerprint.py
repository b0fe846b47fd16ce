"""Identity of data by decoded content, so that a volume packed again is the same and a changed voxel is not.

A file's hash covers its shape, the type of its decoded voxels, its affine rounded to 1e-4, and the voxels in C order,
little-endian. A data set's fingerprint covers the lines ``case <tab> image hash <tab> label hash`` of its cases,
sorted, each ended by a line feed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from harness.data.volume import Volume
from harness.errors import UserError
from harness.files import canonical_json, sha256_hex

__all__ = ["Hashed", "file_hash", "fingerprint", "join_hashes", "label_map_sha256"]

_BLOCK_BYTES = 1 << 23


class Hashed(Protocol):
    """What a fingerprint needs to know of a case."""

    @property
    def image_sha256(self) -> str:
        """Hash of the image, or of all its channels."""

    @property
    def label_sha256(self) -> str | None:
        """Hash of the label; None without one."""


def file_hash(volume: Volume) -> str:
    """Return the hash of one volume as read without a change of type: 64 hexadecimal digits."""
    data = volume.data
    dtype = data.dtype.newbyteorder("<")
    affine = (np.round(volume.grid.matrix, 4) + 0.0).tolist()  # + 0.0: no negative zero
    digest = hashlib.sha256(
        canonical_json({"affine": affine, "dtype": dtype.str.lstrip("<|"), "shape": list(data.shape)}).encode()
    )
    # Readers hand out Fortran-ordered arrays; turning a few planes at a time keeps a scan from being copied whole.
    planes = max(1, _BLOCK_BYTES // max(1, data.nbytes // data.shape[0]))
    for start in range(0, data.shape[0], planes):
        digest.update(np.ascontiguousarray(data[start : start + planes], dtype=dtype).data)
    return digest.hexdigest()


def join_hashes(hashes: Sequence[str]) -> str:
    """Return one hash for several files of a case: of one file its own, of more the hash of them all in order."""
    return hashes[0] if len(hashes) == 1 else sha256_hex("\n".join(hashes))


def fingerprint(cases: Mapping[str, Hashed], ids: Iterable[str] | None = None) -> str:
    """Return the fingerprint of a data set.

    Parameters
    ----------
    cases : mapping of str to Hashed
        The facts of each case, as `harness.data.check` found them.
    ids : iterable of str, optional
        Only these cases (the scored ones); all by default.

    Returns
    -------
    str
        64 hexadecimal digits.

    Raises
    ------
    UserError
        An id is not among the cases.
    """
    wanted = sorted(set(cases if ids is None else ids))
    missing = [case for case in wanted if case not in cases]
    if missing:
        raise UserError(
            f"{len(missing)} cases have no facts to fingerprint: {', '.join(missing[:8])}. Check them first."
        )
    lines = [f"{case}\t{cases[case].image_sha256}\t{cases[case].label_sha256 or ''}\n" for case in wanted]
    return sha256_hex("".join(lines))


def label_map_sha256(labels: NDArray[Any]) -> str:
    """Hash a label map by shape and voxels in C order.

    Parameters
    ----------
    labels : integer ndarray of shape (a, b, c)
        In the scan's own grid. The integer type does not matter: labels are hashed in the smallest unsigned one.

    Returns
    -------
    str
        64 hexadecimal digits. The place of the grid in space is left out, since file formats round it differently;
        re-scoring compares it with the reference.

    Raises
    ------
    ValueError
        The array is not of integers, or a label is negative.
    """
    if labels.dtype.kind not in "iub":
        raise ValueError(f"a label map holds whole numbers, not {labels.dtype}")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0:
        raise ValueError(f"a label map holds labels of 0 or more, not {low}")
    small = np.ascontiguousarray(labels, dtype=np.min_scalar_type(high)).astype(
        np.min_scalar_type(high).newbyteorder("<")
    )
    digest = hashlib.sha256(f"{small.dtype.str}\t{tuple(int(side) for side in small.shape)}\n".encode())
    digest.update(small.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
