"""The Med3D adapter: what is fresh, what the file itself decides, and that no fault passes in silence."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.cards.library import index, model_card
from harness.cards.model import ModelCard
from harness.checkpoints.report import LoadReport
from harness.errors import UserError
from harness.networks import med3d_resnet
from harness.networks.med3d_decoders import Med3DSegmentation

CARDS = [name for name, card in index("model").items() if name.startswith("med3d.") and "checkpoint" in card.content]
SEGMENTATION = Task("segmentation", in_channels=1, out_channels=3)
Weights = dict[str, Tensor]


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build every stage with an eighth of its channels, so that a fault is found in milliseconds."""
    monkeypatch.setattr(med3d_resnet, "_PLANES", (8, 16, 32, 64))


def card(depth: int = 10) -> ModelCard:
    return model_card(f"med3d.resnet{depth}")[0]


def forge(depth: int = 10, classes: int | None = None) -> Weights:
    """Make the tensors of a file, different from any fresh network's; with the authors' head where asked for."""
    torch.manual_seed(7)
    described = card(depth)
    if classes is not None:
        facts = described.architecture | {"num_classes": classes}
        described = described.model_copy(update={"architecture": facts})
    state = build(described, Task("published"), {}, None).network.state_dict()
    return {"module." + n: t.clone() + (torch.rand_like(t) if t.is_floating_point() else 0) for n, t in state.items()}


def save(weights: Weights, path: Path) -> Path:
    torch.save({"state_dict": weights}, path, _use_new_zipfile_serialization=False)
    return path


def load(weights: Weights, folder: Path, task: Task = SEGMENTATION, depth: int = 10, **options: Any) -> Built:
    return build(card(depth), task, options, save(weights, folder / "w.pth"))


def report_of(built: Built) -> LoadReport:
    assert built.report is not None
    return built.report


@pytest.mark.parametrize("depth", [10, 18, 50])
@pytest.mark.parametrize("decoder", ["unet", "dense_aspp", "conv_seg"])
def test_segmentation_loads_the_whole_encoder_and_starts_the_head_afresh(
    tmp_path: Path, depth: int, decoder: str
) -> None:
    weights = forge(depth)
    built = load(weights, tmp_path, depth=depth, decoder=decoder)
    counts, state = report_of(built).counts, built.network.state_dict()
    assert counts["loaded"] == len(weights)
    assert counts["fresh"] == len(state) - len(weights) > 0
    assert counts["missing"] == counts["skipped"] == counts["unused"] == counts["adapted"] == 0
    assert report_of(built).encoder.value == 1.0
    assert report_of(built).decoder.loaded == 0
    for name, tensor in weights.items():
        assert torch.equal(state[name.removeprefix("module.")], tensor), name
    assert built.network.eval()(torch.zeros(1, 1, 16, 24, 16)).shape == (1, 3, 16, 24, 16)


def test_classification_puts_a_linear_layer_on_the_encoder(tmp_path: Path) -> None:
    built = load(forge(), tmp_path, Task("classification", out_channels=2))
    assert [line.name for line in report_of(built).lines if line.state == "fresh"] == [
        "classifier.weight",
        "classifier.bias",
    ]
    assert built.network.eval()(torch.zeros(2, 1, 16, 16, 16)).shape == (2, 2)


def test_the_published_file_is_an_encoder(tmp_path: Path) -> None:
    built = load(forge(), tmp_path, Task("published"))
    assert report_of(built).counts["fresh"] == 0
    assert built.network.eval()(torch.zeros(1, 1, 16, 16, 16)).shape == (1, 64, 2, 2, 2)


def test_a_file_of_the_authors_fine_tuning_brings_its_head(tmp_path: Path) -> None:
    weights = forge(classes=5)
    built = load(weights, tmp_path, Task("published"))
    assert isinstance(built.network, Med3DSegmentation)
    assert report_of(built).counts["loaded"] == len(weights)
    assert torch.equal(built.network.state_dict()["conv_seg.6.weight"], weights["module.conv_seg.6.weight"])
    lines = report_of(load(weights, tmp_path, decoder="conv_seg")).lines
    skipped = {line.name for line in lines if line.state == "skipped"}
    assert skipped == {n.removeprefix("module.") for n in weights if "conv_seg" in n}


@pytest.mark.parametrize(
    ("written", "read", "says"),
    [
        (18, 10, r"holds .*'shortcut': 'A'.*'depth': 18.*the card says .*'shortcut': 'B'.*'depth': 10"),
        (50, 34, r"'depth': 50.*'depth': 34"),
        (34, 50, r"'depth': 34.*'depth': 50"),
    ],
)
def test_another_depth_is_refused_with_what_the_file_is(tmp_path: Path, written: int, read: int, says: str) -> None:
    with pytest.raises(UserError, match=says):
        load(forge(written), tmp_path, depth=read)


def test_the_shortcut_of_the_file_must_be_the_cards(tmp_path: Path) -> None:
    weights = {name: tensor for name, tensor in forge().items() if "downsample" not in name}
    with pytest.raises(UserError, match=r"holds {'shortcut': 'A'}, the card says {'shortcut': 'B'}"):
        load(weights, tmp_path)


