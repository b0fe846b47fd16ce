"""The surfaces of two label maps, class by class, and the distances between them both ways.

No array of the size of the volume is made: surfaces are lists of elements, and whether a voxel belongs to the other
surface is asked of the label codes themselves. Near elements are met by trying the shortest steps in turn; what is
left goes to a tree. Where most of a sample is left, as for a displaced prediction, the steps are not tried at all.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from harness.scoring.codes import Bits, Coded, Codes, Parallel
from harness.scoring.facts import Directed
from harness.scoring.surfels import area_table

__all__ = ["Surfaces"]

Longs = npt.NDArray[np.int64]
Points = npt.NDArray[np.int32]
Distances = npt.NDArray[np.float64]

_CHUNK = 1 << 15  # surface elements per list, and per task of a search
_SAMPLE = 1 << 11  # elements that tell whether trying steps is worth while
_NEAR_STEPS = 64  # steps tried: beyond, the next one costs more than asking the tree


@dataclass(frozen=True)
class _Elements:
    """The surface elements of one map: flat lattice indices, sorted by class and in scan order within."""

    where: Longs
    starts: Longs

    def of(self, c: int) -> Longs:
        return self.where[self.starts[c] : self.starts[c + 1]]


@dataclass(frozen=True)
class Surfaces:
    """One kind of surface of both maps.

    Attributes
    ----------
    coded : Coded
        The label maps.
    names : collection of str
        Classes whose surface was found.
    half : bool
        Whether it is the area-weighted surface on the half-shifted lattice.
    elements : tuple of _Elements
        Of the prediction and of the reference; empty without names.
    """

    coded: Coded
    names: Collection[str]
    half: bool
    elements: tuple[_Elements, ...]

    @classmethod
    def find(
        cls,
        coded: Coded,
        names: Collection[str],
        occupied: npt.NDArray[np.bool_],
        half: bool,
        parallel: Parallel,
        n_slabs: int,
    ) -> Surfaces:
        """Sweep both maps once and list the surface elements of the named classes."""
        wanted = np.uint64(sum(1 << c for c, name in enumerate(coded.names) if name in names))
        maps = (coded.prediction, coded.reference) if names else ()
        elements = tuple(
            _list_elements(codes, coded.bits & wanted, len(coded.names), occupied, half, parallel, n_slabs)
            for codes in maps
        )
        return cls(coded, names, half, elements)

    def directed(self, name: str, parallel: Parallel) -> Directed | None:
        """Return the distances of one class both ways, or None if its surface was not found."""
        if name not in self.names:
            return None
        c = self.coded.names.index(name)
        first, second = (elements.of(c) for elements in self.elements)
        prediction, reference = self.coded.prediction, self.coded.reference
        there = self._distances(first, second, reference, c, parallel)
        back = self._distances(second, first, prediction, c, parallel)
        if not self.half:
            return Directed(there, back)
        return Directed(there, back, self._areas(first, prediction, c), self._areas(second, reference, c))

    def _areas(self, where: Longs, codes: Codes, c: int) -> Distances:
        from harness.scoring.kernels import areas

        found = np.empty(where.size)
        areas(codes, self.coded.bits, np.uint64(1 << c), where, area_table(self.coded.spacing.tolist()), found)
        return found

    def _distances(self, where: Longs, targets: Longs, codes: Codes, c: int, parallel: Parallel) -> Distances:
        """Return the distance in mm from each element to the nearest target, which lies in ``codes``."""
        from harness.scoring.kernels import search_near

        spacing, reverse = tuple(self.coded.spacing.tolist()), self.coded.reverse
        steps, lengths = _near_steps(spacing, reverse)
        distances = np.full(where.size, -1.0)

        def try_steps(start: int, stop: int) -> int:
            bit = np.uint64(1 << c)
            return int(
                search_near(codes, self.coded.bits, self.half, bit, where, start, stop, steps, lengths, distances)
            )

        sample = min(_SAMPLE, where.size)
        if 2 * try_steps(0, sample) <= sample:
            edges = [*range(sample, where.size, _CHUNK), where.size]
            parallel(try_steps, list(itertools.pairwise(edges)))
        far = np.flatnonzero(distances < 0)
        if far.size:
            shape = tuple(length + self.half for length in codes.shape)
            distances[far] = _tree_distances(
                _points(where[far], shape), _points(targets, shape), self.coded.spacing, reverse, parallel
            )
        return distances


def _list_elements(
    codes: Codes,
    bits: Bits,
    n_classes: int,
    occupied: npt.NDArray[np.bool_],
    half: bool,
    parallel: Parallel,
    n_slabs: int,
) -> _Elements:
    from harness.scoring.kernels import find_surface, split

    row_length = codes.shape[2] + half
    n_rows = (codes.shape[0] + half) * (codes.shape[1] + half)

    def find(row: int, stop: int) -> list[tuple[Longs, Bits]]:
        found = []
        while row < stop:
            where, classes = np.empty(_CHUNK + row_length, np.int64), np.empty(_CHUNK + row_length, np.uint64)
            row = find_surface(codes, bits, occupied, half, row, stop, where, classes)
            last = int(where[0]) + 1
            found.append((where[1:last].copy(), classes[1:last].copy()))
        return found

    edges = np.linspace(0, n_rows, min(n_slabs, n_rows) + 1).astype(int).tolist()
    lists = itertools.chain.from_iterable(parallel(find, list(itertools.pairwise(edges))))
    where, classes = (np.concatenate(parts) for parts in zip(*lists, strict=True))
    starts = np.zeros(n_classes + 1, np.int64)
    return _Elements(split(where, classes, starts), starts)


@functools.lru_cache(maxsize=16)
def _near_steps(spacing: tuple[float, ...], reverse: bool) -> tuple[Points, Distances]:
    """Return the shortest lattice steps (m, 3) and their lengths in mm (m,), every direction in its turn."""
    reach = 2
    while True:
        around = np.arange(-reach, reach + 1)
        steps = np.stack(np.meshgrid(around, around, around, indexing="ij"), axis=-1).reshape(-1, 3)
        squares = (steps * np.array(spacing)) ** 2
        a, b, c = squares.T[::-1] if reverse else squares.T
        lengths = np.sqrt(a + b + c)
        # A step outside the cube is at least this long, so all shorter ones are here and the list has no gaps.
        if np.count_nonzero(lengths < (reach + 1) * min(spacing)) >= _NEAR_STEPS:
            order = np.argsort(lengths, kind="stable")[:_NEAR_STEPS]
            return np.ascontiguousarray(steps[order], np.int32), lengths[order]
        reach *= 2


def _points(where: Longs, shape: Sequence[int]) -> Points:
    """Return flat lattice indices as coordinates (n, 3)."""
    return np.ascontiguousarray(np.stack(np.unravel_index(where, tuple(shape)), axis=1), np.int32)


def _tree_distances(
    points: Points, targets: Points, spacing: Distances, reverse: bool, parallel: Parallel
) -> Distances:
    """Return the distance in mm from each point to the nearest target, however far."""
    from harness.scoring.tree import FAN, build, search, z_order

    targets = targets[np.argsort(z_order(targets))]
    sizes = [-(-len(targets) // FAN)]
    while sizes[-1] > 1:
        sizes.append(-(-sizes[-1] // FAN))
    levels = np.cumsum([0, *sizes])
    boxes = build(targets, levels)
    order = np.argsort(z_order(points))  # neighbours ask one after the other, each starting from the last answer
    points = points[order]
    found = np.empty(len(points))
    pieces = [slice(start, start + _CHUNK // 4) for start in range(0, len(points), _CHUNK // 4)]
    parallel(search, [(targets, boxes, levels, points[s], spacing, reverse, found[s]) for s in pieces])
    distances = np.empty(len(points))
    distances[order] = found
    return distances
