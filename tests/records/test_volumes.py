from __future__ import annotations

import numpy as np
import pytest

from harness.data.reading import read
from harness.errors import UserError
from harness.grid import Grid
from harness.records.pictures import hash_pictures
from harness.records.volumes import find_volumes, write_volumes

TILTED = ((-0.8, 0.1, 0.0, 40.0), (0.0, -0.8, 0.2, 30.0), (0.1, 0.0, 2.5, -100.0), (0.0, 0.0, 0.0, 1.0))


def case(shape, grid_affine=TILTED):
    rng = np.random.default_rng(0)
    image = rng.normal(100, 40, shape).astype(np.float32)
    reference = np.zeros(shape, np.uint16)
    reference[shape[0] // 3 : shape[0] // 2, shape[1] // 3 : shape[1] // 2, shape[2] // 3 : shape[2] // 2] = 7
    return image, reference, np.roll(reference, 2, axis=0), Grid(shape, grid_affine)


def test_what_stays_lies_where_it_lay(tmp_path):
    """Every voxel kept has the value and the place in millimetres of one voxel of the scan."""
    image, reference, prediction, grid = case((220, 200, 60))
    paths = write_volumes(tmp_path, "worst_a", image, reference, prediction, grid, (0.0, 200.0))
    shown, drawn, predicted = (read(path) for path in paths)
    assert np.prod(shown.grid.shape) <= 1 << 19
    assert shown.grid == drawn.grid == predicted.grid
    rng = np.random.default_rng(1)
    for index in zip(*(rng.integers(0, n, 40) for n in shown.grid.shape), strict=True):
        world = shown.grid.matrix @ [*index, 1]
        at = np.linalg.solve(grid.matrix, world)[:3]
        place = tuple(at.round().astype(int))
        assert np.allclose(at, place, atol=1e-3)
        assert drawn.data[index] == reference[place]
        assert predicted.data[index] == prediction[place]
        assert shown.data[index] == round(float(np.clip(image[place] / 200, 0, 1) * 255))
    assert set(np.unique(drawn.data)) == {0, 7}


def test_a_small_volume_is_cropped_to_its_structures_and_nothing_else(tmp_path):
    image, reference, prediction, grid = case((90, 90, 40), np.diag([1.0, 1.0, 1.0, 1.0]).tolist())
    drawn = read(write_volumes(tmp_path, "a", image, reference, prediction, grid)[1])
    assert drawn.grid.shape == (30 + 15 + 2 + 30, 30 + 15 + 30, 40)
    assert np.count_nonzero(drawn.data) == np.count_nonzero(reference)


def test_nothing_drawn_keeps_the_whole(tmp_path):
    image, reference, _, grid = case((20, 20, 8))
    empty = np.zeros_like(reference)
    assert read(write_volumes(tmp_path, "a", image, empty, empty, grid)[0]).grid.shape == (20, 20, 8)


def test_the_same_bytes_twice_and_every_hash_in_the_record(tmp_path):
    for name in ("one", "two"):
        write_volumes(tmp_path / name, "best_x/../y", *case((20, 20, 8)))
    one = hash_pictures(tmp_path / "one")
    assert one == hash_pictures(tmp_path / "two")
    assert find_volumes(list(one)) == {"best_x-..-y": tuple(f"best_x-..-y.{part}.nii.gz" for part in
                                                            ("image", "reference", "prediction"))}  # fmt: skip


def test_volumes_of_different_shapes_are_refused(tmp_path):
    image, reference, prediction, grid = case((20, 20, 8))
    with pytest.raises(UserError, match="three volumes of one shape"):
        write_volumes(tmp_path, "a", image[1:], reference, prediction, grid)
    assert not list(tmp_path.iterdir())
