"""The BrainSegFounder adapter: layouts, stem rules, merging order, and that no fault passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from harness.adapters.brainsegfounder import published_names
from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.cards.library import index, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.report import LoadReport
from harness.errors import UserError
from harness.networks.swin_unetr import DIVISOR, SwinSSL, SwinUNETR

CARDS = [name for name in index("model") if name.startswith(("brainsegfounder.", "swin_unetr."))]
REGIONS = Task("segmentation", in_channels=4, out_channels=2)
SMALL = {"feature_size": 12, "depths": [1, 2, 1, 1], "num_heads": [1, 2, 4, 8]}
PRETEXT, FINE_TUNED = "brainsegfounder.ssl_small_fold0", "brainsegfounder.brats_tiny_fold0"
Weights = dict[str, Tensor]


def narrow(name: str) -> ModelCard:
    """Return the published card with a small network, so that a fault is found in milliseconds."""
    card = model_card(name)[0]
    return card.model_copy(update={"architecture": card.architecture | SMALL, "floor": 0.9})


def forge(card: ModelCard) -> Weights:
    """Make the tensors of a file, different from any fresh network's."""
    torch.manual_seed(7)
    state = build(card, Task("published"), {}, None).network.state_dict()
    prefix = card.checkpoint.prefix if card.checkpoint else ""
    return {prefix + n: t.clone() + (torch.rand_like(t) if t.is_floating_point() else 0) for n, t in state.items()}


def save(weights: Weights, path: Path) -> Path:
    """Write what the authors' trainer writes, the best score as a NumPy scalar included."""
    torch.save({"epoch": 3, "best_acc": np.float64(0.9), "state_dict": weights}, path)
    return path


def load(card: ModelCard, weights: Weights, folder: Path, task: Task = REGIONS, **options: Any) -> Built:
    return build(card, task, options, save(weights, folder / "w.pt"))


def report_of(built: Built) -> LoadReport:
    assert built.report is not None
    return built.report


def test_the_pretext_file_gives_the_encoder_and_nothing_else(tmp_path: Path) -> None:
    card = narrow(PRETEXT)
    weights = forge(card)
    built = load(card, weights, tmp_path)
    assert isinstance(built.network, SwinUNETR)
    assert report_of(built).counts["skipped"] == 16
    assert report_of(built).counts["loaded"] == len(weights) - 16
    assert report_of(built).counts["unused"] == report_of(built).counts["missing"] == 0
    assert report_of(built).encoder.value == 1.0
    assert report_of(built).decoder.loaded == 0
    state = built.network.state_dict()
    for name, tensor in weights.items():
        if name.startswith("module.swinViT."):
            assert torch.equal(state[name.removeprefix("module.")], tensor), name


def test_the_fine_tuned_file_gives_everything_but_the_output(tmp_path: Path) -> None:
    card = narrow(FINE_TUNED)
    weights = forge(card)
    built = load(card, weights, tmp_path)
    assert [line.name for line in report_of(built).lines if line.state == "fresh"] == [
        "out.conv.conv.weight",
        "out.conv.conv.bias",
    ]
    assert report_of(built).counts["loaded"] == len(weights) - 2
    assert built.network.state_dict()["out.conv.conv.bias"].shape == (2,)


@pytest.mark.parametrize(("name", "kind"), [(PRETEXT, SwinSSL), (FINE_TUNED, SwinUNETR)])
def test_the_published_network_is_the_one_in_the_file(tmp_path: Path, name: str, kind: type) -> None:
    card = narrow(name)
    weights = forge(card)
    built = load(card, weights, tmp_path, Task("published"))
    assert isinstance(built.network, kind)
    assert report_of(built).counts["loaded"] == len(weights)


