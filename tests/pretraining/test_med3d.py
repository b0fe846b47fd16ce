"""Med3D's co-training: turns, branches that mind their own data set, missing labels, and an encoder as published."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.checkpoints.hashing import state_sha256
from harness.errors import UserError
from harness.pretraining.card_writer import write_pretrained
from harness.pretraining.co_training import CoTraining, co_training_loss
from harness.pretraining.med3d_data import INTENSITY, labelled_patch, median_spacing
from harness.pretraining.randomness import sample_state
from harness.pretraining.recipes import make_task
from harness.pretraining.seen import Seen
from harness.pretraining.volumes import Loaded, Together

RECIPE = {
    "name": "med3d",
    "size": (16, 24, 24),
    "batch": 3,
    "classes": {"two": 2, "three": 3},
    "evaluation_patches": 3,
}
TRAIN, HELD_OUT = ["two/t0", "two/t1", "three/h0", "three/h1"], ["two/t2", "three/h2"]


def task(labelled, seed=0, **changes):
    return make_task({**RECIPE, **changes}, labelled, TRAIN, HELD_OUT, seed)


def encoder_card():
    return model_card("med3d.resnet10")[0]


def test_batches_are_a_function_of_seed_and_step_and_data_sets_take_turns(labelled):
    one, again = task(labelled), task(labelled)
    again.workers = 2
    turns = []
    for step, batch in zip(range(4), again.batches(0, 4), strict=True):
        expected = one.batch(step)
        assert all(torch.equal(batch[name], expected[name]) for name in ("image", "label", "dataset"))
        turns += batch["dataset"].tolist()
    assert turns == [0, 1] * 6
    assert one.datasets == ("three", "two")
    assert batch["image"].shape == (3, 1, 16, 24, 24)
    assert batch["label"].shape == (3, 16, 24, 24)
    assert not torch.equal(one.batch(0)["image"], task(labelled, seed=1).batch(0)["image"])


def test_a_branch_learns_from_its_own_data_set_only(labelled):
    one = task(labelled)
    network = one.network(encoder_card(), {})
    batch = one.batch(0)
    own = batch["dataset"] == 1
    one.loss(network, {name: value[own] for name, value in batch.items()}).backward()
    assert network.branches[0].weight.grad is None
    assert network.branches[1].weight.grad.abs().sum() > 0
    assert network.encoder.conv1.weight.grad.abs().sum() > 0
    answers = network(batch["image"], batch["dataset"])
    assert [logits.shape[1] for _, logits in answers] == [3, 2]
    assert [rows.tolist() for rows, _ in answers] == [[0, 2], [1]]


def test_voxels_nobody_annotated_do_not_count():
    logits, label = torch.randn(2, 3, 4, 4, 4), torch.randint(3, (2, 4, 4, 4))
    label[0, :2] = -1
    rows = torch.arange(2)
    before = co_training_loss([(rows, logits)], label)
    changed = logits.clone()
    changed[0, :, :2] += 10 * torch.randn(3, 2, 4, 4)
    assert co_training_loss([(rows, changed)], label) == before
    expected = [
        -logits[n].log_softmax(0).gather(0, label[n].clamp(min=0)[None])[0][label[n] >= 0].mean() for n in (0, 1)
    ]
    assert before.item() == pytest.approx(torch.stack(expected).mean().item(), rel=1e-5)
    label[1] = -1
    alone = co_training_loss([(rows, logits)], label)
    assert alone.item() == pytest.approx(expected[0].item() / 2, rel=1e-5)


def test_the_ignored_index_becomes_not_annotated_and_is_never_centred_on():
    label = np.zeros((20, 20, 20), np.uint8)
    label[:10] = 9
    label[15, 15, 15] = 1
    volume = Loaded(np.zeros((1, 20, 20, 20), np.float32), label)
    for step in range(10):
        patch = labelled_patch(volume, (5, 5, 5), 1.0, 9, sample_state(0, "t", step))
        assert patch["label"][2, 2, 2] == 1  # centred on the one foreground voxel
        whole = labelled_patch(volume, (20, 20, 20), 0.0, 9, sample_state(0, "t", step))
        assert (whole["label"] == -1).sum() == 10 * 20 * 20


def test_patches_stay_inside_and_small_volumes_are_padded():
    volume = Loaded(np.ones((1, 6, 20, 20), np.float32), np.ones((6, 20, 20), np.uint8), fill=(-3.0,))
    patch = labelled_patch(volume, (10, 12, 12), 0.5, None, sample_state(0, "t", 0))
    assert (patch["image"] == -3).sum() == 4 * 12 * 12
    assert torch.equal(patch["label"] == 0, patch["image"][0] == -3)


def test_cases_without_a_label_are_left_out_and_said(labelled):
    parts = {case: labelled[case] for case in labelled}
    parts["two/t1"] = Loaded(parts["two/t1"].image)
    one = make_task(RECIPE, parts, TRAIN, HELD_OUT, 0)
    assert one.facts()["without_label"] == ["two/t1"]
    assert one.facts()["trained_on"] == {"three": ["three/h0", "three/h1"], "two": ["two/t0"]}


def test_wrong_data_are_refused(labelled):
    with pytest.raises(UserError, match=r"number of classes is not given.*recipe.classes"):
        task(labelled, classes={"two": 2})
    with pytest.raises(UserError, match="two has only one kind"):
        make_task(RECIPE, labelled, TRAIN, ["three/h2"], 0)
    bare = {case: Loaded(labelled[case].image) for case in labelled}
    with pytest.raises(UserError, match="None of the cases to train on has a label"):
        make_task(RECIPE, bare, TRAIN, HELD_OUT, 0)
    with pytest.raises(UserError, match="not a Med3D encoder"):
        task(labelled).network(model_card("models_genesis.narrow8")[0], {})


def test_together_keeps_data_sets_apart():
    one, two = Loaded(np.zeros((1, 2, 2, 2))), Loaded(np.ones((1, 2, 2, 2)))
    both = Together({"x": {"a": one}, "y": {"a": two}})
    assert sorted(both) == ["x/a", "y/a"]
    assert len(both) == 2
    assert both["y/a"] is two
    assert "z/a" not in both
    assert "a" not in both


def test_median_spacing_follows_the_anatomy_not_the_storage():
    @dataclass
    class Stored:
        spacing: tuple
        axcodes: str

    cases = [Stored((1, 2, 3), "RAS"), Stored((5, 1, 2), "SRP"), Stored((1, 4, 4), "LPI")]
    assert median_spacing(cases) == (1, 2, 4)
    with pytest.raises(UserError, match="no cases"):
        median_spacing([])
    assert (INTENSITY.rule, INTENSITY.percentiles) == ("zscore", (0.5, 99.5))


def test_evaluation_leaves_the_network_as_it_was(labelled):
    one = task(labelled)
    torch.manual_seed(3)
    network = one.network(encoder_card(), {})
    before = state_sha256(network.state_dict())
    state = torch.get_rng_state()
    scores = one.evaluate(network, "cpu")
    assert state_sha256(network.state_dict()) == before
    assert torch.equal(torch.get_rng_state(), state)
    assert network.training
    assert set(scores) == {"accuracy", "accuracy_majority", "probe", "probe_random"}
    assert all(0 <= value <= 1 for value in scores.values())
    assert scores["accuracy_majority"] > 1 / 3


def test_the_encoder_comes_back_as_published_and_the_branches_stay_behind(labelled, dataset_card, tmp_path):
    one = task(labelled)
    torch.manual_seed(0)
    network = one.network(encoder_card(), {})
    assert isinstance(network, CoTraining)
    path = write_pretrained(
        tmp_path,
        base=encoder_card(),
        name="mine",
        task=one,
        network=network,
        optimizer={"state": {}},
        steps=1,
        seconds=1.0,
        seen=[Seen(dataset_card, {"two/t0": "a" * 64})],
    )
    content = torch.load(tmp_path / "mine.pth", weights_only=True)
    assert list(content) == ["state_dict"]
    assert len(content["state_dict"]) == 72
    assert all(name.startswith("module.") for name in content["state_dict"])
    card = model_card("med3d.mine", [path.parent])[0]
    assert card.contamination[0].status == "train_overlap"
    assert card.parameters == 14355520  # the encoder's, without the branches
    loaded = build(card, Task("published"), {}, tmp_path / "mine.pth")
    assert state_sha256(loaded.network.state_dict()) == state_sha256(network.encoder.state_dict())
    fine_tuning = build(card, Task("segmentation", out_channels=4), {}, tmp_path / "mine.pth")
    assert fine_tuning.report.encoder.value == 1.0
