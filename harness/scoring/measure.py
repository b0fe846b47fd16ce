"""Gather the raw facts of all classes of a case with the compiled kernels; `plain.measure` is the twin."""

from __future__ import annotations

import itertools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt

from harness.machine import processors
from harness.scoring.codes import Coded, Parallel, encode_groups
from harness.scoring.facts import Facts
from harness.scoring.surfaces import Surfaces

__all__ = ["available_threads", "measure_classes"]

_SMALL = 1 << 20  # voxels below which starting threads costs more than it saves


def available_threads() -> int:
    """Return how many threads scoring uses: the CPUs this process may run on, at most ``OMP_NUM_THREADS``."""
    cpus = processors()
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
    overlaps = {}
    for c, name in enumerate(coded.names):
        member = (coded.bits >> np.uint64(c) & np.uint64(1)).astype(bool)
        tp = int(pairs[np.ix_(member, member)].sum())
        overlaps[name] = tp, int(pairs[member].sum()) - tp, int(pairs[:, member].sum()) - tp
    in_both = {name for name, (tp, fp, fn) in overlaps.items() if tp + fp and tp + fn}
    voxel, surfel = (
        Surfaces.find(coded, in_both.intersection(asked), occupied, half, parallel, n_slabs)
        for asked, half in ((voxels, False), (surfels, True))
    )
    for name, (tp, fp, fn) in overlaps.items():
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


def _count(coded: Coded, parallel: Parallel, n_slabs: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    """Return how often each pair of codes occurs, shape (256, 256), and which rows have a label at all."""
    from harness.scoring.kernels import count

    planes = coded.prediction.shape[0]
    edges = np.linspace(0, planes, min(n_slabs, planes) + 1).astype(int).tolist()
    pairs = np.zeros((len(edges) - 1, 256, 256), np.int64)
    occupied = np.zeros(coded.prediction.shape[:2], bool)
    zero_counts = bool(coded.bits[0])
    parallel(
        count,
        [
            (coded.prediction, coded.reference, zero_counts, start, stop, pairs[slab], occupied)
            for slab, (start, stop) in enumerate(itertools.pairwise(edges))
        ],
    )
    return pairs.sum(axis=0), occupied
