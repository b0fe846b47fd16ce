"""The reference labels of a case: read from a label map or painted from structures, and renumbered as the card says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.data.case import Case
from harness.data.fingerprint import file_hash
from harness.data.reading import Volume, as_labels, read
from harness.errors import UserError
from harness.files import canonical_json, sha256_hex
from harness.grid import Grid

__all__ = ["Reference", "read_reference"]


@dataclass(frozen=True)
class Reference:
    """What people drew in one case.

    Attributes
    ----------
    labels : ndarray of int, shape (a, b, c)
        In the stored axis order, with the label values of the card.
    grid : Grid
        Where they lie.
    not_annotated : frozenset of int
        Label values that nobody drew in this case. They are not absent: loss and score must ignore them.
    sha256 : str or None
        Hash of the decoded content, of all structures and of the renumbering; None unless asked for.
    unknown : dict of int to int
        Voxels per stored value that the renumbering does not list; empty unless asked for.
    """

    labels: NDArray[Any]
    grid: Grid
    not_annotated: frozenset[int] = frozenset()
    sha256: str | None = None
    unknown: Mapping[int, int] | None = None


def read_reference(case: Case, *, hashed: bool = False, keep_unknown: bool = False) -> Reference:
    """Read the labels of a case.

    Parameters
    ----------
    case : Case
        With a label map or structures.
    hashed : bool
        Also hash what is read.
    keep_unknown : bool
        Count stored values that the renumbering does not list, and leave them background, instead of refusing them.

    Raises
    ------
    UserError
        The case has no labels, a file cannot be read, structures lie on different grids, or a stored value has no place
        in the renumbering.
    """
    if case.structures:
        return _painted(case, hashed)
    if case.label is None:
        raise UserError(f"Case {case.id!r} has no label.")
    volume = read(case.label)
    digest = file_hash(volume) if hashed else None
    labels = as_labels(volume)
    unknown: dict[int, int] = {}
    if case.remap:
        labels, unknown = _renumbered(labels, dict(case.remap))
        digest = digest and sha256_hex(digest + canonical_json(sorted(case.remap)))
        if unknown and not keep_unknown:
            raise UserError(
                f"{case.label} holds the label values {sorted(unknown)}, which the data set does not have; it has "
                f"{sorted(dict(case.remap))}. Check that these are its labels."
            )
    return Reference(labels, volume.grid, sha256=digest, unknown=unknown)


def _renumbered(labels: NDArray[Any], remap: Mapping[int, int]) -> tuple[NDArray[Any], dict[int, int]]:
    """Map every stored value by a table; return also the voxels per value that the table does not have."""
    highest = int(labels.max())
    table = np.zeros(highest + 1, dtype=np.min_scalar_type(max(remap.values())))
    listed = np.zeros(highest + 1, dtype=bool)
    for stored, value in remap.items():
        if stored <= highest:
            table[stored], listed[stored] = value, True
    strange = labels[~listed[labels]]
    values, counts = np.unique(strange, return_counts=True)
    return table[labels], {int(v): int(c) for v, c in zip(values, counts, strict=True)}


def _painted(case: Case, hashed: bool) -> Reference:
    """Paint the structures into one label map, in the order of the layout."""
    canvas: NDArray[Any] | None = None
    first: Volume | None = None
    missing, digests = set(), []
    for value, path in case.structures:
        if not path.exists():
            missing.add(value)
            digests.append("")
            continue
        volume = read(path)
        if hashed:
            digests.append(file_hash(volume))
        mask = as_labels(volume) != 0
        if first is None or canvas is None:
            first = volume
            canvas = np.zeros(mask.shape, np.min_scalar_type(max(value for value, _ in case.structures)))
        elif first.grid.difference(volume.grid) > 0.1 * min(first.grid.spacing):
            raise UserError(f"{path} and {first.path} do not lie on one grid. Export the structures of a case on one.")
        canvas[mask] = value
    if first is None or canvas is None:
        raise UserError(f"Case {case.id!r} has none of its structures, such as {case.structures[0][1]}.")
    order = canonical_json([value for value, _ in case.structures])
    digest = sha256_hex(order + "\n".join(digests)) if hashed else None
    return Reference(canvas, first.grid, frozenset(missing), digest, {})
