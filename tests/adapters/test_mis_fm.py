"""The MIS-FM adapter: which head is fresh, what a small patch or more channels change, and that nothing is silent."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.cards.library import index, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.report import LoadReport
from harness.errors import UserError
from harness.networks.fmunet import FMUNet
from harness.networks.pctnet import PCTNet

CARDS = [name for name in index("model") if name.startswith("mis_fm.") and model_card(name)[0].checkpoint]
PATCH = (64, 112, 112)  # no window shrinks; the weights are forged by building, which computes nothing
SMALL = {
    "pctnet": {"feature_channels": [4, 4, 4, 8, 16], "num_heads": [2, 2, 2]},
    "fmunet": {"feature_channels": [4, 4, 4, 8, 8]},
}
Weights = dict[str, Tensor]


@functools.cache
def narrow(name: str) -> ModelCard:
    """Return the published card with fewer channels, so that a fault is found in milliseconds."""
    card = model_card(name)[0]
    return card.model_copy(update={"architecture": card.architecture | SMALL[card.architecture["network"]]})


@pytest.fixture(params=["mis_fm.pctnet_ct10k", "mis_fm.fmunet_abk1k"])
def card(request: pytest.FixtureRequest) -> ModelCard:
    return narrow(request.param)


@pytest.fixture
def pctnet() -> ModelCard:
    return narrow("mis_fm.pctnet_ct10k")


@pytest.fixture
def fmunet() -> ModelCard:
    return narrow("mis_fm.fmunet_abk1k")


def forge(card: ModelCard) -> Weights:
    """Make the tensors of a file, different from any fresh network's."""
    return {name: tensor.clone() for name, tensor in _forge(card.id).items()}


@functools.cache
def _forge(name: str) -> Weights:
    torch.manual_seed(7)
    state = build(narrow(name), Task("published", patch=PATCH), {}, None).network.state_dict()
    return {n: t.clone() + (torch.rand_like(t) if t.is_floating_point() else 0) for n, t in state.items()}


def save(weights: Weights, path: Path, *, zip_format: bool = True, key: str = "model_state_dict") -> Path:
    content = {"iteration": 3, "valid_pred": np.float32(0.5), key: weights, "optimizer_state_dict": {"state": {}}}
    torch.save(content, path, _use_new_zipfile_serialization=zip_format)
    return path


def load(card: ModelCard, weights: Weights, folder: Path, task: Task | None = None, **options: Any) -> Built:
    task = task or Task("segmentation", in_channels=1, out_channels=3, patch=PATCH)
    return build(card, task, options, save(weights, folder / "w.pt"))


def report_of(built: Built) -> LoadReport:
    assert built.report is not None
    return built.report


def test_segmentation_keeps_everything_but_the_logits(card: ModelCard, tmp_path: Path) -> None:
    weights = forge(card)
    built = load(card, weights, tmp_path)
    number = {"pctnet": 16, "fmunet": 8}[card.architecture["network"]]
    assert report_of(built).counts == {
        "loaded": len(weights) - number,
        "adapted": 0,
        "fresh": number,
        "missing": 0,
        "skipped": number,
        "unused": 0,
    }
    assert report_of(built).encoder.value == 1.0
    state = built.network.state_dict()
    fresh = {line.name for line in report_of(built).lines if line.state == "fresh"}
    for name, tensor in weights.items():
        assert name in fresh or torch.equal(state[name], tensor), name
    assert {line.reason for line in report_of(built).lines if line.state == "skipped"} == {"logits of the pretext task"}


def test_five_classes_do_not_bring_the_pretext_head_back(card: ModelCard, tmp_path: Path) -> None:
    """PyMIC loads it silently whenever the shapes agree."""
    weights, five = forge(card), Task("segmentation", out_channels=5, patch=PATCH)
    head = {"pctnet": "pred_heads.1.out_conv0.conv.2.weight", "fmunet": "out_layers.0.2.weight"}
    name = head[card.architecture["network"]]
    assert not torch.equal(load(card, weights, tmp_path, five).network.state_dict()[name], weights[name])
    asked = load(card, weights, tmp_path, five, pretext_head="published")
    assert torch.equal(asked.network.state_dict()[name], weights[name])
    assert report_of(asked).counts["skipped"] == report_of(asked).counts["fresh"] == 0


def test_the_pretext_head_needs_its_own_number_of_classes(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="needs 5 output channels, as the file has; the task has 3"):
        load(card, forge(card), tmp_path, pretext_head="published")
    with pytest.raises(UserError, match="pretext_head is 'old'"):
        load(card, forge(card), tmp_path, pretext_head="old")


