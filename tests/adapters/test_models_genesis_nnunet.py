"""The adapter of Genesis' nnU-Net weights: fresh logits, another pooling, and that no fault passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.checkpoints.report import LoadReport
from harness.errors import UserError
from harness.networks.nnunet_generic import NNUNetGeneric

LIVER = Task("segmentation", in_channels=1, out_channels=3)
CUBE = (1, 1, 32, 32, 64)
Weights = dict[str, Tensor]


@pytest.fixture
def card() -> ModelCard:
    """The published card with fewer channels, so that a fault is found in milliseconds."""
    published = model_card("genesis-nnunet")[0]
    facts = published.architecture | {"base_features": 4, "max_features": 12}
    return published.model_copy(update={"architecture": facts})


@pytest.fixture
def weights(card: ModelCard) -> Weights:
    torch.manual_seed(7)
    state = build(card, Task("published"), {}, None).network.state_dict()
    return {name: tensor + torch.rand_like(tensor) for name, tensor in state.items()}


def load(card: ModelCard, weights: Weights, folder: Path, task: Task = LIVER, **options: Any) -> Built:
    torch.save({"epoch": 6, "state_dict": weights, "optimizer_state_dict": {}}, folder / "w.model")
    return build(card, task, options, folder / "w.model")


def report_of(built: Built) -> LoadReport:
    assert built.report is not None
    return built.report


def test_segmentation_keeps_everything_but_the_logits(card: ModelCard, weights: Weights, tmp_path: Path) -> None:
    built = load(card, weights, tmp_path)
    counts = report_of(built).counts
    assert counts == {"loaded": 93, "adapted": 0, "fresh": 5, "missing": 0, "skipped": 5, "unused": 0}
    assert report_of(built).encoder.value == 1.0
    assert built.network.eval()(torch.zeros(CUBE)).shape == (1, 3, 32, 32, 64)
    state = built.network.state_dict()
    assert all(torch.equal(state[n], t) for n, t in weights.items() if not n.startswith("seg_outputs."))


def test_the_published_network_has_the_files_logits(card: ModelCard, weights: Weights, tmp_path: Path) -> None:
    built = load(card, weights, tmp_path, Task("published"))
    assert report_of(built).counts["loaded"] == 98
    assert torch.equal(built.network.state_dict()["seg_outputs.4.weight"], weights["seg_outputs.4.weight"])


def test_another_pooling_starts_its_transposed_convolution_afresh(
    card: ModelCard, weights: Weights, tmp_path: Path
) -> None:
    pools = [[2, 2, 2]] * 4 + [[2, 2, 1]]
    built = load(card, weights, tmp_path, pool_kernels=pools)
    reason = "the task pools by other factors here"
    assert [line.name for line in report_of(built).lines if line.state == "fresh" and line.reason == reason] == [
        "tu.0.weight"
    ]
    assert isinstance(built.network, NNUNetGeneric)
    assert built.network.divisor == (32, 32, 16)


def test_deep_supervision_is_an_option(card: ModelCard) -> None:
    network = build(card, LIVER, {"deep_supervision": True}, None).network
    assert [scale.shape[1] for scale in network(torch.randn(CUBE))] == [3] * 5
    assert network.eval()(torch.randn(CUBE)).shape == (1, 3, 32, 32, 64)


@pytest.mark.parametrize(
    ("options", "says"),
    [({"pool_kernels": [[2, 2, 2]] * 4}, "tensors missing"), ({"pooling": []}, "Did you mean 'pool_kernels'")],
)
def test_a_plan_that_the_weights_do_not_fit_is_refused(
    card: ModelCard, weights: Weights, tmp_path: Path, options: dict[str, Any], says: str
) -> None:
    """The authors' loader would train from scratch and say so in one line."""
    with pytest.raises(UserError, match=says):
        load(card, weights, tmp_path, **options)


def test_more_channels_need_a_named_rule(card: ModelCard, weights: Weights, tmp_path: Path) -> None:
    two = Task("segmentation", in_channels=2, out_channels=3)
    with pytest.raises(UserError, match="stem=keep cannot fit"):
        load(card, weights, tmp_path, two)
    built = load(card, weights, tmp_path, two, stem="average")
    assert report_of(built).counts["adapted"] == 1


def test_classification_is_refused(card: ModelCard) -> None:
    with pytest.raises(UserError, match="no classification network"):
        build(card, Task("classification"), {}, None)


NAME = "conv_blocks_context.3.blocks.1.conv.weight"


def drop_one(weights: Weights) -> None:
    del weights[NAME]


def rename_one(weights: Weights) -> None:
    weights["conv_blocks_context.3.blocks.1.convolution.weight"] = weights.pop(NAME)


def reshape_one(weights: Weights) -> None:
    weights[NAME] = weights[NAME][..., :1].clone()


def prefix_one(weights: Weights) -> None:
    weights["module." + NAME] = weights.pop(NAME)


def other_type(weights: Weights) -> None:
    weights[NAME] = weights[NAME].int()


def not_a_number(weights: Weights) -> None:
    weights[NAME].view(-1)[3] = float("nan")


def another_pooling(weights: Weights) -> None:
    weights["tu.0.weight"] = weights["tu.0.weight"].repeat(1, 1, 2, 1, 1)


def another_width(weights: Weights) -> None:
    weights["conv_blocks_context.0.blocks.0.conv.weight"] = torch.zeros(8, 1, 3, 3, 3)


def another_family(weights: Weights) -> None:
    weights.clear()
    weights["down_tr64.ops.0.conv1.weight"] = torch.zeros(32, 1, 3, 3, 3)


@pytest.mark.parametrize("task", [LIVER, Task("published")])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, r"1 tensors missing .*not in the file"),
        (rename_one, r"1 entries of the file unused .*convolution"),
        (reshape_one, r"shape \(12, 12, 3, 3, 1\) in the file, \(12, 12, 3, 3, 3\) in the network"),
        (prefix_one, r"1 entries of the file unused .*'module."),
        (other_type, r"type torch.int32 in the file"),
        (not_a_number, r"holds NaN"),
        (another_pooling, r"holds {'pool_kernels': .*\[2, 2, 2\]\]}, the card says"),
        (another_width, r"holds {'base_features': 8}, the card says {'base_features': 4}"),
        (another_family, r"belongs to another model"),
    ],
)
def test_no_fault_passes_in_silence(
    card: ModelCard, weights: Weights, tmp_path: Path, spoil: Callable[[Weights], None], says: str, task: Task
) -> None:
    spoil(weights)
    with pytest.raises(UserError, match=says):
        load(card, weights, tmp_path, task)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_refused(card: ModelCard, weights: Weights, tmp_path: Path, share: float) -> None:
    load(card, weights, tmp_path)
    file = tmp_path / "w.model"
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint|is not a file of tensors"):
        build(card, LIVER, {}, file)


def test_a_cast_and_an_extra_tensor_are_reported(card: ModelCard, weights: Weights, tmp_path: Path) -> None:
    weights[NAME] = weights[NAME].half()
    weights["extra.weight"] = torch.zeros(3)
    lines = {line.name: (line.state, line.reason) for line in report_of(load(card, weights, tmp_path)).lines}
    assert lines[NAME] == ("adapted", "cast from torch.float16")
    assert lines["extra.weight"] == ("unused", "no place in the network")


def test_the_count_of_the_card_is_the_networks() -> None:
    published = model_card("models_genesis.nnunet_luna16")[0]
    with torch.device("meta"):
        network = NNUNetGeneric(**published.architecture)
    assert sum(p.numel() for p in network.parameters()) == published.parameters
    assert network.divisor == published.contract.divisible_by
