"""Grids of voxels in space, and `GridSpec`: orient, space, crop, pad, and the exact way back.

Everything deterministic and geometric goes through here, because the cache, fused reading and the way back to the
scan's own grid depend on one description of it. Intensities and random transforms live in `harness.data`.

Conventions. An affine maps array indices (voxel centres) to millimetres in RAS+, as nibabel has it. Axis codes are
three letters: letter i names the direction in which array axis i increases. A voxel fills the box of half a step around
its centre, and the physical extent of a volume is the union of these boxes. A change of spacing keeps the
extent exactly: n voxels of s mm become m = max(1, round(n s / wanted)) voxels of n s / m mm, so the spacing reached
can differ from the one wanted by half a voxel over the whole axis; the target grid says which was reached.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from harness.errors import UserError

__all__ = ["Grid", "GridSpec", "Order"]

Order = Literal["linear", "nearest"]
Ints = tuple[int, int, int]
_LETTERS = ("LR", "PA", "IS")  # per world axis: the letter towards minus and towards plus


@dataclass(frozen=True)
class Grid:
    """The shape of a volume and where its voxels lie.

    Attributes
    ----------
    shape : tuple of 3 int
        Voxels per array axis.
    affine : tuple of 4 tuples of 4 float
        Array indices to RAS+ millimetres.

    Raises
    ------
    UserError
        The shape is not three positive numbers, or the affine is not finite or not invertible.
    """

    shape: Ints
    affine: tuple[tuple[float, ...], ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(n) for n in self.shape))
        matrix = np.asarray(self.affine, dtype=np.float64)
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise UserError(f"A volume needs three axes with at least one voxel each; this one has shape {self.shape}.")
        if matrix.shape != (4, 4) or not np.isfinite(matrix).all() or not np.array_equal(matrix[3], (0, 0, 0, 1)):
            raise UserError(f"The affine {matrix.tolist()} is not a finite 4x4 matrix that ends in 0 0 0 1.")
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if spacing.min() <= 0 or abs(np.linalg.det(matrix[:3, :3] / np.where(spacing > 0, spacing, 1))) < 1e-6:
            raise UserError(
                f"The affine {matrix.tolist()} flattens space (two axes are parallel, or a spacing is 0), so "
                "voxels have no place. Mend the header of the file or leave the case out."
            )
        object.__setattr__(self, "affine", tuple(tuple(float(v) + 0.0 for v in row) for row in matrix))

    @property
    def matrix(self) -> NDArray[np.float64]:
        """The affine as an ndarray of shape (4, 4)."""
        return np.array(self.affine, dtype=np.float64)

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance of voxel centres in mm per array axis."""
        lengths = np.sqrt((self.matrix[:3, :3] ** 2).sum(axis=0))
        return float(lengths[0]), float(lengths[1]), float(lengths[2])

    @property
    def axcodes(self) -> str:
        """Direction of each array axis, such as ``"LPS"``: for an oblique grid, the nearest one."""
        return "".join(_LETTERS[axis][int(positive)] for axis, positive in _directions(self.matrix))

    def difference(self, other: Grid) -> float:
        """Return by how many mm the two grids place a corner voxel differently; infinity for unequal shapes."""
        if self.shape != other.shape:
            return math.inf
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape], indexing="ij")).reshape(3, -1)
        apart = (self.matrix - other.matrix) @ np.vstack([corners, np.ones(corners.shape[1])])
        return float(np.sqrt((apart**2).sum(axis=0)).max())

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {"shape": list(self.shape), "affine": [list(row) for row in self.affine]}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Grid:
        """Build the grid that `to_json` described."""
        return cls(tuple(content["shape"]), tuple(tuple(row) for row in content["affine"]))


