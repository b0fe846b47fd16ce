"""The volumes a pretext task reads: prepared cases by id, opened when asked for, so memory does not grow with them.

`harness.data.cache` serves them from disk; `Loaded` holds one in memory.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from harness.errors import UserError, unknown_name

__all__ = ["CachedVolumes", "Loaded", "Prepared", "Together", "Volumes", "cut", "train_and_held_out"]


class Prepared(Protocol):
    """What is used of a prepared case: the image, its label map if any, and the value outside the scan."""

    @property
    def image(self) -> NDArray[Any]:
        """Shape (channel, a, b, c), in the intensity range of the model's contract."""
        ...

    @property
    def label(self) -> NDArray[Any] | None:
        """Shape (a, b, c), or None."""
        ...

    @property
    def foreground(self) -> Mapping[int, NDArray[Any]]:
        """Class index to flat voxel indices into (a, b, c); empty without a label."""
        ...

    @property
    def fill(self) -> Sequence[float]:
        """One value per channel, for what lies beyond the volume."""
        ...


Volumes = Mapping[str, Prepared]


@dataclass(frozen=True)
class Loaded:
    """A prepared volume in memory."""

    image: NDArray[Any]
    label: NDArray[Any] | None = None
    fill: Sequence[float] = (0.0,)

    @cached_property
    def foreground(self) -> Mapping[int, NDArray[Any]]:
        """Class index to flat voxel indices, for every class above 0 that occurs."""
        if self.label is None:
            return {}
        return {int(value): np.flatnonzero(self.label == value) for value in np.unique(self.label) if value > 0}


class _Cache(Protocol):
    def case(self, case: str, /) -> Prepared: ...


class CachedVolumes(Mapping[str, Prepared]):
    """Some cases of a cache as a mapping: memory-mapped when looked up, so that only the voxels used are read.

    Parameters
    ----------
    cache : Cache
        What `harness.data` prepared.
    cases : iterable of str
        Which of its cases.
    """

    def __init__(self, cache: _Cache, cases: Iterable[str]) -> None:
        self._cache = cache
        self._cases = dict.fromkeys(cases)

    def __getitem__(self, case: str) -> Prepared:
        if case not in self._cases:
            raise KeyError(case)
        return self._cache.case(case)

    def __iter__(self) -> Iterator[str]:
        return iter(self._cases)

    def __len__(self) -> int:
        return len(self._cases)


class Together(Mapping[str, Prepared]):
    """Volumes of several data sets side by side, each case under ``dataset/case``.

    Parameters
    ----------
    parts : mapping of str to Volumes
        Data set id to its volumes.
    """

    def __init__(self, parts: Mapping[str, Volumes]) -> None:
        self._parts = dict(parts)

    def __getitem__(self, case: str) -> Prepared:
        dataset, _, name = case.partition("/")
        if dataset not in self._parts:
            raise KeyError(case)
        return self._parts[dataset][name]

    def __iter__(self) -> Iterator[str]:
        return (f"{dataset}/{case}" for dataset, part in self._parts.items() for case in part)

    def __len__(self) -> int:
        return sum(map(len, self._parts.values()))


def train_and_held_out(
    volumes: Volumes, train: Iterable[str], held_out: Iterable[str]
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the sorted ids to train on and to evaluate on, or say what is wrong with them.

    Raises
    ------
    UserError
        One of the two is empty, an id has no volume, or an id is in both.
    """
    parts = tuple(sorted(train)), tuple(sorted(held_out))
    for purpose, ids in zip(("train on", "hold out for evaluation"), parts, strict=True):
        if not ids:
            raise UserError(
                f"Pretraining needs at least one volume to {purpose}, and {len(volumes)} volumes are given in all. "
                "Add volumes, or change how many are held out."
            )
        for case in ids:
            if case not in volumes:
                raise unknown_name("volume", case, volumes)
    both = sorted(set(parts[0]) & set(parts[1]))
    if both:
        raise UserError(f"Volumes {', '.join(both)} are both trained on and held out. Put each in one of the two.")
    return parts


def cut(array: NDArray[Any], start: Sequence[int], size: Sequence[int], fill: Sequence[float]) -> NDArray[np.float32]:
    """Copy a box out of a volume, filled where it reaches beyond.

    Parameters
    ----------
    array : ndarray of shape (channel, a, b, c)
        May be a memory map.
    start, size : sequence of 3 int
        First voxel (may be negative) and extent.
    fill : sequence of float
        One value per channel.

    Returns
    -------
    ndarray of shape (channel, *size), float32
    """
    shape = array.shape[1:]
    low = [min(max(at, 0), extent) for at, extent in zip(start, shape, strict=True)]
    high = [min(max(at + length, 0), extent) for at, length, extent in zip(start, size, shape, strict=True)]
    out = np.empty((len(array), *size), np.float32)
    if [b - a for a, b in zip(low, high, strict=True)] != list(size):
        out[:] = np.asarray(fill, np.float32)[:, None, None, None]
    inner = tuple(slice(a - at, b - at) for at, a, b in zip(start, low, high, strict=True))
    outer = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    # torch converts float16, which caches hold, several times faster than NumPy
    torch.from_numpy(out)[(slice(None), *inner)] = torch.from_numpy(np.asarray(array)[(slice(None), *outer)])
    return out