def test_more_channels_repeat_the_stem_by_a_named_rule(card: ModelCard, tmp_path: Path) -> None:
    weights = forge(card)
    built = load(card, weights, tmp_path, Task("segmentation", in_channels=2, out_channels=3, patch=PATCH))
    adapted = {line.name: line.reason for line in report_of(built).lines if line.state == "adapted"}
    expected = {"fmunet": ["project"], "pctnet": [f"embeddings.{mode}.proj" for mode in range(3)]}
    assert list(adapted) == [f"{name}.weight" for name in expected[card.architecture["network"]]]
    assert set(adapted.values()) == {"one input channel repeated 2 times and divided by 2"}
    state = built.network.state_dict()
    for name in adapted:
        torch.testing.assert_close(state[name].sum(1, keepdim=True), weights[name])
        assert torch.equal(state[name][:, 0], state[name][:, 1])


def test_a_small_patch_starts_the_shrunken_bias_tables_afresh(pctnet: ModelCard, tmp_path: Path) -> None:
    lenient = pctnet.model_copy(update={"floor": 0.9})  # of so few channels the tables are a larger share
    built = load(lenient, forge(pctnet), tmp_path, Task("segmentation", out_channels=3, patch=(32, 64, 64)))
    reason = "the small input shrinks this window from 6 to 4 voxels"
    fresh = {line.name for line in report_of(built).lines if line.state == "fresh" and line.reason == reason}
    tables = {f"pyramid_ct.convtrans_e4.trans.blocks.{block}.attn.relative_position_" for block in (0, 1)}
    assert fresh == {table + part for table in tables for part in ("bias_table", "index")}
    assert fresh <= {line.name for line in report_of(built).lines if line.state == "skipped" and line.reason == reason}
    assert report_of(built).encoder.value < 1.0
    with pytest.raises(UserError, match=r"need 0.99\), 0 tensors missing"):
        load(pctnet, forge(pctnet), tmp_path, Task("segmentation", out_channels=3, patch=(32, 64, 64)))


def test_the_published_network_is_never_completed_by_chance(pctnet: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"window from 6 to 4 voxels, so that 2 bias tables of the file do not fit"):
        load(pctnet, forge(pctnet), tmp_path, Task("published", patch=(32, 64, 64)))


def test_a_patch_that_only_unshifts_loads_fully(pctnet: ModelCard, tmp_path: Path) -> None:
    built = load(pctnet, forge(pctnet), tmp_path, Task("segmentation", out_channels=3, patch=(64, 96, 96)))
    assert report_of(built).encoder.value == 1.0
    assert isinstance(built.network, PCTNet)
    assert [block.shift for block in built.network.pyramid_ct.convtrans_e4.trans.blocks] == [0, 0]


def test_index_buffers_may_be_absent_but_not_others(pctnet: ModelCard, tmp_path: Path) -> None:
    weights = forge(pctnet)
    indices = [name for name in weights if name.endswith("relative_position_index")]
    absent = {name: tensor for name, tensor in weights.items() if name not in indices}
    lines = report_of(load(pctnet, absent, tmp_path)).lines
    assert [line.name for line in lines if line.reason == "computed from the window size"] == indices
    weights[indices[0]][0, 1] += 1
    with pytest.raises(UserError, match="differs from the authors' index for a window of 6 voxels"):
        load(pctnet, weights, tmp_path)


def test_options_reach_the_network(pctnet: ModelCard, fmunet: ModelCard, tmp_path: Path) -> None:
    task = Task("segmentation", out_channels=3, patch=(32, 112, 112))
    built = load(pctnet, forge(pctnet), tmp_path, task, resolution_mode=2, deep_supervision=True)
    assert isinstance(built.network, PCTNet)
    assert (built.network.resolution_mode, built.network.deep_supervision) == (2, True)
    assert built.network.input_size == (32, 112, 112)
    assert report_of(built).encoder.value == 1.0
    flat = build(fmunet, task, {"resolution_mode": 1, "deep_supervision": True}, None).network
    assert isinstance(flat, FMUNet)
    assert (flat.res_mode, flat.deep_supervision) == (1, True)
    with pytest.raises(UserError, match=r"project.weight: shape \(4, 1, 3, 3, 3\) in the file, \(4, 1, 1, 3, 3\)"):
        load(fmunet, forge(fmunet), tmp_path, task, resolution_mode=1)


def test_without_a_patch_the_published_one_is_built(pctnet: ModelCard) -> None:
    network = build(pctnet, Task("segmentation", out_channels=2), {}, None).network
    assert isinstance(network, PCTNet)
    assert network.input_size == (64, 128, 128)


