"""The compiled path against its plain twins and against brute force, on random volumes with random spacing."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from harness.scoring import plain
from harness.scoring.measure import measure_classes
from harness.scoring.surfels import area_table

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
SPACINGS = st.tuples(*[st.floats(0.05, 12.0)] * 3)
CLASSES = {"one": (1,), "two": (2,), "either": (1, 2), "unused": (9,), "not three": (0, 1, 2)}
DTYPES = [np.uint8, np.int8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
relaxed = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])


@st.composite
def pairs(draw):
    shape = draw(SHAPES)
    # Few labels and whole blocks of them, so that interiors, borders and empty classes all occur.
    labels = hnp.arrays(np.uint8, shape, elements=st.integers(0, 3), fill=st.sampled_from([0, 1, 2]))
    return draw(labels), draw(labels)


def brute_force(points, targets, spacing):
    steps = (points[:, None, :] - targets[None, :, :]) * np.asarray(spacing)
    return np.sqrt((steps**2).sum(axis=-1)).min(axis=1)


def compiled_facts(prediction, reference, spacing, **settings_):
    names = list(CLASSES)
    return dict(measure_classes(prediction, reference, spacing, CLASSES, voxels=names, surfels=names, **settings_))


@relaxed
@given(pairs(), SPACINGS)
def test_facts_equal_brute_force(pair, spacing):
    prediction, reference = pair
    found = compiled_facts(prediction, reference, spacing)
    table = area_table(spacing)
    for name, labels in CLASSES.items():
        p, r = np.isin(prediction, labels), np.isin(reference, labels)
        facts = found[name]
        assert (facts.tp, facts.fp, facts.fn) == plain.counts(p, r)
        assert facts.tp + facts.fp + facts.fn + facts.tn == p.size
        if not (p.any() and r.any()):
            assert facts.voxel_surface is None
            assert facts.surfel_surface is None
            continue
        a, b = plain.surface_points(p), plain.surface_points(r)
        np.testing.assert_allclose(facts.voxel_surface.from_prediction, brute_force(a, b, spacing), rtol=0, atol=1e-9)
        np.testing.assert_allclose(facts.voxel_surface.from_reference, brute_force(b, a, spacing), rtol=0, atol=1e-9)
        (a, area_a), (b, area_b) = plain.surfel_points(p, table), plain.surfel_points(r, table)
        surfels = facts.surfel_surface
        np.testing.assert_allclose(surfels.from_prediction, brute_force(a, b, spacing), rtol=0, atol=1e-9)
        np.testing.assert_allclose(surfels.from_reference, brute_force(b, a, spacing), rtol=0, atol=1e-9)
        np.testing.assert_allclose(surfels.area_prediction, area_a, rtol=1e-12)
        np.testing.assert_allclose(surfels.area_reference, area_b, rtol=1e-12)


@relaxed
@given(pairs(), SPACINGS, st.sampled_from(DTYPES), st.sampled_from(["C", "F", "view", "reversed"]))
def test_dtype_and_memory_order_change_nothing(pair, spacing, dtype, order):
    plain_order = compiled_facts(*pair, spacing)
    other = []
    for array in pair:
        changed = array.astype(dtype)
        if order == "F":
            changed = np.asfortranarray(changed)
        elif order == "view":
            wide = np.zeros([2 * n for n in array.shape], dtype)
            wide[::2, ::2, ::2] = changed
            changed = wide[::2, ::2, ::2]
        elif order == "reversed":
            changed = np.ascontiguousarray(changed[::-1, :, ::-1])[::-1, :, ::-1]
        assert np.array_equal(changed, array)
        changed.flags.writeable = False  # memory-mapped files cannot be written to
        other.append(changed)
    found = compiled_facts(*other, spacing)
    for name, facts in plain_order.items():
        assert (facts.tp, facts.fp, facts.fn, facts.tn) == (
            found[name].tp,
            found[name].fp,
            found[name].fn,
            found[name].tn,
        )
        for kind in ("voxel_surface", "surfel_surface"):
            ours, theirs = getattr(facts, kind), getattr(found[name], kind)
            if ours is None:
                assert theirs is None
                continue
            for side in ("from_prediction", "from_reference"):
                # Bit for bit: lengths are added up in the order of the caller's axes, however they lie in memory.
                assert np.array_equal(np.sort(getattr(ours, side)), np.sort(getattr(theirs, side))), (name, kind)


@pytest.mark.parametrize("half", [False, True])
def test_far_elements_are_found_by_the_tree(half):
    rng = np.random.default_rng(5)
    prediction, reference = np.zeros((2, 60, 50, 40), np.uint8)
    prediction[rng.integers(0, 60, 300), rng.integers(0, 50, 300), rng.integers(0, 40, 300)] = 1
    reference[2:9, 3:12, 30:38] = 1
    kind = "surfels" if half else "voxels"
    spacing = (0.7, 1.9, 3.1)
    ((_, facts),) = measure_classes(prediction, reference, spacing, {"a": (1,)}, **{kind: ["a"]}, threads=2)
    surface = facts.surfel_surface if half else facts.voxel_surface
    twin = plain.measure(prediction == 1, reference == 1, spacing)
    answer = twin.surfel_surface if half else twin.voxel_surface
    assert surface.from_prediction.max() > 60  # far beyond the steps that are tried first
    np.testing.assert_allclose(surface.from_prediction, answer.from_prediction, rtol=0, atol=1e-9)
    np.testing.assert_allclose(surface.from_reference, answer.from_reference, rtol=0, atol=1e-9)


def test_threads_and_slabs_change_nothing():
    rng = np.random.default_rng(11)
    prediction = rng.integers(0, 4, (23, 31, 29)).astype(np.uint8)
    reference = np.roll(prediction, 1, axis=0)
    one = compiled_facts(prediction, reference, (1, 2, 3), threads=1)
    many = compiled_facts(prediction, reference, (1, 2, 3), threads=5)
    for name in CLASSES:
        assert one[name].tp == many[name].tp
        if one[name].voxel_surface is not None:
            assert np.array_equal(one[name].voxel_surface.from_prediction, many[name].voxel_surface.from_prediction)


def test_more_classes_than_bits_and_labels_out_of_a_table():
    rng = np.random.default_rng(2)
    labels = np.array([0, -7, 3_000_000_000, *range(1, 130)])
    prediction, reference = rng.choice(labels, (2, 12, 11, 10))
    classes = {str(label): (int(label),) for label in labels} | {"all": tuple(int(label) for label in labels[1:])}
    found = dict(measure_classes(prediction, reference, (1, 1, 1), classes, voxels=list(classes)))
    assert list(found) == list(classes)
    for name, members in classes.items():
        p, r = np.isin(prediction, members), np.isin(reference, members)
        assert (found[name].tp, found[name].fp, found[name].fn) == plain.counts(p, r), name
        if p.any() and r.any():
            answer = plain.measure(p, r, (1, 1, 1), surfels=False).voxel_surface
            np.testing.assert_allclose(found[name].voxel_surface.from_prediction, answer.from_prediction, atol=1e-9)


def test_overlapping_regions_with_more_patterns_than_codes():
    rng = np.random.default_rng(3)
    prediction, reference = rng.integers(0, 600, (2, 9, 9, 9)).astype(np.int16)
    # Each of ten classes holds the labels with one bit set: 1023 different memberships.
    classes = {f"bit{b}": tuple(v for v in range(1, 600) if v >> b & 1) for b in range(10)}
    for name, facts in measure_classes(prediction, reference, (1, 1, 1), classes):
        p, r = np.isin(prediction, classes[name]), np.isin(reference, classes[name])
        assert (facts.tp, facts.fp, facts.fn) == plain.counts(p, r), name


def test_big_endian_and_boolean_maps():
    rng = np.random.default_rng(4)
    prediction, reference = rng.random((2, 6, 5, 4)) > 0.5
    for dtype in (bool, ">i2", ">u4"):
        ((_, facts),) = measure_classes(prediction.astype(dtype), reference.astype(dtype), (1, 1, 1), {"a": (1,)})
        assert (facts.tp, facts.fp, facts.fn) == plain.counts(prediction, reference), dtype


@pytest.mark.parametrize("dtypes", [(bool, np.int16), (np.int16, bool), (np.uint8, bool), (np.int8, np.uint8)])
def test_maps_of_different_dtypes(dtypes):
    rng = np.random.default_rng(6)
    prediction, reference = rng.random((2, 6, 5, 4)) > 0.5
    ((_, facts),) = measure_classes(prediction.astype(dtypes[0]), reference.astype(dtypes[1]), (1, 1, 1), {"a": (1,)})
    assert (facts.tp, facts.fp, facts.fn) == plain.counts(prediction, reference)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64])
def test_the_smallest_and_the_largest_label_of_a_dtype(dtype):
    limits = np.iinfo(dtype)
    prediction = np.full((3, 4, 5), limits.max, dtype)
    prediction[0] = limits.min
    reference = np.roll(prediction, 1, axis=0)
    # Labels beyond the dtype cannot occur and must not wrap around to ones that do.
    classes = {"min": (limits.min,), "max": (limits.max,), "beyond": (limits.max + 1, limits.min - 1, -(2**70))}
    for name, facts in measure_classes(prediction, reference, (1, 1, 1), classes):
        counts = {"min": (0, 20, 20), "max": (20, 20, 20), "beyond": (0, 0, 0)}[name]
        assert (facts.tp, facts.fp, facts.fn) == counts, name
