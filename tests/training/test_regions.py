from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.errors import UserError
from harness.training.regions import Regions

BRATS = Regions.of({"TC": (1, 4), "WT": (1, 2, 4), "ET": (4,)}, (0, 1, 2, 4))


def test_class_numbers_become_one_mask_per_region() -> None:
    label = torch.tensor([0, 1, 2, 3]).reshape(1, 1, 4, 1, 1)  # numbers of the labels 0, 1, 2, 4
    masks = BRATS.target(label)
    assert masks.shape == (1, 3, 4, 1, 1)
    assert masks[0, :, :, 0, 0].tolist() == [[0, 1, 0, 1], [0, 1, 1, 1], [0, 0, 0, 1]]


def test_masks_become_labels_and_labels_the_same_masks() -> None:
    label = torch.randint(0, 4, (1, 1, 5, 6, 7), generator=torch.Generator().manual_seed(0))
    painted = BRATS.paint(BRATS.target(label)[0].numpy())
    assert painted.dtype == np.uint8
    assert np.array_equal(painted, np.array([0, 1, 2, 4])[label[0, 0].numpy()])


def test_an_inner_region_outside_of_its_outer_one_is_painted() -> None:
    masks = np.zeros((3, 1, 1, 2), np.uint8)
    masks[2, 0, 0, 1] = 1
    assert BRATS.paint(masks).ravel().tolist() == [0, 4]


def test_regions_that_cross_are_refused() -> None:
    crossing = Regions.of({"a": (1, 2), "b": (2, 3)}, (0, 1, 2, 3))
    with pytest.raises(UserError, match="only regions that lie inside each other"):
        crossing.paint(np.zeros((2, 1, 1, 1), np.uint8))


def test_a_network_of_regions_runs_from_cards_to_a_record(cell: list[str]) -> None:
    import json

    from harness.config import run_config
    from harness.run import run

    more = ["protocol.inference.activation=sigmoid", "protocol.training.steps=2", "protocol.scoring.metrics=[dice]"]
    folder = run(run_config([*cell, *more, "protocol.scoring.averaging=case_then_class"]))
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["protocol"]["inference"]["decision"] == "0.5"
    assert record["metrics"][0]["averaging"] == "case_then_class"
    assert set(record["metrics"][0]["per_class"]) == {"organ", "vessel", "lesion"}