@pytest.mark.parametrize(
    ("task", "options", "says"),
    [
        (Task("classification"), {}, "has no classification network"),
        (Task("segmentation"), {"resolution": 1}, "Did you mean 'resolution_mode'"),
        (Task("segmentation"), {"resolution_mode": 3}, "resolution mode is 3"),
    ],
)
def test_what_cannot_be_built_is_refused(card: ModelCard, task: Task, options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(card, task, options, None)


def first_convolution(weights: Weights) -> str:
    return next(name for name, tensor in weights.items() if tensor.ndim == 5 and tensor.shape[1] == 4)


def drop_one(weights: Weights) -> None:
    del weights[first_convolution(weights)]


def rename_one(weights: Weights) -> None:
    name = first_convolution(weights)
    weights[name + "_"] = weights.pop(name)


def reshape_one(weights: Weights) -> None:
    name = first_convolution(weights)
    weights[name] = weights[name][:, :2].clone()


def prefix_one(weights: Weights) -> None:
    name = first_convolution(weights)
    weights["module." + name] = weights.pop(name)


def prefix_all(weights: Weights) -> None:
    for name in list(weights):
        weights["module." + name] = weights.pop(name)


def other_type(weights: Weights) -> None:
    weights[first_convolution(weights)] = weights[first_convolution(weights)].int()


def not_a_number(weights: Weights) -> None:
    weights[first_convolution(weights)].view(-1)[5] = float("nan")


def drop_a_decoder_norm(weights: Weights) -> None:
    del weights["out_layers.3.0.bias" if "out_layers.3.0.bias" in weights else "pyramid_ct.out_conv3.conv.0.bias"]


def another_family(weights: Weights) -> None:
    weights.clear()
    weights["down_tr64.ops.0.conv1.weight"] = torch.zeros(32, 1, 3, 3, 3)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, "1 tensors missing .*not in the file"),
        (rename_one, "1 entries of the file unused .*_'"),
        (reshape_one, r"shape \(4, 2, .*\) in the file, \(4, 4, .*\) in the network"),
        (prefix_one, "1 entries of the file unused .*'module."),
        (prefix_all, "None of the .* entries of the file has a place"),
        (other_type, "type torch.int32 in the file, torch.float32 in the network"),
        (not_a_number, "holds NaN"),
        (drop_a_decoder_norm, "1 tensors missing .*not in the file"),
        (another_family, "None of the 1 entries of the file has a place"),
    ],
)
def test_no_fault_passes_in_silence(
    card: ModelCard, tmp_path: Path, spoil: Callable[[Weights], None], says: str
) -> None:
    weights = forge(card)
    spoil(weights)
    with pytest.raises(UserError, match=says):
        load(card, weights, tmp_path)


def test_the_two_networks_are_not_taken_for_one_another(pctnet: ModelCard, fmunet: ModelCard, tmp_path: Path) -> None:
    for card, other in [(pctnet, fmunet), (fmunet, pctnet)]:
        with pytest.raises(UserError, match=r"None of the .* entries of the file has a place"):
            load(card, forge(other), tmp_path)


def test_another_top_level_is_refused(card: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no entry 'model_state_dict' with the weights; its top level is iteration"):
        build(card, Task("published", patch=PATCH), {}, save(forge(card), tmp_path / "w.pt", key="state_dict"))


@pytest.mark.parametrize("zip_format", [True, False])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(card: ModelCard, tmp_path: Path, share: float, zip_format: bool) -> None:
    file = save(forge(card), tmp_path / "w.pt", zip_format=zip_format)
    content = file.read_bytes()
    file.write_bytes(content[: int(share * len(content))])
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint|is not a file of tensors"):
        build(card, Task("published", patch=PATCH), {}, file)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_a_cast_is_reported(card: ModelCard, tmp_path: Path, dtype: torch.dtype) -> None:
    weights = forge(card)
    name = first_convolution(weights)
    weights[name] = weights[name].to(dtype)
    lines = report_of(load(card, weights, tmp_path)).lines
    assert [(line.name, line.reason) for line in lines if line.state == "adapted"] == [(name, f"cast from {dtype}")]


@pytest.mark.parametrize("extra", ["extra.weight", "pred_heads.1.out_conv0.conv.2.weights", "out_layers.0.2.scale"])
def test_an_extra_tensor_is_reported_as_unused(card: ModelCard, tmp_path: Path, extra: str) -> None:
    lines = report_of(load(card, forge(card) | {extra: torch.zeros(3)}, tmp_path)).lines
    assert [line.name for line in lines if line.state == "unused"] == [extra]


@pytest.mark.parametrize("name", CARDS)
def test_every_card_says_what_its_authors_say(name: str) -> None:
    card = narrow(name)
    assert card.licence == "Apache-2.0"
    assert card.checkpoint is not None
    assert all(place.kind == "google_drive" for file in card.checkpoint.files for place in file.places)
    assert card.contract.axes == "zyx"
    network = build(card, Task("published"), {}, None).network
    assert isinstance(network, PCTNet | FMUNet)
    assert network.stride == card.contract.divisible_by
    assert network.num_classes == 5


def test_both_spellings_of_the_fmunet_file_are_known() -> None:
    card = model_card("misfm-fmunet")[0]
    assert card.checkpoint is not None
    assert [file.name for file in card.checkpoint.files] == ["fmunet_abk1k_volf.pt", "fmunet_abd1k_volf.pt"]