@pytest.mark.parametrize("rule", ["average", "fresh"])
def test_more_channels_need_a_named_rule(tmp_path: Path, rule: str) -> None:
    four = Task("segmentation", in_channels=4, out_channels=3)
    with pytest.raises(UserError, match=r"takes 1 input channel.* the data have 4; stem=keep cannot fit"):
        load(forge(), tmp_path, four)
    lenient = card().model_copy(update={"floor": 0.5})  # the stem is a larger part of a narrow network
    built = build(lenient, four, {"stem": rule}, save(forge(), tmp_path / "w.pth"))
    states = [line.state for line in report_of(built).lines if line.name == "conv1.weight"]
    assert states == (["adapted"] if rule == "average" else ["fresh", "skipped"])  # of the network, of the file
    assert built.network.eval()(torch.zeros(1, 4, 16, 16, 16)).shape == (1, 3, 16, 16, 16)


@pytest.mark.parametrize("gradient", [False, True])
def test_the_gradient_of_shortcut_a_is_an_option(gradient: bool) -> None:
    network = build(card(18), SEGMENTATION, {"shortcut_gradient": gradient}, None).network
    assert network.get_submodule("layer3.0.downsample").gradient is gradient  # type: ignore[comparison-overlap]


@pytest.mark.parametrize(
    ("options", "says"),
    [({"decoders": "unet"}, "Did you mean 'decoder'"), ({"decoder": "fcn"}, "no decoder called 'fcn'")],
)
def test_what_cannot_be_built_is_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(UserError, match=says):
        build(card(), SEGMENTATION, options, None)


NAME = "module.layer3.0.conv1.weight"


def drop_one(weights: Weights) -> None:
    del weights[NAME]


def rename_one(weights: Weights) -> None:
    weights["module.layer3.0.conv_1.weight"] = weights.pop(NAME)


def reshape_one(weights: Weights) -> None:
    weights[NAME] = weights[NAME][:, :8].clone()


def reshape_the_stem(weights: Weights) -> None:
    weights["module.conv1.weight"] = weights["module.conv1.weight"].repeat(1, 3, 1, 1, 1)


def other_prefix(weights: Weights) -> None:
    weights["model.layer3.0.conv1.weight"] = weights.pop(NAME)


def no_prefix(weights: Weights) -> None:
    for name in list(weights):
        weights[name.removeprefix("module.")] = weights.pop(name)


def doubled_prefix(weights: Weights) -> None:
    for name in list(weights):
        weights["module." + name] = weights.pop(name)


def other_type(weights: Weights) -> None:
    weights[NAME] = weights[NAME].int()


def not_a_number(weights: Weights) -> None:
    weights[NAME].view(-1)[3] = float("inf")


def another_family(weights: Weights) -> None:
    weights.clear()
    weights["module.swinViT.patch_embed.proj.weight"] = torch.zeros(48, 1, 2, 2, 2)


@pytest.mark.parametrize("task", [SEGMENTATION, Task("published")])
@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (drop_one, "1 tensors missing .*layer3.0.conv1.weight: not in the file"),
        (rename_one, "1 entries of the file unused .*conv_1"),
        (reshape_one, r"shape \(32, 8, 3, 3, 3\) in the file, \(32, 16, 3, 3, 3\) in the network"),
        (reshape_the_stem, "holds {'in_channels': 3}, the card says {'in_channels': 1}"),
        (other_prefix, r"1 of \d+ tensor names do not start with 'module.'"),
        (no_prefix, r"(\d+) of \1 tensor names do not start with 'module.'"),
        (doubled_prefix, r"None of the \d+ entries of the file has a place"),
        (other_type, "type torch.int32 in the file"),
        (not_a_number, "holds NaN or infinite"),
        (another_family, "belongs to another model"),
    ],
)
def test_no_fault_passes_in_silence(tmp_path: Path, spoil: Callable[[Weights], None], says: str, task: Task) -> None:
    weights = forge()
    spoil(weights)
    with pytest.raises(UserError, match=says):
        load(weights, tmp_path, task)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.9999])
def test_a_file_that_is_cut_off_is_refused(tmp_path: Path, share: float) -> None:
    file = save(forge(), tmp_path / "w.pth")
    file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
    with pytest.raises(UserError, match=r"cannot be read as a checkpoint|is not a file of tensors"):
        build(card(), SEGMENTATION, {}, file)


def test_a_cast_and_an_extra_tensor_are_reported(tmp_path: Path) -> None:
    weights = forge()
    weights[NAME] = weights[NAME].half()
    weights["module.fc.weight"] = torch.zeros(3)
    lines = {line.name: (line.state, line.reason) for line in report_of(load(weights, tmp_path)).lines}
    assert lines["layer3.0.conv1.weight"] == ("adapted", "cast from torch.float16")
    assert lines["fc.weight"] == ("unused", "no place in the network")


@pytest.mark.parametrize("name", CARDS)
def test_every_card_is_complete_and_its_count_is_the_networks(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    described = model_card(name)[0]
    with torch.device("meta"):
        network = med3d_resnet.Med3DResNet(**described.architecture)
    count = sum(p.numel() for p in network.parameters())
    assert count == described.parameters
    assert 1 - network.conv1.weight.numel() / count > described.floor  # stem=fresh is possible
    assert med3d_resnet.PUBLISHED_SHORTCUT[described.architecture["depth"]] == described.architecture["shortcut"]
    assert described.contract.axes == "zyx"
    assert described.licence == "MIT"
    assert described.contamination
    assert described.checkpoint is not None
    assert described.checkpoint.files[0].places[0].kind == "huggingface"


def test_all_eleven_published_files_have_a_card() -> None:
    files = {model_card(name)[0].checkpoint.files[0].name for name in CARDS}  # type: ignore[union-attr]
    both = {f"resnet_{depth}{corpus}.pth" for depth in (10, 18, 34, 50) for corpus in ("", "_23dataset")}
    assert files == both | {"resnet_101.pth", "resnet_152.pth", "resnet_200.pth"}