@pytest.mark.parametrize(
    ("name", "channels", "rule", "state"),
    [
        (PRETEXT, 1, "average", "adapted"),
        (PRETEXT, 3, "slice", "adapted"),
        (PRETEXT, 4, "fresh", "fresh"),
        (FINE_TUNED, 1, "average", "adapted"),
        (FINE_TUNED, 2, "fresh", "fresh"),
    ],
)
def test_the_stem_follows_the_named_rule(tmp_path: Path, name: str, channels: int, rule: str, state: str) -> None:
    card, task = narrow(name), Task("segmentation", in_channels=channels, out_channels=2)
    built = load(card, forge(card), tmp_path, task, stem=rule)
    stem = ["swinViT.patch_embed.proj.weight"]
    if name == FINE_TUNED:
        stem += ["encoder1.layer.conv1.conv.weight", "encoder1.layer.conv3.conv.weight"]
    found = [line.name for line in report_of(built).lines if line.state == state and line.name in stem]
    assert found == stem
    assert built.network.eval()(torch.zeros(1, channels, 32, 32, 64)).shape == (1, 2, 32, 32, 64)


@pytest.mark.parametrize("name", [PRETEXT, FINE_TUNED])
def test_another_channel_count_without_a_rule_is_refused(tmp_path: Path, name: str) -> None:
    card = narrow(name)
    with pytest.raises(UserError, match=r"takes 4 input channel.* the data have 1; stem=keep cannot fit"):
        load(card, forge(card), tmp_path, Task("segmentation", in_channels=1, out_channels=2))


def test_the_merging_order_comes_from_the_card(tmp_path: Path) -> None:
    card = narrow(FINE_TUNED)
    assert card.architecture["merging"] == "legacy"
    modern = card.model_copy(update={"architecture": card.architecture | {"merging": "v2"}})
    file = save(forge(card), tmp_path / "w.pt")
    torch.manual_seed(0)
    volume = torch.randn(1, 4, 32, 32, 64)
    with torch.inference_mode():
        old, new = (build(c, Task("published"), {}, file).network.eval()(volume) for c in (card, modern))
    assert float((old - new).abs().max()) > 0.01 * float(old.std())


