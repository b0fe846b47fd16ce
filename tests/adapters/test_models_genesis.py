"""The Models Genesis adapter: which head is fresh, what the report says, and that no fault passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.cards.model import Checkpoint, ModelCard, WeightFile
from harness.errors import UserError

SEGMENTATION = Task("segmentation", in_channels=1, out_channels=8)


@pytest.fixture(scope="module")
def card() -> ModelCard:
    """A narrow weight set in the published layout, so that a fault is found in milliseconds."""
    narrow = model_card("models_genesis.narrow8")[0]
    layout = Checkpoint(files=(WeightFile(name="narrow.pt"),), weights_key="state_dict", prefix="module.")
    return narrow.model_copy(update={"checkpoint": layout})


@pytest.fixture
def weights(card: ModelCard) -> dict[str, Tensor]:
    torch.manual_seed(7)
    network = build(card, Task("published"), {}, None).network
    return {"module." + name: tensor.clone() for name, tensor in network.state_dict().items()}


def save(weights: dict[str, Tensor], path: Path) -> Path:
    torch.save({"epoch": 3, "state_dict": weights, "optimizer_state_dict": {}}, path)
    return path


def test_segmentation_keeps_everything_but_the_head(
    card: ModelCard, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    built = build(card, SEGMENTATION, {}, save(weights, tmp_path / "w.pt"))
    assert built.report is not None
    assert built.report.counts == {"loaded": 104, "adapted": 0, "fresh": 2, "missing": 0, "skipped": 2, "unused": 0}
    assert built.report.encoder.value == 1.0
    assert built.network(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 8, 16, 16, 16)
    state = built.network.state_dict()
    assert torch.equal(state["up_tr64.ops.1.conv1.weight"], weights["module.up_tr64.ops.1.conv1.weight"])
    assert "fresh" in built.report.table()
    assert built.report.to_json()["counts"]["fresh"] == 2


def test_the_filled_network_is_asked_about_a_fixed_volume(
    card: ModelCard, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    path, task = save(weights, tmp_path / "w.pt"), replace(SEGMENTATION, patch=(16, 16, 16))
    drawn = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        built = build(card, task, {"normalization": "running"}, path, answer=True)
        drawn.append((built.answer["output"], torch.rand(1).item()))
        found = built.loading()
        assert found is not None
        assert found["fingerprint"] == {
            "input": "uniform 0 to 1, torch seed 5, shape (1, 1, 16, 16, 16)",
            "output": built.answer["output"],
        }
        assert found["state_sha256"] == built.state_sha256
    assert built.answer["output"].startswith("(1, 8, 16, 16, 16) mean ")
    assert drawn[0] == drawn[1]
    assert drawn[0][0] != drawn[2][0]  # another fresh head
    torch.manual_seed(2)
    assert build(card, task, {"normalization": "running"}, path).answer == {}
    assert torch.rand(1).item() == drawn[2][1]  # asking takes none of the run's random numbers
    weights["module.down_tr64.ops.0.conv1.weight"] += 1
    torch.manual_seed(1)
    other = build(card, task, {"normalization": "running"}, save(weights, tmp_path / "o.pt"), answer=True)
    assert other.answer["output"] != drawn[0][0]
    assert build(card, task, {}, None, answer=True).loading() is None


def test_the_twin_starts_from_pytorchs_own_initialisation(card: ModelCard) -> None:
    torch.manual_seed(3)
    scratch = build(card, SEGMENTATION, {}, None)
    assert scratch.report is None
    convolution = scratch.network.get_submodule("down_tr128.ops.0.conv1")
    torch.manual_seed(3)
    again = build(card, SEGMENTATION, {}, None)
    assert again.state_sha256 == scratch.state_sha256
    bound = 1 / (16 * 27) ** 0.5  # torch: uniform within 1/sqrt(fan in)
    assert 0.95 * bound < convolution.weight.abs().max().item() <= bound  # type: ignore[union-attr, operator]


def test_classification_drops_the_decoder_and_says_so(
    card: ModelCard, weights: dict[str, Tensor], tmp_path: Path
) -> None:
    built = build(card, Task("classification", out_channels=1), {}, save(weights, tmp_path / "w.pt"))
    assert built.report is not None
    assert built.report.counts["skipped"] == 50
    assert built.report.counts["unused"] == 0
    assert built.network(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 1)


def test_an_unknown_option_is_refused_with_the_nearest(card: ModelCard) -> None:
    with pytest.raises(UserError, match="Did you mean 'normalization'"):
        build(card, SEGMENTATION, {"normalisation": "running"}, None)


@pytest.mark.parametrize("normalization", ["batch", "running"])
def test_batch_companions_matter_only_in_the_faithful_mode(card: ModelCard, normalization: str) -> None:
    torch.manual_seed(0)
    network = build(card, SEGMENTATION, {"normalization": normalization}, None).network.eval()
    volumes = torch.randn(2, 1, 16, 16, 16)
    with torch.no_grad():
        together, alone = network(volumes)[0], network(volumes[:1])[0]
    assert torch.allclose(together, alone, atol=1e-5) == (normalization == "running")


def drop_one(weights: dict[str, Tensor]) -> None:
    del weights["module.down_tr128.ops.0.conv1.weight"]


def rename_one(weights: dict[str, Tensor]) -> None:
    weights["module.down_tr128.ops.0.conv_1.weight"] = weights.pop("module.down_tr128.ops.0.conv1.weight")


def reshape_one(weights: dict[str, Tensor]) -> None:
    weights["module.down_tr128.ops.0.conv1.weight"] = torch.zeros(16, 16, 3, 3, 5)


def other_prefix(weights: dict[str, Tensor]) -> None:
    weights["model.down_tr128.ops.0.conv1.weight"] = weights.pop("module.down_tr128.ops.0.conv1.weight")


def other_type(weights: dict[str, Tensor]) -> None:
    weights["module.down_tr128.ops.0.conv1.weight"] = weights["module.down_tr128.ops.0.conv1.weight"].int()


def not_a_number(weights: dict[str, Tensor]) -> None:
    weights["module.down_tr128.ops.0.conv1.weight"][0, 0, 0, 0, 0] = float("nan")


def another_family(weights: dict[str, Tensor]) -> None:
    weights.clear()
    weights["module.layer1.0.conv1.weight"] = torch.zeros(4)


@pytest.mark.parametrize("task", [SEGMENTATION, Task("published")])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, "down_tr128.ops.0.conv1.weight: not in the file"),
        (rename_one, "1 entries of the file unused .*conv_1"),
        (reshape_one, r"shape \(16, 16, 3, 3, 5\) in the file, \(16, 16, 3, 3, 3\) in the network"),
        (other_prefix, "1 of 106 tensor names do not start with 'module.'"),
        (other_type, "type torch.int32 in the file"),
        (not_a_number, "holds NaN"),
        (another_family, "belongs to another model"),
    ],
)
def test_no_fault_passes_in_silence(
    card: ModelCard,
    weights: dict[str, Tensor],
    tmp_path: Path,
    spoil: Callable[[dict[str, Tensor]], None],
    says: str,
    task: Task,
) -> None:
    spoil(weights)
    with pytest.raises(UserError, match=says):
        build(card, task, {}, save(weights, tmp_path / "w.pt"))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_refused(
    card: ModelCard, weights: dict[str, Tensor], tmp_path: Path, share: float
) -> None:
    file = save(weights, tmp_path / "w.pt")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint|is not a file of tensors"):
        build(card, SEGMENTATION, {}, file)


def test_a_cast_is_reported(card: ModelCard, weights: dict[str, Tensor], tmp_path: Path) -> None:
    name = "down_tr128.ops.0.conv1.weight"
    weights["module." + name] = weights["module." + name].half()
    report = build(card, SEGMENTATION, {}, save(weights, tmp_path / "w.pt")).report
    assert report is not None
    assert [line.reason for line in report.lines if line.state == "adapted"] == ["cast from torch.float16"]


def test_an_extra_tensor_is_reported_as_unused(card: ModelCard, weights: dict[str, Tensor], tmp_path: Path) -> None:
    weights["module.extra.weight"] = torch.zeros(3)
    report = build(card, SEGMENTATION, {}, save(weights, tmp_path / "w.pt")).report
    assert report is not None
    assert [line.name for line in report.lines if line.state == "unused"] == ["extra.weight"]
