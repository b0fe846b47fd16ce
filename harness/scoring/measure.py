"""Gather the raw facts of all classes of a case with the compiled kernels; `plain.measure` is the twin."""

from __future__ import annotations

import functools
import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.scoring.codes import Coded, Codes, Parallel, encode_groups
from harness.scoring.facts import Directed, Facts
from harness.scoring.surfels import area_table

__all__ = ["available_threads", "measure_classes"]

Longs = npt.NDArray[np.int64]
Distances = npt.NDArray[np.float64]

_SMALL = 1 << 20  # voxels below which starting threads costs more than it saves
_CHUNK = 1 << 15  # surface elements per list, and per task of a search
_NEAR_STEPS = 64  # lattice steps tried before the tree is asked: beyond, a step costs more than the tree


def available_threads() -> int:
    """Return how many threads scoring uses: the CPUs this process may run on, at most ``OMP_NUM_THREADS``."""
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    asked = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, min(cpus, int(asked))) if asked.isdecimal() else cpus


def measure_classes(
    prediction: npt.NDArray[Any],
    reference: npt.NDArray[Any],
    spacing: Sequence[float],
    classes: Mapping[str, Sequence[int]],
    *,
    voxels: Collection[str] = (),
    surfels: Collection[str] = (),
    threads: int | None = None,
) -> Iterator[tuple[str, Facts]]:
    """Yield class name and facts, class by class, so that only one class's distances are held at a time.

    Parameters
    ----------
    prediction, reference : integer or boolean arrays of shape (S, R, C)
        Checked label maps.
    spacing : sequence of 3 floats
        mm per array axis.
    classes : mapping of str to sequence of int
        Class name -> label values; classes may overlap.
    voxels, surfels : collection of str
        Classes whose voxel surface or area-weighted surface is wanted.
    threads : int, optional
        Threads to use; `available_threads` by default, one for small volumes.
    """
    if threads is None:
        threads = available_threads() if prediction.size >= _SMALL else 1
    with ThreadPoolExecutor(threads) as pool:

        def parallel(function: Any, tasks: Sequence[tuple[Any, ...]]) -> list[Any]:
            if threads == 1 or len(tasks) == 1:
                return [function(*task) for task in tasks]
            return list(pool.map(lambda task: function(*task), tasks))

        for coded in encode_groups(prediction, reference, spacing, classes, parallel):
            yield from _measure_group(coded, voxels, surfels, parallel, 2 * threads if threads > 1 else 1)


def _measure_group(
    coded: Coded, voxels: Collection[str], surfels: Collection[str], parallel: Parallel, n_slabs: int
) -> Iterator[tuple[str, Facts]]:
    pairs, occupied = _count(coded, parallel, n_slabs)
    both: dict[str, tuple[int, int, int]] = {}
    for c, name in enumerate(coded.names):
        member = (coded.bits >> np.uint64(c) & np.uint64(1)).astype(bool)
        tp = int(pairs[np.ix_(member, member)].sum())
        both[name] = tp, int(pairs[member].sum()) - tp, int(pairs[:, member].sum()) - tp
    present = {name for name, (tp, fp, fn) in both.items() if tp + fp and tp + fn}
    voxel = _Surfaces.of(coded, present.intersection(voxels), occupied, half=False, parallel=parallel, n_slabs=n_slabs)
    surfel = _Surfaces.of(coded, present.intersection(surfels), occupied, half=True, parallel=parallel, n_slabs=n_slabs)
    for name, (tp, fp, fn) in both.items():
        yield (
            name,
            Facts(
                tp=tp,
                fp=fp,
                fn=fn,
                tn=coded.prediction.size - tp - fp - fn,
                voxel_mm3=float(np.prod(coded.spacing)),
                voxel_surface=voxel.directed(name, parallel),
                surfel_surface=surfel.directed(name, parallel),
            ),
        )


def _slabs(length: int, n_slabs: int) -> list[tuple[int, int]]:
    edges = np.linspace(0, length, min(n_slabs, length) + 1).astype(int).tolist()
    return list(itertools.pairwise(edges))


def _count(coded: Coded, parallel: Parallel, n_slabs: int) -> tuple[Longs, npt.NDArray[np.bool_]]:
    from harness.scoring.kernels import count

    slabs = _slabs(coded.prediction.shape[0], n_slabs)
    pairs = np.zeros((len(slabs), 256, 256), np.int64)
    occupied = np.zeros(coded.prediction.shape[:2], bool)
    zero_counts = bool(coded.bits[0])
    parallel(
        count,
        [
            (coded.prediction, coded.reference, zero_counts, start, stop, pairs[slab], occupied)
            for slab, (start, stop) in enumerate(slabs)
        ],
    )
    return pairs.sum(axis=0), occupied


@dataclass(frozen=True)
class _Elements:
    """The surface elements of one map, sorted by class: flat lattice indices."""

    where: Longs
    starts: Longs

    def of(self, c: int) -> Longs:
        return self.where[self.starts[c] : self.starts[c + 1]]


