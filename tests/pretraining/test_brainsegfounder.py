"""BrainSegFounder's task: pure batches, three losses, two stages, and the file as published."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.checkpoints.hashing import state_sha256
from harness.errors import UserError
from harness.pretraining.card_writer import write_pretrained
from harness.pretraining.contrastive import grouped_nt_xent, nt_xent
from harness.pretraining.recipes import make_task
from harness.pretraining.seen import Seen
from harness.pretraining.volumes import Loaded

RECIPE = {"name": "brainsegfounder", "cubes": {"size": (64, 32, 32)}, "batch": 1, "evaluation_batches": 1}


@pytest.fixture
def card():
    """Stage 1's network a quarter as wide, with the layout of its file."""
    shipped = model_card("brainsegfounder.ssl_tiny")[0]
    return shipped.model_copy(update={"architecture": {**shipped.architecture, "feature_size": 12}})


def channels(card, count):
    return card.model_copy(update={"architecture": {**card.architecture, "in_channels": count}})


def task(volumes, seed=0, **changes):
    return make_task({**RECIPE, **changes}, volumes, ["a", "b"], ["c"], seed)


def test_batches_are_a_function_of_seed_and_step(volumes):
    one, again = task(volumes, batch=2), task(volumes, batch=2)
    again.workers = 2
    for step, batch in zip(range(2, 4), again.batches(2, 4), strict=True):
        expected = one.batch(step)
        assert all(torch.equal(batch[name], expected[name]) for name in ("image", "target", "rotation"))
    assert batch["image"].shape == batch["target"].shape == (8, 1, 64, 32, 32)
    assert batch["rotation"].shape == (8,)
    assert not torch.equal(one.batch(0)["image"], task(volumes, seed=1, batch=2).batch(0)["image"])
    assert not torch.equal(one.batch(0)["image"], one.batch(1)["image"])


def test_loss_is_the_weighted_sum_of_three(volumes):
    batch = task(volumes).batch(0)
    torch.manual_seed(0)
    answer = torch.randn(4, 4), torch.randn(4, 512), torch.randn(batch["target"].shape)

    def network(image):
        assert image is batch["image"]
        return answer

    parts = [
        F.cross_entropy(answer[0], batch["rotation"]).item(),
        nt_xent(answer[1][[0, 2, 1, 3]], 0.5).item(),  # the views of a crop follow each other in the batch
        (answer[2] - batch["target"]).abs().mean().item(),
    ]
    assert task(volumes).loss(network, batch).item() == pytest.approx(sum(parts), rel=1e-5)
    weights = {"rotation_weight": 2.0, "contrastive_weight": 0.0, "reconstruction_weight": 0.5}
    expected = 2 * parts[0] + 0.5 * parts[2]
    assert task(volumes, **weights).loss(network, batch).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
def test_evaluation_knows_chance_and_leaves_the_network_alone(volumes, card):
    one = task(volumes)
    torch.manual_seed(0)
    network = one.network(card, {})
    before = state_sha256(network.state_dict())
    scores = one.evaluate(network, "cpu")
    assert state_sha256(network.state_dict()) == before
    assert network.training
    batch = one._batch(one._held_out, 0, "evaluate", 0)
    assert scores["l1_identity"] == pytest.approx((batch["image"] - batch["target"]).abs().mean().item(), rel=1e-5)
    spread = (batch["target"] - batch["target"].median()).abs().mean().item()
    assert scores["l1_constant"] == pytest.approx(spread, rel=1e-5)
    assert scores["contrastive_chance"] == pytest.approx(math.log(3))
    assert "probe" not in scores  # nothing has labels
    assert one.validate(network) == -scores["l1"]


@pytest.mark.slow
def test_labels_serve_the_probe_alone(volumes, card):
    for volume in volumes.values():
        volume.__dict__["label"] = (volume.image[0] > 0.3).astype(np.uint8)
    one = task(volumes)
    torch.manual_seed(1)
    network = one.network(card, {})
    scores = one.evaluate(network, "cpu")
    assert 0.5 < scores["probe"] <= 1
    assert 0.5 < scores["probe_random"] <= 1
    assert scores["probe"] != scores["probe_random"]
    assert "label" not in one.batch(0)


