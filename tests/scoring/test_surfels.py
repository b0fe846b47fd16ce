"""Surface-element areas: exact where geometry is plain, symmetric everywhere, and those of the published table."""

import itertools

import numpy as np
import pytest

from harness.scoring.surfels import CORNERS, area_table

EDGE, CORNER = np.sqrt(2) / 2, np.sqrt(3) / 8
# Pattern -> area in units of a unit cube, from the geometry of the cut.
PLAIN = {
    0b00000000: 0.0,
    0b11111111: 0.0,
    0b00001111: 1.0,
    0b00000001: CORNER,
    0b11111110: CORNER,
    0b00000011: EDGE,
    0b10000001: 2 * CORNER,
    0b00000110: 2 * CORNER,
    0b01101001: 4 * CORNER,
}


@pytest.mark.parametrize(("pattern", "area"), PLAIN.items(), ids=[f"{pattern:08b}" for pattern in PLAIN])
def test_plain_cuts(pattern, area):
    assert area_table((1, 1, 1))[pattern] == pytest.approx(area, rel=1e-12)


def pattern_of(block):
    return sum(1 << bit for bit, corner in enumerate(CORNERS) if block[corner])


def block_of(pattern):
    block = np.zeros((2, 2, 2), bool)
    for bit, corner in enumerate(CORNERS):
        block[corner] = pattern >> bit & 1
    return block


@pytest.mark.parametrize("spacing", [(1, 1, 1), (0.7, 1.3, 3.0)])
def test_inside_and_outside_have_the_same_surface(spacing):
    table = area_table(spacing)
    assert table[::-1] == pytest.approx(table, rel=1e-12)


def test_turned_and_mirrored_patterns_have_turned_areas():
    spacing = np.array((0.7, 1.3, 3.0))
    table = area_table(spacing)
    for axes in itertools.permutations(range(3)):
        turned = area_table(spacing[list(axes)])
        for pattern in range(256):
            block = block_of(pattern).transpose(axes)
            for flip in itertools.product((1, -1), repeat=3):
                mirrored = block[tuple(slice(None, None, step) for step in flip)]
                assert turned[pattern_of(mirrored)] == pytest.approx(table[pattern], rel=1e-9)


def test_a_box_has_the_area_of_its_bevelled_faces():
    from harness.scoring.plain import surfel_points

    mask = np.zeros((8, 9, 10), bool)
    mask[2:6, 2:7, 2:8] = True
    spacing = (1.0, 2.0, 0.5)
    _, areas = surfel_points(mask, area_table(spacing))
    # Faces of 3 x 4, 3 x 5 and 4 x 5 whole elements, edges cut at half a voxel, eight corner triangles.
    s0, s1, s2 = spacing
    faces = 2 * (3 * 4 * s0 * s1 + 3 * 5 * s0 * s2 + 4 * 5 * s1 * s2)
    edges = 4 * (3 * s0 * np.hypot(s1, s2) / 2 + 4 * s1 * np.hypot(s0, s2) / 2 + 5 * s2 * np.hypot(s0, s1) / 2)
    corners = 8 * np.linalg.norm([s1 * s2, s0 * s2, s0 * s1]) / 8
    assert areas.sum() == pytest.approx(faces + edges + corners, rel=1e-12)