LAYOUTS: dict[str, Callable[[str], str]] = {
    "its own": lambda name: name,
    "module. before every name": lambda name: "module." + name,
    "ATLAS scripts": lambda name: "swinViT." + name,
    "early MONAI": lambda name: name.replace("swinViT.", "swin_vit."),
    "NVIDIA": lambda name: name.removeprefix("swinViT.").replace("mlp.linear", "mlp.fc"),
    "MONAI autoencoder": lambda name: (
        name.replace("swinViT.layers", "encoder.layers")
        .replace("swinViT.", "encoder.")
        .replace(".0.blocks", ".0.0.blocks")
        .replace(".0.downsample", ".0.0.downsample")
    ),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_known_layout_gives_the_same_network(tmp_path: Path, layout: str) -> None:
    card = narrow(PRETEXT)
    assert card.checkpoint is not None
    bare = card.model_copy(update={"checkpoint": card.checkpoint.model_copy(update={"prefix": ""})})
    weights = {name.removeprefix("module."): tensor for name, tensor in forge(card).items()}
    torch.manual_seed(1)
    wanted = load(bare, weights, tmp_path)
    torch.manual_seed(1)
    found = load(bare, {LAYOUTS[layout](name): tensor for name, tensor in weights.items()}, tmp_path)
    assert found.state_sha256 == wanted.state_sha256
    assert report_of(found).counts == report_of(wanted).counts


@pytest.mark.parametrize("layout", ["its own", "ATLAS scripts", "NVIDIA", "early MONAI"])
def test_one_odd_name_is_never_mended(layout: str) -> None:
    names = ["swinViT.patch_embed.proj.weight", "swinViT.layers1.0.blocks.0.mlp.linear1.bias", "rotation_head.bias"]
    odd = {"its own": "swinViT.swinViT.x", "ATLAS scripts": "layers1.x", "NVIDIA": "swin_vit.x", "early MONAI": "x"}
    given = [LAYOUTS[layout](name) for name in names] + [odd[layout]]
    found = published_names(given)
    assert set(names) <= set(found)
    assert not any(name.startswith("swinViT.") for name in set(found) - set(names) if layout != "its own")
    assert published_names([*given, "module." + given[0]])["module." + given[0]] == "module." + given[0]


def test_a_position_index_of_another_attention_is_refused(tmp_path: Path) -> None:
    card = narrow(FINE_TUNED)
    weights = forge(card)
    name = next(name for name in weights if name.endswith("relative_position_index"))
    weights[name] = weights[name].T.contiguous()
    with pytest.raises(UserError, match=r"not the position index of a window of 7 voxels"):
        load(card, weights, tmp_path)


def test_a_window_is_a_fact_of_the_card_and_of_the_file(tmp_path: Path) -> None:
    other = narrow(PRETEXT)
    card = other.model_copy(update={"architecture": other.architecture | {"window_size": 4}})
    weights = forge(card)
    built = load(card, weights, tmp_path)
    assert report_of(built).encoder.value == 1.0
    table = built.network.state_dict()["swinViT.layers1.0.blocks.0.attn.relative_position_bias_table"]
    assert table.shape == (7**3, 1)
    seven = other.model_copy(update={"architecture": other.architecture | {"window_size": 7}})
    with pytest.raises(UserError, match=r"it holds \{'window_size': 4\}, the card says \{'window_size': 7\}"):
        load(seven, weights, tmp_path)


def test_a_file_without_position_indices_takes_the_architectures(tmp_path: Path) -> None:
    card = narrow(PRETEXT)
    weights = {name: tensor for name, tensor in forge(card).items() if not name.endswith("relative_position_index")}
    for task in (REGIONS, Task("published")):
        report = report_of(load(card, weights, tmp_path, task))
        fresh = [line for line in report.lines if line.reason == "computed from the window"]
        assert len(fresh) == sum(SMALL["depths"])
        assert report.encoder.value == 1.0


@pytest.mark.parametrize("name", ["swinViT.layers1c.0.conv.weight", "swinViT.patch_embed.norm.weight"])
def test_a_network_with_extra_layers_is_refused(tmp_path: Path, name: str) -> None:
    card = narrow(FINE_TUNED)
    with pytest.raises(UserError, match="another network than the published"):
        load(card, forge(card) | {name: torch.zeros(3)}, tmp_path)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"depths": [1, 1, 1, 1]}, r"holds {'depths': \[1, 2, 1, 1\]}, the card says {'depths': \[1, 1, 1, 1\]}"),
        ({"feature_size": 24}, r"holds {'feature_size': 12}"),
        ({"num_heads": [3, 6, 12, 24]}, r"holds {'num_heads': \[1, 2, 4, 8\]}"),
        ({"in_channels": 1}, r"holds {'in_channels': 4}"),
        ({"layout": "segmentation", "out_channels": 3}, r"holds {'layout': 'pretext'}"),
    ],
)
def test_a_file_of_other_sizes_is_refused_with_what_it_holds(tmp_path: Path, change: dict[str, Any], says: str) -> None:
    card = narrow(PRETEXT)
    other = card.model_copy(update={"architecture": card.architecture | change})
    with pytest.raises(UserError, match=says):
        load(other, forge(card), tmp_path)


def test_no_classification_and_no_unknown_option() -> None:
    with pytest.raises(UserError, match="no classification network"):
        build(narrow(PRETEXT), Task("classification"), {}, None)
    with pytest.raises(UserError, match="Did you mean 'drop_path_rate'"):
        build(narrow(PRETEXT), REGIONS, {"drop_path": 0.1}, None)


def a_name(weights: Weights) -> str:
    return next(name for name in weights if name.endswith("layers3.0.blocks.0.attn.qkv.weight"))


def drop_one(weights: Weights) -> None:
    del weights[a_name(weights)]


def rename_one(weights: Weights) -> None:
    name = a_name(weights)
    weights[name.replace("qkv", "qvk")] = weights.pop(name)


def reshape_one(weights: Weights) -> None:
    weights[a_name(weights)] = weights[a_name(weights)].T.contiguous()


def other_prefix(weights: Weights) -> None:
    name = a_name(weights)
    weights["model." + name.removeprefix("module.")] = weights.pop(name)