@dataclass(frozen=True)
class GridSpec:
    """How a volume on ``source`` becomes a volume on ``target``, and back.

    Made by `plan`. The steps are: reorder and flip axes, resample to ``spaced_shape`` over the same extent, then crop
    or pad by whole voxels.

    Attributes
    ----------
    source, target : Grid
        Both ends.
    permutation : tuple of 3 int
        The source axis that becomes each target axis.
    flips : tuple of 3 bool
        Whether that axis is reversed.
    spaced_shape : tuple of 3 int
        Voxels per target axis after resampling, before crop and pad.
    start : tuple of 3 int
        Where target index 0 lies in the resampled volume; negative where it was padded.
    window : tuple of 3 (int, int)
        The part of the resampled volume that was kept: first index and one past the last.
    """

    source: Grid
    target: Grid
    permutation: Ints
    flips: tuple[bool, bool, bool]
    spaced_shape: Ints
    start: Ints
    window: tuple[tuple[int, int], tuple[int, int], tuple[int, int]]

    @classmethod
    def plan(
        cls,
        source: Grid,
        *,
        axcodes: str | None = None,
        spacing: Sequence[float] | None = None,
        crop: Sequence[tuple[int, int]] | None = None,
        minimum_shape: Sequence[int] | None = None,
        divisible_by: Sequence[int] = (1, 1, 1),
    ) -> GridSpec:
        """Plan the way from ``source`` to a grid with the wanted properties.

        Parameters
        ----------
        source : Grid
            The scan's own grid.
        axcodes : str, optional
            Wanted directions, such as ``"RAS"``; as stored by default. An oblique grid stays oblique: axes are
            reordered and flipped, never rotated.
        spacing : sequence of 3 float, optional
            Wanted mm per *target* axis; native by default. See the module for how it is rounded.
        crop : sequence of 3 (int, int), optional
            Start and stop per target axis, counted in the oriented and resampled volume.
        minimum_shape : sequence of 3 int, optional
            Pad on both sides up to this shape (the odd voxel goes behind).
        divisible_by : sequence of 3 int
            Then pad up to multiples of these.

        Raises
        ------
        UserError
            The axis codes, spacing or crop make no sense on this grid.
        """
        permutation, flips = _reorder(source, axcodes)
        shape = [source.shape[axis] for axis in permutation]
        native = [source.spacing[axis] for axis in permutation]
        spaced = list(shape)
        if spacing is not None:
            if len(spacing) != 3 or not all(math.isfinite(s) and s > 0 for s in spacing):
                raise UserError(f"A spacing is three positive lengths in mm; found {tuple(spacing)}.")
            spaced = [max(1, round(n * have / want)) for n, have, want in zip(shape, native, spacing, strict=True)]
        window = [(0, n) for n in spaced] if crop is None else [(int(a), int(b)) for a, b in crop]
        if len(window) != 3 or any(not 0 <= a < b <= n for (a, b), n in zip(window, spaced, strict=True)):
            raise UserError(f"The crop {window} does not lie inside the volume of shape {tuple(spaced)}.")
        kept = [b - a for a, b in window]
        final = [
            -(-max(n, least) // step) * step
            for n, least, step in zip(kept, minimum_shape or (1, 1, 1), divisible_by, strict=True)
        ]
        start = [a - (f - n) // 2 for (a, _), n, f in zip(window, kept, final, strict=True)]

        to_source = np.zeros((4, 4))
        to_source[3, 3] = 1
        for axis in range(3):
            step = shape[axis] / spaced[axis]
            first = (start[axis] + 0.5) * step - 0.5
            n = shape[axis]
            to_source[permutation[axis], axis] = -step if flips[axis] else step
            to_source[permutation[axis], 3] = (n - 1) - first if flips[axis] else first
        target = Grid(_three(final), _rows(source.matrix @ to_source))
        return cls(
            source=source,
            target=target,
            permutation=_three(permutation),
            flips=(bool(flips[0]), bool(flips[1]), bool(flips[2])),
            spaced_shape=_three(spaced),
            start=_three(start),
            window=(window[0], window[1], window[2]),
        )

    def apply(self, volume: NDArray[Any], *, order: Order, fill: float) -> NDArray[Any]:
        """Bring a volume from the source to the target grid.

        Parameters
        ----------
        volume : ndarray of shape (a, b, c) or (C, a, b, c)
            On the source grid.
        order : {"linear", "nearest"}
            Interpolation where the spacing changes; labels need ``"nearest"``.
        fill : float
            Value of padded voxels.

        Returns
        -------
        ndarray of shape target.shape or (C, *target.shape)
            A new, C-contiguous array; the dtype is kept, except that linear interpolation of integers gives float32.
        """
        lead = _leading(volume, self.source, "source")
        view = volume.transpose((*range(lead), *(lead + axis for axis in self.permutation)))
        axes = [
            _Axis(n, m, a, b, offset=0)
            for n, m, (a, b) in zip(self._oriented_shape, self.spaced_shape, self.window, strict=True)
        ]
        sampled = _sample(self._flip(view), lead, axes, order)
        result = np.full((*volume.shape[:lead], *self.target.shape), fill, dtype=sampled.dtype)
        result[_whole(lead) + self._kept] = sampled
        return result

    def restore(self, volume: NDArray[Any], *, order: Order, fill: float) -> NDArray[Any]:
        """Bring a volume from the target back to the source grid.

        Reordering, flips, crop and pad are inverted exactly; voxels that had been cropped away get ``fill``.
        Where the spacing was changed the volume is sampled at the centres of the source voxels.

        Parameters
        ----------
        volume : ndarray of shape target.shape or (C, *target.shape)
            On the target grid.
        order : {"linear", "nearest"}
            Interpolation where the spacing changed; labels need ``"nearest"``.
        fill : float
            Value of voxels outside what was kept.

        Returns
        -------
        ndarray of shape source.shape or (C, *source.shape)
            A new, C-contiguous array; dtype as in `apply`.
        """
        lead = _leading(volume, self.target, "target")
        axes = []
        for n, m, (a, b) in zip(self._oriented_shape, self.spaced_shape, self.window, strict=True):
            # Source voxels whose centre lies in a kept voxel are restored; the others were cropped away.
            kept = [i for i in range(n) if a <= _nearest(i, m, n) < b]
            first, stop = (kept[0], kept[-1] + 1) if kept else (0, 0)
            axes.append(_Axis(m, n, first, stop, offset=a))
        sampled = _sample(volume[_whole(lead) + self._kept], lead, axes, order)
        oriented = np.full((*volume.shape[:lead], *self._oriented_shape), fill, dtype=sampled.dtype)
        oriented[_whole(lead) + tuple(slice(axis.first, axis.stop) for axis in axes)] = sampled
        back = [lead + self.permutation.index(axis) for axis in range(3)]
        return np.ascontiguousarray(self._flip(oriented).transpose((*range(lead), *back)))

    @property
    def _oriented_shape(self) -> Ints:
        return _three([self.source.shape[axis] for axis in self.permutation])

    @property
    def _kept(self) -> tuple[slice, ...]:
        """The target voxels that are not padding."""
        return tuple(slice(a - s, b - s) for (a, b), s in zip(self.window, self.start, strict=True))

    def _flip(self, volume: NDArray[Any]) -> NDArray[Any]:
        reverse = tuple(slice(None, None, -1 if flip else 1) for flip in self.flips)
        return volume[_whole(volume.ndim - 3) + reverse]

    def to_json(self) -> dict[str, Any]:
        """Return plain lists and numbers."""
        return {
            "source": self.source.to_json(),
            "target": self.target.to_json(),
            "permutation": list(self.permutation),
            "flips": list(self.flips),
            "spaced_shape": list(self.spaced_shape),
            "start": list(self.start),
            "window": [list(pair) for pair in self.window],
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> GridSpec:
        """Build the plan that `to_json` described."""
        first, second, third = content["window"]
        return cls(
            source=Grid.from_json(content["source"]),
            target=Grid.from_json(content["target"]),
            permutation=_three(content["permutation"]),
            flips=(bool(content["flips"][0]), bool(content["flips"][1]), bool(content["flips"][2])),
            spaced_shape=_three(content["spaced_shape"]),
            start=_three(content["start"]),
            window=((first[0], first[1]), (second[0], second[1]), (third[0], third[1])),
        )


@dataclass(frozen=True)
class _Axis:
    """One axis of ``length`` voxels resampled to ``wanted`` over the same extent, of which [first, stop) are made.

    The array that is sampled begins at voxel ``offset`` of the axis and may end before it does.
    """

    length: int
    wanted: int
    first: int
    stop: int
    offset: int


def _nearest(index: int, length: int, wanted: int) -> int:
    """Return the voxel of an axis of ``length`` in which the centre of voxel ``index`` of ``wanted`` lies."""
    return (2 * index + 1) * length // (2 * wanted)


def _sample(volume: NDArray[Any], lead: int, axes: Sequence[_Axis], order: Order) -> NDArray[Any]:
    """Resample the last three axes one after the other; linear interpolation of a box grid is separable."""
    if order not in ("linear", "nearest"):
        raise ValueError(f"order is 'linear' or 'nearest', not {order!r}")
    # What needs no interpolation comes first (it only cuts), then the axis that shrinks most: less to carry on.
    for which in sorted(range(3), key=lambda i: (axes[i].length != axes[i].wanted, axes[i].wanted / axes[i].length)):
        axis, place = axes[which], lead + which
        if axis.length == axis.wanted:
            cut = slice(axis.first - axis.offset, axis.stop - axis.offset)
            volume = volume[(*_whole(place), cut)]
        elif order == "nearest":
            index = [_nearest(i, axis.length, axis.wanted) - axis.offset for i in range(axis.first, axis.stop)]
            volume = np.take(volume, np.array(index, dtype=np.intp), axis=place, mode="clip")
        else:
            volume = _linear(volume, place, axis)
    keep = order == "nearest" or np.issubdtype(volume.dtype, np.floating)
    return volume if keep else volume.astype(np.float32)


def _linear(volume: NDArray[Any], place: int, axis: _Axis) -> NDArray[Any]:
    if not np.issubdtype(volume.dtype, np.floating):
        volume = volume.astype(np.float32)
    size = volume.shape[place]
    at = (np.arange(axis.first, axis.stop) + 0.5) * (axis.length / axis.wanted) - 0.5 - axis.offset
    at = at.clip(0, max(size - 1, 0))  # outside the outermost centres the outermost voxel goes on
    low = np.floor(at).astype(np.intp)
    weight = (at - low).astype(volume.dtype).reshape((-1,) + (1,) * (volume.ndim - place - 1))
    result: NDArray[Any] = np.take(volume, low, axis=place)
    above = np.take(volume, np.minimum(low + 1, max(size - 1, 0)), axis=place)
    above -= result
    above *= weight
    result += above
    return result


def _whole(num_axes: int) -> tuple[slice, ...]:
    return (slice(None),) * num_axes


def _leading(volume: NDArray[Any], grid: Grid, which: str) -> int:
    """Return how many axes come before the three of space: 0, or 1 for channels."""
    if volume.ndim not in (3, 4) or volume.shape[-3:] != grid.shape:
        raise ValueError(f"the volume has shape {volume.shape}, but the {which} grid is {grid.shape}")
    return volume.ndim - 3


def _reorder(source: Grid, axcodes: str | None) -> tuple[Ints, tuple[bool, bool, bool]]:
    """Return which source axis becomes each axis of ``axcodes``, and whether it is reversed."""
    if axcodes is None:
        return (0, 1, 2), (False, False, False)
    wanted = [
        next(((axis, bool(pair.index(letter))) for axis, pair in enumerate(_LETTERS) if letter in pair), None)
        for letter in axcodes
    ]
    if len(wanted) != 3 or None in wanted or len({pair[0] for pair in wanted if pair}) != 3:
        raise UserError(f"Axis codes are one of L/R, one of P/A and one of I/S, such as 'RAS'; found {axcodes!r}.")
    have = _directions(source.matrix)
    permutation, flips = [], []
    for world, positive in (pair for pair in wanted if pair is not None):
        axis = next(i for i, (direction, _) in enumerate(have) if direction == world)
        permutation.append(axis)
        flips.append(have[axis][1] != positive)
    return _three(permutation), (flips[0], flips[1], flips[2])


def _directions(matrix: NDArray[np.float64]) -> list[tuple[int, bool]]:
    """Return for each array axis the world axis it runs along, and whether it runs towards plus.

    The rotation nearest to the affine is taken apart, clearest axis first, as nibabel does, so that both agree.
    """
    columns = matrix[:3, :3] / np.linalg.norm(matrix[:3, :3], axis=0)
    left, _, right = np.linalg.svd(columns)
    rotation = left @ right
    found: list[tuple[int, bool]] = [(0, True)] * 3
    for axis in np.argsort(-(rotation**2).max(axis=0), kind="stable"):
        world = int(np.argmax(np.abs(rotation[:, axis])))
        found[axis] = (world, bool(rotation[world, axis] > 0))
        rotation[world, :] = 0
    return found


def _three(values: Sequence[int]) -> Ints:
    first, second, third = values
    return int(first), int(second), int(third)


def _rows(matrix: NDArray[np.float64]) -> tuple[tuple[float, ...], ...]:
    return tuple(tuple(float(value) for value in row) for row in matrix)