@dataclass(frozen=True)
class _Surfaces:
    """One kind of surface of both maps, and the searches between them."""

    coded: Coded
    names: Collection[str]
    half: bool
    elements: tuple[_Elements, ...]

    @classmethod
    def of(
        cls,
        coded: Coded,
        names: Collection[str],
        occupied: npt.NDArray[np.bool_],
        *,
        half: bool,
        parallel: Parallel,
        n_slabs: int,
    ) -> _Surfaces:
        maps = (coded.prediction, coded.reference) if names else ()
        wanted = np.uint64(sum(1 << c for c, name in enumerate(coded.names) if name in names))
        bits = coded.bits & wanted
        elements = tuple(_elements(codes, bits, len(coded.names), occupied, half, parallel, n_slabs) for codes in maps)
        return cls(coded, names, half, elements)

    def directed(self, name: str, parallel: Parallel) -> Directed | None:
        """Return the distances of one class both ways, or None where nobody asked for them."""
        if name not in self.names:
            return None
        c = self.coded.names.index(name)
        first, second = (elements.of(c) for elements in self.elements)
        codes = (self.coded.prediction, self.coded.reference)
        return Directed(
            self._distances(first, second, codes[1], c, parallel),
            self._distances(second, first, codes[0], c, parallel),
            *(
                (self._areas(where, own, c) for where, own in zip((first, second), codes, strict=True))
                if self.half
                else ()
            ),
        )

    def _areas(self, where: Longs, codes: Codes, c: int) -> Distances:
        from harness.scoring.kernels import areas

        found = np.empty(where.size)
        areas(codes, self.coded.bits, np.uint64(1 << c), where, area_table(self.coded.spacing.tolist()), found)
        return found

    def _distances(self, where: Longs, targets: Longs, codes: Codes, c: int, parallel: Parallel) -> Distances:
        """Distance in mm from each element to the nearest target: close ones by steps, the rest by a tree."""
        from harness.scoring.kernels import search_near

        spacing, reverse = tuple(self.coded.spacing), self.coded.reverse
        steps, lengths = _near_steps(spacing, reverse)
        distances = np.empty(where.size)
        bit = np.uint64(1 << c)
        tasks = [
            (
                codes,
                self.coded.bits,
                self.half,
                bit,
                where,
                start,
                min(start + _CHUNK, where.size),
                steps,
                lengths,
                distances,
            )
            for start in range(0, where.size, _CHUNK)
        ]
        if sum(parallel(search_near, tasks)):
            far = np.flatnonzero(distances < 0)
            shape = tuple(length + self.half for length in codes.shape)
            distances[far] = _far_distances(
                _points(where[far], shape), _points(targets, shape), spacing, reverse, parallel
            )
        return distances


def _elements(
    codes: Codes,
    bits: npt.NDArray[np.uint64],
    n_classes: int,
    occupied: npt.NDArray[np.bool_],
    half: bool,
    parallel: Parallel,
    n_slabs: int,
) -> _Elements:
    from harness.scoring.kernels import find_surface, split

    row_length = codes.shape[2] + half
    n_rows = (codes.shape[0] + half) * (codes.shape[1] + half)

    def find(row: int, stop: int) -> list[tuple[Longs, npt.NDArray[np.uint64]]]:
        found = []
        while row < stop:
            where, classes = np.empty(_CHUNK + row_length, np.int64), np.empty(_CHUNK + row_length, np.uint64)
            row = find_surface(codes, bits, occupied, half, row, stop, where, classes)
            last = int(where[0]) + 1
            found.append((where[1:last].copy(), classes[1:last].copy()))
        return found

    found = list(itertools.chain.from_iterable(parallel(find, _slabs(n_rows, n_slabs))))
    starts = np.zeros(n_classes + 1, np.int64)
    where = split(np.concatenate([part for part, _ in found]), np.concatenate([part for _, part in found]), starts)
    return _Elements(where, starts)


@functools.lru_cache(maxsize=16)
def _near_steps(spacing: tuple[float, ...], reverse: bool) -> tuple[npt.NDArray[np.int32], Distances]:
    """Return the shortest lattice steps (m, 3) and their lengths in mm (m,), no direction left out before its turn."""
    reach = 2
    while True:
        # Every step shorter than the first one outside the cube is inside it, so the sorted list has no gaps.
        around = np.arange(-reach, reach + 1)
        steps = np.stack(np.meshgrid(around, around, around, indexing="ij"), axis=-1).reshape(-1, 3)
        squares = (steps * np.array(spacing)) ** 2
        a, b, c = squares.T[::-1] if reverse else squares.T
        lengths = np.sqrt(a + b + c)
        complete = lengths < (reach + 1) * min(spacing)
        if np.count_nonzero(complete) >= _NEAR_STEPS:
            order = np.argsort(lengths, kind="stable")[:_NEAR_STEPS]
            return np.ascontiguousarray(steps[order], np.int32), lengths[order]
        reach *= 2


def _points(where: Longs, shape: Sequence[int]) -> npt.NDArray[np.int32]:
    """Return flat lattice indices as coordinates (n, 3)."""
    return np.ascontiguousarray(np.stack(np.unravel_index(where, tuple(shape)), axis=1), np.int32)


def _far_distances(
    points: npt.NDArray[np.int32],
    targets: npt.NDArray[np.int32],
    spacing: Sequence[float],
    reverse: bool,
    parallel: Parallel,
) -> Distances:
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
    scale = np.array(spacing, np.float64)
    parallel(
        search,
        [
            (
                targets,
                boxes,
                levels,
                points[start : start + _CHUNK // 4],
                scale,
                reverse,
                found[start : start + _CHUNK // 4],
            )
            for start in range(0, len(points), _CHUNK // 4)
        ],
    )
    distances = np.empty(len(points))
    distances[order] = found
    return distances
