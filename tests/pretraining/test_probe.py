"""The linear probe finds what is there, finds nothing where there is nothing, and counts every class alike."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from harness.pretraining.cubes import Cubes, CubeSampler
from harness.pretraining.probe import cells, labelled_cells, linear_probe, on_grid_of, untrained
from harness.pretraining.volumes import Loaded


def test_separable_features_are_separated_whatever_their_scale():
    torch.manual_seed(0)
    labels = torch.randint(3, (600,))
    features = torch.randn(600, 5).double()
    features[torch.arange(600), labels] += 8
    features[:, 1] *= 1e6
    assert linear_probe((features[:300], labels[:300]), (features[300:], labels[300:])) > 0.99


def test_noise_is_at_chance_also_where_one_class_is_rare():
    torch.manual_seed(0)
    labels = (torch.rand(4000) < 0.05).long()
    features = torch.randn(4000, 3).double()
    score = linear_probe((features[:2000], labels[:2000]), (features[2000:], labels[2000:]))
    assert abs(score - 0.5) < 0.1


def test_rare_classes_count_as_much_as_frequent_ones():
    labels = torch.tensor([0] * 98 + [1] * 2)
    features = labels[:, None].double() + 0.01 * torch.arange(100)[:, None] / 100
    assert linear_probe((features, labels), (features, labels)) == 1.0
    blind = torch.zeros(100, 1, dtype=torch.float64)
    assert linear_probe((blind, labels), (blind, labels)) == 0.5


def test_classes_only_one_side_knows_do_not_count():
    features = torch.eye(4, dtype=torch.float64)
    assert linear_probe((features, torch.tensor([0, 1, 2, -1])), (features, torch.tensor([0, 1, 5, -1]))) == 1.0
    assert math.isnan(linear_probe((features, torch.zeros(4).long()), (features, torch.zeros(4).long())))


def test_cells_pair_features_with_the_label_at_their_centre():
    labels = torch.arange(64).reshape(1, 4, 4, 4)
    features = torch.arange(8.0).reshape(1, 1, 2, 2, 2)
    flat, coarse = cells(features, labels)
    assert flat[:, 0].tolist() == list(range(8))
    assert coarse.tolist() == labels[0, 1::2, 1::2, 1::2].flatten().tolist()


def test_untrained_networks_are_alike_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second = (untrained(lambda: torch.nn.Linear(3, 3)) for _ in range(2))
    assert torch.equal(first.weight, second.weight)
    assert torch.rand(1) == pytest.approx(expected)


def test_cells_beyond_the_scan_are_not_background():
    scan = Loaded(np.ones((1, 4, 4, 2), np.float32), np.ones((4, 4, 2), np.uint8))
    sampler = CubeSampler({"a": scan}, ["a"], Cubes(size=(4, 4, 4)))
    features, labels = labelled_cells(lambda image: image, sampler, {"a": scan}, ["a"], 1)
    assert labels.reshape(4, 4, 4)[0, 0].tolist() == [-1, 1, 1, -1]
    assert torch.equal(features[:, 0] > 0, labels >= 0)


def test_stages_meet_on_one_grid():
    fine = torch.arange(64.0).reshape(1, 1, 4, 4, 4)
    middle, coarse = torch.zeros(1, 2, 2, 2, 2), torch.full((1, 1, 1, 1, 1), 7.0)
    joined = on_grid_of(middle, [fine, middle, coarse])
    assert joined.shape == (1, 4, 2, 2, 2)
    assert joined[0, 0, 0, 0, 0] == fine[0, 0, :2, :2, :2].mean()
    assert (joined[0, 3] == 7).all()
