"""The fast way to the prepared grid against the one that defines it."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from harness.data.resampling import apply_linear, apply_nearest
from harness.grid import Grid, GridSpec

LPS = tuple(tuple(row) for row in np.diag([-0.8, -0.9, 2.5, 1.0]))
PLANS = [
    {"axcodes": "RAS", "spacing": (1.5, 1.5, 1.5)},
    {"axcodes": "SAR", "spacing": (0.5, 1.0, 2.0)},
    {"axcodes": "IPL", "spacing": (5.0, 0.4, 0.9)},
    {"axcodes": "RAS", "spacing": (0.8, 0.9, 2.0)},
    {"axcodes": "ASR", "spacing": (1.2, 1.2, 1.2), "crop": ((2, 10), (1, 9), (3, 12)), "minimum_shape": (16, 8, 20)},
    {"axcodes": "PSL"},
    {"spacing": (100.0, 100.0, 100.0)},
]
# The orders in which a volume of three axes can lie in memory, and one that is a view into another.
LAYOUTS = [*itertools.permutations(range(3)), None]


def laid_out(volume, layout):
    if layout is None:
        return np.repeat(volume, 2, axis=1)[:, ::2][::-1][::-1]
    return np.ascontiguousarray(volume.transpose(layout)).transpose(np.argsort(layout))


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("plan", PLANS, ids=lambda plan: f"{plan.get('axcodes')} {plan.get('spacing')}")
def test_both_ways_are_the_same(plan, layout):
    rng = np.random.default_rng(0)
    shape = (19, 14, 11)
    spec = GridSpec.plan(Grid(shape, LPS), **plan)
    image = laid_out(rng.normal(size=shape).astype(np.float32), layout)
    label = laid_out(rng.integers(0, 9, shape).astype(np.uint8), layout)
    slow, fast = spec.apply(image, order="linear", fill=-3.0), apply_linear(spec, image, -3.0)
    assert fast.shape == slow.shape
    assert fast.flags.c_contiguous
    assert np.abs(fast - slow).max() < 1e-5
    assert np.array_equal(apply_nearest(spec, label, 7), spec.apply(label, order="nearest", fill=7))


def test_more_planes_than_one_block():
    rng = np.random.default_rng(0)
    spec = GridSpec.plan(Grid((100, 6, 5), LPS), spacing=(0.6, 1.0, 2.0))
    image = rng.normal(size=(100, 6, 5)).astype(np.float32)
    for volume in (image, np.asfortranarray(image)):
        assert np.abs(apply_linear(spec, volume, 0.0) - spec.apply(image, order="linear", fill=0)).max() < 1e-5
