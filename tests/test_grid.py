"""Grids and the exact way back, against nibabel, SciPy and the definition itself."""

from __future__ import annotations

import itertools
import json

import nibabel
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import map_coordinates

from harness.errors import UserError
from harness.grid import Grid, GridSpec

AXCODES = [
    "".join(pair[flip] for pair, flip in zip(order, flips, strict=True))
    for order in itertools.permutations(("LR", "PA", "IS"))
    for flips in itertools.product((0, 1), repeat=3)
]
QUICK = settings(max_examples=30, deadline=None, derandomize=True)


def rotation(quaternion):
    w, x, y, z = np.array(quaternion) / np.linalg.norm(quaternion)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


@st.composite
def grids(draw, largest=12):
    """Any grid that a header can hold: oblique, flipped, anisotropic, thin."""
    shape = tuple(draw(st.integers(1, largest)) for _ in range(3))
    spacing = [draw(st.floats(0.3, 6)) for _ in range(3)]
    part = st.floats(-1, 1)
    turn = draw(st.tuples(part, part, part, part).filter(lambda q: np.linalg.norm(q) > 0.1))
    signs = [draw(st.sampled_from((-1, 1))) for _ in range(3)]
    affine = np.eye(4)
    affine[:3, :3] = rotation(turn) @ np.diag(np.array(spacing) * signs)
    affine[:3, 3] = [draw(st.floats(-300, 300)) for _ in range(3)]
    return Grid(shape, affine)


@st.composite
def plans(draw, spaced=True, cropped=True):
    """Any plan on any grid."""
    source = draw(grids())
    axcodes = draw(st.sampled_from([None, *AXCODES]))
    spacing = None
    if spaced and draw(st.booleans()):
        oriented = GridSpec.plan(source, axcodes=axcodes).target
        # no more than 30 voxels an axis, so that an example stays small
        spacing = [
            draw(st.floats(max(0.3, n * s / 30), 8)) for n, s in zip(oriented.shape, oriented.spacing, strict=True)
        ]
    shape = GridSpec.plan(source, axcodes=axcodes, spacing=spacing).target.shape
    crop = None
    if cropped and draw(st.booleans()):
        starts = [draw(st.integers(0, n - 1)) for n in shape]
        crop = [(a, draw(st.integers(a + 1, n))) for a, n in zip(starts, shape, strict=True)]
    minimum = draw(st.none() | st.tuples(*[st.integers(1, 16)] * 3))
    divisible = draw(st.tuples(*[st.sampled_from((1, 2, 5, 8))] * 3))
    return GridSpec.plan(
        source, axcodes=axcodes, spacing=spacing, crop=crop, minimum_shape=minimum, divisible_by=divisible
    )


def index_volume(grid):
    """Number the voxels of a grid in C order."""
    return np.arange(np.prod(grid.shape)).reshape(grid.shape)


def positions(grid):
    """World coordinates of all voxel centres, (3, a, b, c)."""
    return nibabel.affines.apply_affine(grid.matrix, np.moveaxis(np.indices(grid.shape), 0, -1)).transpose(3, 0, 1, 2)


def indices_in(grid, points):
    """Array coordinates in a grid of points in the world."""
    return nibabel.affines.apply_affine(np.linalg.inv(grid.matrix), np.moveaxis(points, 0, -1)).transpose(3, 0, 1, 2)


# ---------------------------------------------------------------- Grid