def doubled_prefix(weights: Weights) -> None:
    name = a_name(weights)
    weights[name.replace("swinViT.", "swinViT.swinViT.")] = weights.pop(name)


def other_type(weights: Weights) -> None:
    weights[a_name(weights)] = weights[a_name(weights)].int()


def not_a_number(weights: Weights) -> None:
    weights[a_name(weights)].view(-1)[3] = float("nan")


def a_cut_index(weights: Weights) -> None:
    name = next(name for name in weights if name.endswith("relative_position_index"))
    weights[name] = weights[name][:8, :8].clone()


def another_family(weights: Weights) -> None:
    prefix = "module." if next(iter(weights)).startswith("module.") else ""
    weights.clear()
    weights[prefix + "down_tr64.ops.0.conv1.weight"] = torch.zeros(32, 1, 3, 3, 3)


@pytest.mark.parametrize(("name", "task"), [(PRETEXT, REGIONS), (PRETEXT, Task("published")), (FINE_TUNED, REGIONS)])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, r"1 tensors missing .*layers3.0.blocks.0.attn.qkv.weight: not in the file"),
        (rename_one, r"1 entries of the file unused .*qvk"),
        (reshape_one, r"shape \(48, 144\) in the file, \(144, 48\) in the network"),
        (other_prefix, r"1 of \d+ tensor names do not start with|1 entries of the file unused .*'model."),
        (doubled_prefix, r"1 tensors missing .*1 entries of the file unused .*swinViT.swinViT"),
        (other_type, r"type torch.int32 in the file"),
        (not_a_number, r"holds NaN"),
        (a_cut_index, r"not the position index"),
        (another_family, r"belongs to another model"),
    ],
)
def test_no_fault_passes_in_silence(
    tmp_path: Path, name: str, spoil: Callable[[Weights], None], says: str, task: Task
) -> None:
    card = narrow(name)
    weights = forge(card)
    spoil(weights)
    with pytest.raises(UserError, match=says):
        load(card, weights, tmp_path, task)


@pytest.mark.parametrize("name", [PRETEXT, FINE_TUNED])
def test_a_cast_and_an_extra_tensor_are_reported(tmp_path: Path, name: str) -> None:
    card = narrow(name)
    weights = forge(card)
    cast = a_name(weights)
    weights[cast] = weights[cast].half()
    weights[cast.replace("qkv.weight", "qkv.scale")] = torch.zeros(3)
    lines = {line.name: (line.state, line.reason) for line in report_of(load(card, weights, tmp_path)).lines}
    assert [reason for state, reason in lines.values() if state == "adapted"] == ["cast from torch.float16"]
    assert [line.rpartition(".")[2] for line, (state, _) in lines.items() if state == "unused"] == ["scale"]


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    card = narrow(PRETEXT)
    file = save(forge(card), tmp_path / "w.pt")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint|is not a file of tensors"):
        build(card, REGIONS, {}, file)


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    """As the authors' ATLAS scripts save."""
    torch.save(torch.nn.Linear(2, 2), tmp_path / "w.pt")
    with pytest.raises(UserError, match="nothing in it was executed"):
        build(narrow(PRETEXT), REGIONS, {}, tmp_path / "w.pt")


@pytest.mark.parametrize("name", CARDS)
def test_every_card_describes_a_network_that_can_be_built(name: str) -> None:
    card = model_card(name)[0]
    facts = dict(card.architecture)
    assert facts["merging"] == "legacy"
    assert card.contract.axes == "xyz"
    assert card.contract.divisible_by == (DIVISOR,) * 3
    assert len(card.contract.channels) == facts["in_channels"]
    if not card.supported:
        with pytest.raises(UserError, match="listed, not supported"):
            build(card, REGIONS, {}, None)


def test_the_parity_ids_are_known() -> None:
    ids = [f"brainsegfounder-{x}" for x in ("ssl-tiny", "ssl-small", "ssl-big", "brats-tiny", "brats-small")]
    assert [model_card(name)[0].architecture["depths"][2] for name in ids] == [2, 6, 18, 2, 6]
