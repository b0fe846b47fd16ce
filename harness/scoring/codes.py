"""Bring two label maps into the form the kernels read: one byte per voxel, C order, and a table of class bits."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Coded", "Parallel", "encode_groups"]

Codes = npt.NDArray[np.uint8]
Bits = npt.NDArray[np.uint64]
Parallel = Callable[[Callable[..., Any], Sequence[tuple[Any, ...]]], list[Any]]
"""Runs a function over many argument tuples, perhaps side by side."""

_MOST_CLASSES = 64  # bits of a table entry
_MOST_PATTERNS = 255  # codes beside 0, which means "in no class"
_LONGEST_TABLE = 1 << 16
_SLAB = 1 << 20  # voxels encoded at a time: bounds the temporary arrays


@dataclass(frozen=True)
class Coded:
    """Two label maps as codes, and what the codes mean.

    Attributes
    ----------
    prediction, reference : uint8 array of shape (I, J, K)
        C-contiguous. The axes are the caller's, or all three reversed (`reverse`).
    bits : uint64 array of shape (256,)
        Code -> one bit per class, in the order of `names`.
    names : list of str
        The classes of this group.
    spacing : float64 array of shape (3,)
        mm per axis of the codes.
    reverse : bool
        Whether the axes are reversed: Fortran-ordered arrays, such as nibabel's, are read where they lie.
    """

    prediction: Codes
    reference: Codes
    bits: Bits
    names: list[str]
    spacing: npt.NDArray[np.float64]
    reverse: bool


def encode_groups(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing: Sequence[float],
    classes: Mapping[str, Sequence[int]],
    parallel: Parallel,
) -> Iterator[Coded]:
    """Yield the classes in groups that fit one table; nearly always there is a single group.

    One-byte arrays are read in place; others are encoded into one byte per voxel, a group at a time.
    """
    reverse = not prediction.flags.c_contiguous and prediction.flags.f_contiguous
    if reverse:
        prediction, reference, spacing = prediction.T, reference.T, spacing[::-1]
    for names, of_label in _groups(classes, needs_codes=max(prediction.itemsize, reference.itemsize) > 1):
        patterns = sorted(set(of_label.values()))
        if prediction.itemsize == reference.itemsize == 1 and prediction.dtype.kind == reference.dtype.kind != "i":
            bits = np.zeros(256, np.uint64)
            for label, pattern in of_label.items():
                if 0 <= label < 256:
                    bits[label] = pattern
            maps = [np.ascontiguousarray(array).view(np.uint8) for array in (prediction, reference)]
        else:
            bits = np.zeros(256, np.uint64)
            bits[1 : len(patterns) + 1] = patterns
            code_of = {label: patterns.index(pattern) + 1 for label, pattern in of_label.items()}
            maps = [_encode(array, code_of, parallel) for array in (prediction, reference)]
        yield Coded(maps[0], maps[1], bits, names, np.array(spacing, np.float64), reverse)


def _groups(classes: Mapping[str, Sequence[int]], *, needs_codes: bool) -> Iterator[tuple[list[str], dict[int, int]]]:
    """Cut the classes into groups of at most 64, with at most 255 patterns where labels must become codes."""
    names: list[str] = []
    of_label: dict[int, int] = {}
    for name, labels in classes.items():
        grown = dict(of_label)
        for label in labels:
            grown[label] = grown.get(label, 0) | 1 << len(names)
        too_many = needs_codes and len(set(grown.values())) > _MOST_PATTERNS
        if names and (len(names) == _MOST_CLASSES or too_many):
            yield names, of_label
            names, grown = [], dict.fromkeys(labels, 1)
        names = [*names, name]
        of_label = grown
    yield names, of_label


def _encode(array: npt.NDArray[Any], code_of: Mapping[int, int], parallel: Parallel) -> Codes:
    """Write the code of each label; labels outside every class, or outside the dtype, become 0."""
    if array.dtype.kind == "b":
        array = array.view(np.uint8)
    limits = np.iinfo(array.dtype)
    labels = {label: code for label, code in code_of.items() if limits.min <= label <= limits.max}
    codes = np.zeros(array.shape, np.uint8)
    if not labels:
        return codes
    native = array.dtype.newbyteorder("=")
    low, high = min(labels), max(labels)
    if high - low < _LONGEST_TABLE and high <= np.iinfo(np.int64).max:
        from harness.scoring.kernels import encode

        table = np.zeros(high - low + 1, np.uint8)
        for label, code in labels.items():
            table[label - low] = code

        def work(start: int, stop: int) -> None:
            # Only a slab at a time is brought into C order and native bytes, so that nothing large is copied.
            source = np.ascontiguousarray(array[start:stop], native)
            encode(source.ravel(), low, table, codes[start:stop].ravel())

    else:
        keys = np.array(sorted(labels), native)
        values = np.array([labels[int(key)] for key in keys], np.uint8)

        def work(start: int, stop: int) -> None:
            slab = array[start:stop]
            place = np.minimum(np.searchsorted(keys, slab), keys.size - 1)
            codes[start:stop] = np.where(keys[place] == slab, values[place], 0)

    planes = max(1, _SLAB // array[0].size)
    edges = [*range(0, array.shape[0], planes), array.shape[0]]
    parallel(work, list(itertools.pairwise(edges)))
    return codes