@QUICK
@given(grids())
def test_axis_codes_and_spacing_agree_with_nibabel(grid):
    assert grid.axcodes == "".join(nibabel.aff2axcodes(grid.matrix))
    np.testing.assert_allclose(grid.spacing, nibabel.affines.voxel_sizes(grid.matrix), rtol=1e-12)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_axis_codes_of_straight_grids(axcodes):
    affine = np.diag([0.0, 0.0, 0.0, 1.0])
    for axis, letter in enumerate(axcodes):
        affine["RLAPSI".index(letter) // 2, axis] = 2.0 if letter in "RAS" else -2.0
    assert Grid((3, 4, 5), affine).axcodes == axcodes


def test_axis_codes_of_a_sheared_grid_agree_with_nibabel():
    affine = np.array([[0.9, 0.7, 0.1, 0], [-0.5, 0.8, 0.2, 0], [0.0, 0.3, 2.0, 0], [0, 0, 0, 1]])
    assert Grid((3, 4, 5), affine).axcodes == "".join(nibabel.aff2axcodes(affine))


@QUICK
@given(grids())
def test_a_grid_survives_json(grid):
    assert Grid.from_json(json.loads(json.dumps(grid.to_json()))) == grid


def test_a_negative_zero_is_written_as_zero():
    """It is the same grid, so it must have the same bytes where grids are hashed."""
    flipped = Grid(
        (3, 4, 5), np.diag([-1.0, 1, 1, 1]) * np.array([[1.0, -1, 1, 1]]) * np.array([[1.0], [-1], [1], [1]])
    )
    assert "-0.0" not in json.dumps(flipped.to_json())


def test_difference_is_the_largest_distance_of_a_corner():
    grid = Grid((11, 5, 5), np.eye(4))
    wider = np.diag([1.1, 1, 1, 1])
    assert grid.difference(Grid((11, 5, 5), wider)) == pytest.approx(1.0)
    assert grid.difference(grid) == 0
    assert grid.difference(Grid((10, 5, 5), np.eye(4))) == np.inf


@pytest.mark.parametrize(
    ("shape", "affine", "word"),
    [
        ((3, 4), np.eye(4), "three axes"),
        ((3, 0, 4), np.eye(4), "three axes"),
        ((3, 4, 5), np.eye(3), "4x4"),
        ((3, 4, 5), np.diag([1, np.nan, 1, 1]), "finite"),
        ((3, 4, 5), np.diag([1, 1, 1, 2]), "0 0 0 1"),
        ((3, 4, 5), np.diag([1, 0, 1, 1]), "flattens"),
        ((3, 4, 5), np.array([[1, 1, 0, 0], [1, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]]), "flattens"),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(shape, affine, word):
    with pytest.raises(UserError, match=word):
        Grid(shape, affine)


# ---------------------------------------------------------------- the way there


@QUICK
@given(plans())
def test_every_voxel_lies_where_the_target_grid_says(spec):
    """Look the source index of each target voxel up in world space: it is the box the voxel's centre falls into."""
    numbers = spec.apply(index_volume(spec.source), order="nearest", fill=-1)
    assert numbers.shape == spec.target.shape
    inside = numbers >= 0
    exact = indices_in(spec.source, positions(spec.target))
    found = np.stack(np.unravel_index(numbers.clip(0), spec.source.shape))
    assert np.abs(exact - found)[:, inside].max() <= 0.5 + 1e-6


@QUICK
@given(plans(cropped=False))
def test_without_a_crop_the_extent_is_kept(spec):
    """The corners of the resampled volume are the corners of the scan, whatever the padding."""
    kept = [slice(a - s, b - s) for (a, b), s in zip(spec.window, spec.start, strict=True)]
    box = np.array(list(itertools.product(*[(k.start - 0.5, k.stop - 0.5) for k in kept])))
    corners = indices_in(spec.source, nibabel.affines.apply_affine(spec.target.matrix, box).T.reshape(3, 2, 2, 2))
    low, high = corners.reshape(3, -1).min(axis=1), corners.reshape(3, -1).max(axis=1)
    np.testing.assert_allclose(low, -0.5, atol=1e-6)
    np.testing.assert_allclose(high, np.array(spec.source.shape) - 0.5, atol=1e-6)


@QUICK
@given(plans(), st.integers(0, 2**31))
def test_linear_sampling_agrees_with_scipy(spec, seed):
    volume = np.random.default_rng(seed).normal(size=spec.source.shape)
    there = spec.apply(volume, order="linear", fill=np.nan)
    kept = ~np.isnan(there)
    at = indices_in(spec.source, positions(spec.target))[:, kept]
    np.testing.assert_allclose(there[kept], map_coordinates(volume, at, order=1, mode="nearest"), atol=1e-6)


@pytest.mark.parametrize("axcodes", AXCODES)
def test_reorientation_agrees_with_nibabel(axcodes):
    grid = Grid((3, 4, 5), np.array([[0.1, -2, 0, 5], [1.5, 0.1, 0.2, 6], [0, 0.3, -3, 7], [0, 0, 0, 1]]))
    volume = np.random.default_rng(0).normal(size=grid.shape)
    spec = GridSpec.plan(grid, axcodes=axcodes)
    want = nibabel.orientations.axcodes2ornt(axcodes)
    image = nibabel.Nifti1Image(volume, grid.matrix)
    image = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(grid.matrix), want))
    assert spec.target.axcodes == axcodes
    np.testing.assert_array_equal(spec.apply(volume, order="linear", fill=0), image.get_fdata())
    np.testing.assert_allclose(spec.target.matrix, image.affine, atol=1e-12)


def test_padding_is_symmetric_and_the_odd_voxel_goes_behind():
    spec = GridSpec.plan(Grid((3, 4, 5), np.eye(4)), minimum_shape=(6, 4, 1), divisible_by=(1, 1, 4))
    assert spec.target.shape == (6, 4, 8)
    assert spec.start == (-1, 0, -1)
    there = spec.apply(np.ones((3, 4, 5), np.uint8), order="nearest", fill=7)
    assert (there[1:4, :, 1:6] == 1).all()
    assert (there == 7).sum() == there.size - 60


def test_spacing_is_reached_over_the_same_extent():
    spec = GridSpec.plan(Grid((10, 10, 10), np.diag([1.0, 0.7, 3.0, 1])), spacing=(2.0, 1.0, 1.0))
    assert spec.target.shape == (5, 7, 30)
    np.testing.assert_allclose(spec.target.spacing, (2, 1, 1))
    uneven = GridSpec.plan(Grid((10, 10, 10), np.eye(4)), spacing=(3.0, 1.0, 1.0))
    assert uneven.target.shape[0] == 3
    np.testing.assert_allclose(uneven.target.spacing[0], 10 / 3)


def test_a_spacing_that_rounds_to_native_resamples_nothing():
    grid = Grid((10, 10, 10), np.diag([0.9999, 1.0001, 1.0, 1]))
    volume = np.random.default_rng(0).normal(size=grid.shape).astype(np.float32)
    spec = GridSpec.plan(grid, spacing=(1, 1, 1))
    np.testing.assert_array_equal(spec.apply(volume, order="linear", fill=0), volume)
    assert spec.target == grid


# ---------------------------------------------------------------- the way back


@QUICK
@given(plans(spaced=False), st.integers(0, 2**31))
def test_at_native_spacing_the_way_back_is_exact(spec, seed):
    """Dice 1: every voxel that was kept comes back, bit by bit; what was cropped away is filled."""
    labels = np.random.default_rng(seed).integers(0, 5, spec.source.shape).astype(np.uint8)
    kept = spec.restore(np.ones(spec.target.shape, bool), order="nearest", fill=False)
    back = spec.restore(spec.apply(labels, order="nearest", fill=9), order="nearest", fill=8)
    assert back.dtype == labels.dtype
    np.testing.assert_array_equal(back, np.where(kept, labels, 8))
    assert kept.sum() == np.prod([b - a for a, b in spec.window])


@QUICK
@given(plans(cropped=False), st.integers(0, 2**31))
def test_without_a_crop_a_finer_grid_loses_nothing(spec, seed):
    oriented = [spec.source.shape[axis] for axis in spec.permutation]
    labels = np.random.default_rng(seed).integers(0, 5, spec.source.shape)
    back = spec.restore(spec.apply(labels, order="nearest", fill=9), order="nearest", fill=8)
    assert (back != 8).all()
    if all(m >= n for m, n in zip(spec.spaced_shape, oriented, strict=True)):
        np.testing.assert_array_equal(back, labels)


@QUICK
@given(st.sampled_from(AXCODES), st.tuples(*[st.floats(1, 1.6)] * 3), st.integers(0, 2**31))
def test_a_coarser_grid_loses_little_of_a_large_structure(axcodes, factor, seed):
    rng = np.random.default_rng(seed)
    at = np.indices((26, 24, 28)) - (np.array([13, 12, 14]) + rng.uniform(-1, 1, 3)).reshape(3, 1, 1, 1)
    labels = ((at / rng.uniform(7, 10, 3).reshape(3, 1, 1, 1)) ** 2).sum(axis=0) <= 1
    spec = GridSpec.plan(Grid(labels.shape, np.eye(4)), axcodes=axcodes, spacing=factor)
    back = spec.restore(spec.apply(labels, order="nearest", fill=0), order="nearest", fill=0)
    assert 2 * (back & labels).sum() / (back.sum() + labels.sum()) > 0.9


@QUICK
@given(plans(), st.integers(0, 2**31))
def test_linear_restoring_agrees_with_scipy_on_what_was_kept(spec, seed):
    volume = np.random.default_rng(seed).normal(size=spec.target.shape)
    back = spec.restore(volume, order="linear", fill=np.nan)
    restored = ~np.isnan(back)
    kept = tuple(slice(a - s, b - s) for (a, b), s in zip(spec.window, spec.start, strict=True))
    offset = np.array([k.start for k in kept]).reshape(3, 1)
    at = indices_in(spec.target, positions(spec.source))[:, restored] - offset
    np.testing.assert_allclose(back[restored], map_coordinates(volume[kept], at, order=1, mode="nearest"), atol=1e-6)


@QUICK
@given(plans())
def test_padding_never_leaks_into_what_is_restored(spec):
    """The network's output beyond the edge of the scan must not reach the scan."""
    there = spec.apply(np.zeros(spec.source.shape, np.float32), order="linear", fill=1e6)
    back = spec.restore(there, order="linear", fill=0)
    assert not back.any()


@QUICK
@given(plans())
def test_a_plan_survives_json(spec):
    assert GridSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_channels_go_through_like_single_volumes():
    rng = np.random.default_rng(3)
    grid = Grid((7, 9, 5), np.array([[0, -1.2, 0, 5], [1.0, 0, 0, 6], [0, 0, 3.0, 7], [0, 0, 0, 1]]))
    spec = GridSpec.plan(grid, axcodes="SAR", spacing=(2, 1.1, 1.4), minimum_shape=(12, 4, 4))
    volume = rng.normal(size=(3, *grid.shape)).astype(np.float32)
    together = spec.apply(volume, order="linear", fill=0)
    np.testing.assert_array_equal(together, np.stack([spec.apply(one, order="linear", fill=0) for one in volume]))
    back = spec.restore(together, order="linear", fill=0)
    np.testing.assert_array_equal(back, np.stack([spec.restore(one, order="linear", fill=0) for one in together]))


@pytest.mark.parametrize(
    ("dtype", "order", "expected"),
    [
        (np.uint8, "nearest", np.uint8),
        (bool, "nearest", bool),
        (np.int16, "linear", np.float32),
        (np.float16, "linear", np.float16),
        (np.float64, "linear", np.float64),
    ],
)
@pytest.mark.parametrize("spacing", [None, (2.0, 2.0, 2.0)])
def test_types_of_results_do_not_depend_on_the_spacing(dtype, order, expected, spacing):
    grid = Grid((6, 6, 6), np.eye(4))
    spec = GridSpec.plan(grid, spacing=spacing)
    there = spec.apply(np.ones(grid.shape, dtype), order=order, fill=0)
    assert there.dtype == expected
    assert spec.restore(there, order=order, fill=0).dtype == expected


def test_results_are_fresh_contiguous_arrays():
    grid = Grid((6, 5, 4), np.eye(4))
    volume = np.zeros(grid.shape, np.float32)
    spec = GridSpec.plan(grid)
    there = spec.apply(volume, order="linear", fill=0)
    back = spec.restore(there, order="linear", fill=0)
    assert there.flags.c_contiguous
    assert back.flags.c_contiguous
    there += 1
    assert not volume.any()
    assert not back.any()


def test_axes_of_one_voxel_work():
    grid = Grid((1, 9, 1), np.diag([5.0, 1, 5, 1]))
    spec = GridSpec.plan(grid, axcodes="SPL", spacing=(1, 2, 1))
    labels = np.arange(9).reshape(grid.shape)
    back = spec.restore(spec.apply(labels, order="linear", fill=0), order="linear", fill=-1)
    assert back.shape == grid.shape
    assert np.abs(back - labels).max() <= 0.75


# ---------------------------------------------------------------- wrong input


@pytest.mark.parametrize(
    "wrong",
    [
        {"axcodes": "RA"},
        {"axcodes": "RLS"},
        {"axcodes": "XYZ"},
        {"spacing": (1, 1)},
        {"spacing": (1, -1, 1)},
        {"spacing": (1, np.nan, 1)},
        {"crop": ((0, 3), (0, 3))},
        {"crop": ((0, 3), (2, 2), (0, 3))},
        {"crop": ((-1, 3), (0, 3), (0, 3))},
        {"crop": ((0, 3), (0, 3), (0, 6))},
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(wrong):
    with pytest.raises(UserError):
        GridSpec.plan(Grid((5, 5, 5), np.eye(4)), **wrong)


def test_a_volume_of_another_shape_is_refused():
    spec = GridSpec.plan(Grid((5, 4, 3), np.eye(4)), minimum_shape=(8, 8, 8))
    for bad in (np.zeros((3, 4, 5)), np.zeros((5, 4)), np.zeros((1, 1, 5, 4, 3))):
        with pytest.raises(ValueError, match="source grid"):
            spec.apply(bad, order="nearest", fill=0)
    with pytest.raises(ValueError, match="target grid"):
        spec.restore(np.zeros((5, 4, 3)), order="nearest", fill=0)
    with pytest.raises(ValueError, match="cubic"):
        spec.apply(np.zeros((5, 4, 3)), order="cubic", fill=0)