def test_round_trip_as_published(volumes, dataset_card, tmp_path, card):
    one = task(volumes)
    torch.manual_seed(0)
    network = one.network(card, {})
    path = write_pretrained(
        tmp_path,
        base=card,
        name="mine",
        task=one,
        network=network,
        optimizer={"state": {}},
        steps=3,
        seconds=1.0,
        seen=[Seen(dataset_card, {"a": "a" * 64})],
    )
    content = torch.load(tmp_path / "mine.pt", weights_only=True)
    assert list(content) == ["global_step", "epoch", "state_dict", "optimizer"]
    assert content["global_step"] == 3
    assert len(content["state_dict"]) == 142  # as the released file of this depth
    assert all(name.startswith("module.") for name in content["state_dict"])
    written = model_card("brainsegfounder.mine", [path.parent])[0]
    loaded = build(written, Task("published"), {}, tmp_path / "mine.pt")
    assert state_sha256(loaded.network.state_dict()) == state_sha256(network.state_dict())
    segmenting = build(written, Task("segmentation", out_channels=3), {}, tmp_path / "mine.pt")
    assert segmenting.report.encoder.value == 1.0


@pytest.mark.parametrize("count", [1, 4])
def test_stage_2_goes_on_from_stage_1_with_a_new_stem_where_channels_differ(
    volumes, dataset_card, tmp_path, card, count
):
    one = task(volumes)
    torch.manual_seed(0)
    network = one.network(card, {})
    arguments = {"steps": 3, "seconds": 1.0, "seen": [Seen(dataset_card, {"a": "a" * 64})], "optimizer": None}
    write_pretrained(tmp_path, base=card, name="mine", task=one, network=network, **arguments)
    second = one.network(channels(card, count), {}, tmp_path / "mine.pt")
    parent, own = network.state_dict(), second.state_dict()
    differ = {name for name in own if own[name].shape != parent[name].shape or not torch.equal(own[name], parent[name])}
    stem = {"swinViT.patch_embed.proj.weight", "swinViT.patch_embed.proj.bias", "conv.20.weight", "conv.20.bias"}
    assert differ == (set() if count == 1 else stem)
    card_of_child = write_pretrained(
        tmp_path / "child",
        base=channels(card, count),
        name="child",
        task=one,
        network=second,
        parent=model_card("brainsegfounder.mine", [tmp_path]),
        **arguments,
    )
    child = model_card("brainsegfounder.child", [card_of_child.parent])[0]
    assert child.pretraining.parent == "brainsegfounder.mine"
    assert child.licence == "CC0-1.0"


def test_views_are_told_apart_in_groups_that_no_part_of_a_batch_may_cut(volumes):
    torch.manual_seed(0)
    rows = torch.randn(8, 5)
    parts = [nt_xent(part[[0, 2, 1, 3]]).item() for part in rows.split(4)]
    assert grouped_nt_xent(rows, 4).item() == pytest.approx(sum(parts) / 2)
    assert grouped_nt_xent(rows, 4).item() != pytest.approx(grouped_nt_xent(rows, 8).item())
    with pytest.raises(UserError, match=r"4 views apart, and a rank or a part of the batch holds 2.*recipe.contrasted"):
        grouped_nt_xent(rows[:2], 4)
    with pytest.raises(UserError, match="groups of 2"):
        task(volumes, batch=3, contrasted=2)


def test_crops_that_cannot_be_turned_or_computed_are_refused(volumes):
    for size in ((32, 64, 32), (32, 32, 32), (32, 48, 48)):
        with pytest.raises(UserError, match="do not serve"):
            task(volumes, cubes={"size": size})
    with pytest.raises(UserError, match="at least two crops"):
        task(volumes, crops=1)


def test_another_network_is_refused(volumes):
    with pytest.raises(UserError, match="not a Swin pretext network"):
        task(volumes).network(model_card("models_genesis.narrow8")[0], {})


def test_multi_channel_scans_keep_their_channels_together():
    ramp = np.arange(64 * 32 * 32).reshape(64, 32, 32)
    image = np.stack([ramp, -ramp])
    scans = {name: Loaded(image.astype(np.float32) / image.max(), fill=(0.0, 0.0)) for name in "ab"}
    batch = make_task(RECIPE, scans, ["a"], ["b"], 0).batch(0)
    assert batch["image"].shape == (4, 2, 64, 32, 32)
    assert torch.equal(batch["target"][:, 0], -batch["target"][:, 1])
