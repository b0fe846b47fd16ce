"""The two Volume Fusion tasks: partners, purity of batches, PyMIC's loss, learning, and the file PyMIC would write."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.checkpoints.hashing import state_sha256
from harness.errors import UserError
from harness.pretraining.card_writer import write_pretrained
from harness.pretraining.fusion_loss import class_scores, fusion_loss
from harness.pretraining.recipes import make_task
from harness.pretraining.seen import Seen
from harness.pretraining.volumes import Loaded

CURRENT = {
    "name": "volume_fusion",
    "size": (16, 32, 32),
    "smallest_block": (4, 4, 4),
    "largest_block": (8, 8, 8),
    "evaluation_batches": 2,
}
EARLIER = {
    "name": "volume_fusion_2023",
    "size": (16, 32, 32),
    "smallest_box": (4, 4, 4),
    "largest_box": (10, 20, 20),
    "evaluation_batches": 2,
}


def task(recipe, volumes, seed=0, **changes):
    return make_task({**recipe, **changes}, volumes, ["a", "b"], ["c", "small"], seed)


@pytest.mark.parametrize("recipe", [CURRENT, EARLIER], ids=["current", "2023"])
def test_batches_are_a_function_of_seed_and_step(volumes, recipe):
    one, again = task(recipe, volumes), task(recipe, volumes)
    again.workers = 2
    for step, batch in zip(range(3, 6), again.batches(3, 6), strict=True):
        expected = one.batch(step)
        assert all(torch.equal(batch[name], expected[name]) for name in ("image", "label"))
    assert batch["image"].shape == (2, 1, 16, 32, 32)
    assert batch["label"].shape == (2, 16, 32, 32)
    assert batch["label"].dtype == torch.int64
    assert not torch.equal(one.batch(0)["image"], task(recipe, volumes, seed=1).batch(0)["image"])
    assert not torch.equal(one.batch(0)["image"], one.batch(1)["image"])


def test_2023_partner_is_the_predecessor_and_another_scan():
    volumes = {name: Loaded(np.full((1, 20, 36, 36), float(value))) for value, name in enumerate("pqrs", start=1)}
    made = make_task({**EARLIER, "batch": 2}, volumes, ["p", "q"], ["r", "s"], 0)
    for step in range(10):
        batch = made.batch(step)
        own = [batch["image"][n][0][batch["label"][n] == 0].unique().tolist() for n in range(2)]
        partner = [batch["image"][n][0][batch["label"][n] == 4].unique().tolist() for n in range(2)]
        assert sorted(own) == [[1.0], [2.0]]
        assert partner == own[::-1]  # the batch rolled by one
    alone = make_task({**EARLIER, "batch": 1}, volumes, ["p", "q"], ["r", "s"], 0).batch(0)
    assert len(alone["image"].unique()) > 1


def test_current_recipe_stays_within_one_scan_and_in_the_unit_range(volumes):
    one = make_task(CURRENT, volumes, ["a"], ["c"], 0)
    for step in range(5):
        image = one.batch(step)["image"]
        assert image.min() >= 0
        assert image.max() <= 1
    everything_inverted = make_task({**CURRENT, "invert": 1.0, "block_share": 0.0}, volumes, ["a"], ["c"], 0)
    never = make_task({**CURRENT, "invert": 0.0, "block_share": 0.0}, volumes, ["a"], ["c"], 0)
    torch.testing.assert_close(everything_inverted.batch(0)["image"], 1 - never.batch(0)["image"])


def test_2023_needs_two_scans_and_says_which_recipe_does_not(volumes):
    with pytest.raises(UserError, match="recipe=volume_fusion"):
        make_task(EARLIER, volumes, ["a", "b"], ["c"], 0)


def test_classes_must_fit_the_card(volumes):
    with pytest.raises(UserError, match=r"5 output classes.*highest=3 makes 4"):
        task(CURRENT, volumes, highest=3).network(model_card("mis_fm.fmunet_abk1k")[0], {})


def test_loss_is_that_of_pymic():
    """Against the formula written out: Dice over the whole batch and all classes with smoothing, plus cross entropy."""
    torch.manual_seed(0)
    logits, classes = torch.randn(2, 3, 4, 4, 4), torch.randint(3, (2, 4, 4, 4))
    shares = logits.softmax(1).movedim(1, -1).reshape(-1, 3).numpy()
    hot = np.eye(3)[classes.reshape(-1).numpy()]
    dice = np.mean((2 * (shares * hot).sum(0) + 1e-5) / (shares.sum(0) + hot.sum(0) + 1e-5))
    entropy = -np.log((shares * hot).sum(1)).mean()
    assert fusion_loss(logits, classes, 3).item() == pytest.approx((1 - dice + entropy) / 2, rel=1e-5)


def test_deep_supervision_halves_the_weight_and_averages_the_target():
    torch.manual_seed(0)
    classes = torch.randint(3, (1, 4, 4, 4))
    fine, coarse = torch.randn(1, 3, 4, 4, 4), torch.randn(1, 3, 2, 2, 2)
    soft = torch.nn.functional.one_hot(classes, 3).movedim(-1, 1).double()
    soft = soft.reshape(1, 3, 2, 2, 2, 2, 2, 2).mean((3, 5, 7))
    shares = coarse.double().softmax(1)
    dice = (2 * (shares * soft).sum((0, 2, 3, 4)) + 1e-5) / ((shares + soft).sum((0, 2, 3, 4)) + 1e-5)
    entropy = -(soft * shares.log()).sum(1).mean()
    expected = (fusion_loss(fine, classes, 3).item() + 0.5 * ((1 - dice.mean() + entropy) / 2).item()) / 1.5
    assert fusion_loss([fine, coarse], classes, 3).item() == pytest.approx(expected, rel=1e-5)


def test_a_saturated_network_gives_no_nan():
    classes = torch.zeros(1, 2, 2, 2, dtype=torch.int64)
    logits = torch.zeros(1, 2, 2, 2, 2)
    logits[:, 1] = 500.0  # PyMIC's own cross entropy is NaN beyond a gap of 104
    assert torch.isfinite(fusion_loss(logits, classes, 2))


def test_class_scores_of_known_counts():
    accuracy, dice = class_scores(torch.tensor([[8, 2], [0, 10]]))
    assert accuracy == pytest.approx(0.9)
    assert dice == pytest.approx((16 / 18 + 20 / 22) / 2)
    assert class_scores(torch.tensor([[5, 0, 0], [5, 0, 0], [0, 0, 0]]))[1] == pytest.approx((10 / 15 + 0) / 2)


@pytest.mark.parametrize("name", ["mis_fm.fmunet_abk1k", "mis_fm.pctnet_ct10k"])
def test_round_trip_in_the_layout_of_pymic(volumes, dataset_card, tmp_path, narrow, name):
    card = narrow(name)
    one = task(CURRENT, volumes, size=(32, 32, 32))
    torch.manual_seed(0)
    network = one.network(card, {"deep_supervision": True})
    one.loss(network, one.batch(0)).backward()
    path = write_pretrained(
        tmp_path,
        base=card,
        name="mine",
        task=one,
        network=network,
        optimizer={},
        steps=1,
        seconds=1.0,
        seen=[Seen(dataset_card, {"a": "a" * 64})],
    )
    content = torch.load(tmp_path / "mine.pt", weights_only=True)
    assert list(content) == ["iteration", "valid_pred", "model_state_dict", "optimizer_state_dict"]
    written = model_card("mis_fm.mine", [path.parent])[0]
    loaded = build(written, Task("published"), {}, tmp_path / "mine.pt")
    assert state_sha256(loaded.network.state_dict()) == state_sha256(network.state_dict())
    fresh = build(written, Task("segmentation", out_channels=3, patch=(32, 32, 32)), {}, tmp_path / "mine.pt")
    assert fresh.report.encoder.value == 1.0


def test_evaluation_scores_the_majority_class_beside_the_network(volumes):
    class Majority(torch.nn.Module):
        """Answers class 0, which is the most frequent, everywhere."""

        def forward(self, x):
            return torch.cat([torch.ones_like(x), torch.zeros_like(x).expand(-1, 4, -1, -1, -1)], 1)

    one = task(CURRENT, volumes)
    scores = one.evaluate(Majority(), "cpu")
    assert scores == task(CURRENT, volumes, seed=9).evaluate(
        Majority(), "cpu"
    )  # the samples are the same for every seed
    assert (scores["accuracy"], scores["dice"]) == (scores["accuracy_majority"], scores["dice_majority"])
    labels = torch.cat([one.batch(step)["label"] for step in range(20)])
    assert scores["accuracy"] == pytest.approx((labels == 0).double().mean().item(), abs=0.1)
