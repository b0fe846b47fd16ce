"""Fine-tuning modes on real networks: what is frozen stays bit for bit, what learns learns at its own rate."""

from __future__ import annotations

import copy

import pytest
import torch
from pydantic import ValidationError
from torch import Tensor, nn

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.adapters.parts import Parts
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.errors import UserError
from harness.training.finetuning import Finetuning, LowRank, spell
from harness.training.tuning import Tuning

TASK = Task("segmentation", 1, 3, (16, 16, 16))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(8, 24)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.qkv(x).chunk(3, -1)
        return torch.softmax(query @ key.transpose(1, 2), -1) @ value


class Small(nn.Module):
    """Two encoder stages with batch norm, drop-out and attention; a decoder with batch norm; an output layer."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv3d(1, 8, 3, padding=1)
        self.norm = nn.BatchNorm3d(8)
        self.drop = nn.Dropout(0.5)
        self.deep = Attention()
        self.up = nn.Sequential(nn.Conv3d(8, 8, 1), nn.BatchNorm3d(8))
        self.out = nn.Conv3d(8, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.drop(self.norm(self.stem(x)))
        x = self.deep(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(x.shape)
        answer: Tensor = self.out(self.up(x))
        return answer


PARTS = Parts(("stem.", "norm.", "drop.", "deep."), (r"^(stem|norm)\.", r"^deep\."), r"^out\.")
X = torch.randn(2, 1, 4, 4, 4, generator=torch.Generator().manual_seed(1))


def small() -> Small:
    torch.manual_seed(0)
    return Small()


def steps(network: nn.Module, tuning: Tuning, count: int, start: int = 0) -> None:
    optimizer = torch.optim.AdamW(tuning.groups(0.01), weight_decay=0.1)
    network.train()
    for step in range(start, start + count):
        tuning.enter(step)
        optimizer.zero_grad(set_to_none=True)
        network(X).square().mean().backward()
        optimizer.step()


def changed(before: dict[str, Tensor], network: nn.Module) -> set[str]:
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def snapshot(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


DECODER = {"up.0.weight", "up.1.weight", "up.1.bias", "out.weight", "out.bias"}
STATISTICS = {"up.1.running_mean", "up.1.running_var", "up.1.num_batches_tracked"}


def test_a_frozen_encoder_keeps_weights_and_statistics_bit_for_bit() -> None:
    network = small()
    tuning, before = Tuning(network, Finetuning(mode="frozen_encoder"), PARTS), snapshot(network)
    steps(network, tuning, 3)
    assert changed(before, network) - {"up.0.bias"} == DECODER | STATISTICS
    network.train()
    assert not any(module.training for module in (network.stem, network.norm, network.drop, network.deep.qkv))
    assert network.up[1].training
    assert network.training
    assert network.stem.weight.grad is None
    assert tuning.trainable == sum(
        p.numel() for name, p in network.named_parameters() if name.startswith(("up", "out"))
    )


def test_a_linear_probe_trains_the_output_layer_alone() -> None:
    network = small()
    tuning, before = Tuning(network, Finetuning(mode="linear_probe"), PARTS), snapshot(network)
    steps(network, tuning, 3)
    assert changed(before, network) == {"out.weight", "out.bias"}
    assert not network.up[1].training


def test_a_linear_probe_over_a_random_decoder_is_refused() -> None:
    fresh = Parts(PARTS.encoder, PARTS.stages, PARTS.output, frozenset({"up.0.weight", "out.weight", "out.bias"}))
    with pytest.raises(UserError, match=r"1 parameters other than the output layer.*up\.0\.weight"):
        Tuning(small(), Finetuning(mode="linear_probe"), fresh)
    with pytest.raises(UserError, match="names none"):
        Tuning(small(), Finetuning(mode="linear_probe"), Parts(PARTS.encoder))


def test_what_loading_left_fresh_in_the_encoder_learns() -> None:
    network = small()
    fresh = Parts(PARTS.encoder, PARTS.stages, PARTS.output, frozenset({"stem.weight", "stem.bias"}))
    tuning, before = Tuning(network, Finetuning(mode="frozen_encoder"), fresh), snapshot(network)
    steps(network, tuning, 2)
    assert {"stem.weight"} <= changed(before, network)
    assert not {"deep.qkv.weight", "norm.weight", "norm.running_mean"} & changed(before, network)


def test_sawtooth_frees_the_encoder_at_its_step_and_not_before() -> None:
    network = small()
    tuning = Tuning(network, Finetuning(mode="sawtooth", decoder_steps=2), PARTS)
    before = snapshot(network)
    assert tuning.trainable == sum(p.numel() for p in network.parameters())
    steps(network, tuning, 2)
    assert not {name for name in changed(before, network) if name.startswith(PARTS.encoder)}
    steps(network, tuning, 1, start=2)
    assert {"stem.weight", "norm.weight", "norm.running_mean", "deep.qkv.weight"} <= changed(before, network)
    assert network.drop.training
    network.eval()
    assert not network.drop.training


def test_learning_rates_fall_with_the_distance_from_the_decoder() -> None:
    network = small()
    tuning = Tuning(network, Finetuning(encoder_lr_factor=0.5, stage_decay=0.1), PARTS)
    names = {id(parameter): name for name, parameter in network.named_parameters()}
    rates = {names[id(p)]: group["lr"] for group in tuning.groups(0.2) for p in group["params"]}
    assert tuning.groups(0.2)[0]["lr"] == 0.2
    assert {rates[name] for name in rates if name.startswith(("up", "out"))} == {0.2}
    assert rates["deep.qkv.weight"] == pytest.approx(0.2 * 0.5 * 0.1)
    assert rates["stem.weight"] == rates["norm.bias"] == pytest.approx(0.2 * 0.5 * 0.01)
    assert len(rates) == len(names)


@pytest.mark.parametrize("on", [("attention",), ("convolution",), ("attention", "convolution")])
def test_low_rank_updates_start_as_the_identity_and_merge_into_what_they_computed(on: tuple[str, ...]) -> None:
    plain = small()
    network = copy.deepcopy(plain)
    low = LowRank(rank=2, alpha=4, on=on)  # type: ignore[arg-type]
    tuning = Tuning(network, Finetuning(mode="lora", lora=low), PARTS)
    assert torch.equal(network.eval()(X), plain.eval()(X))
    steps(network, tuning, 3)
    learnt = network.eval()(X)
    assert not torch.equal(learnt, plain(X))
    tuning.finish()
    assert torch.equal(network(X), learnt)
    assert network.state_dict().keys() == plain.state_dict().keys()
    moved = {name for name in changed(snapshot(plain), network) if name.startswith(PARTS.encoder)}
    assert moved == {"attention": {"deep.qkv.weight"}, "convolution": {"stem.weight"}}.get(
        on[0] if len(on) == 1 else "", {"deep.qkv.weight", "stem.weight"}
    )
    difference = (network.stem.weight - plain.stem.weight).detach().flatten(1)
    assert torch.linalg.matrix_rank(difference, rtol=1e-3) == (2 if "convolution" in on else 0)


def test_low_rank_updates_are_exact_under_autocast() -> None:
    network = small()
    Tuning(network, Finetuning(mode="lora"), PARTS)
    with torch.no_grad():
        network.stem.parametrizations.weight[0].up.fill_(0.3)
    full = network.stem.weight
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(network.stem.weight, full)


def test_low_rank_updates_need_a_layer() -> None:
    parts = Parts(("norm.",), (), PARTS.output)
    with pytest.raises(UserError, match="no layer of the kinds attention, convolution"):
        Tuning(small(), Finetuning(mode="lora"), parts)


def test_a_network_without_known_parts_is_trained_in_full_or_not_at_all() -> None:
    network = small()
    (group,) = Tuning(network, Finetuning(), None).groups(0.1)
    assert len(group["params"]) == len(list(network.parameters()))
    with pytest.raises(UserError, match="acts on a model's encoder"):
        Tuning(network, Finetuning(mode="frozen_encoder"), None)


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "sawtooth"},
        {"decoder_steps": 3},
        {"lora": {"rank": 2}},
        {"mode": "frozen_encoder", "encoder_lr_factor": 0.1},
        {"mode": "lora", "lora": {"on": []}},
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Finetuning.model_validate(settings)


def test_settings_are_spelt_for_the_record() -> None:
    assert spell(Finetuning()) == "full fine-tuning"
    assert "rank 4, alpha 8" in spell(Finetuning(mode="lora", lora=LowRank(rank=4)))


def built(model: str, patch: tuple[int, int, int]) -> Built:
    card, _ = model_card(model)
    return build(card, Task("segmentation", len(card.contract.channels), 3, patch), {}, None)


@pytest.mark.parametrize(
    ("model", "patch"),
    [
        ("models_genesis.narrow8", (16, 16, 16)),
        ("swin_unetr.btcv_tiny", (64, 32, 32)),
        ("med3d.resnet10", (16, 16, 16)),
        ("mis_fm.fmunet_abk1k", (32, 32, 32)),
        ("mis_fm.pctnet_ct10k", (32, 32, 32)),
        ("models_genesis.nnunet_luna16", (32, 32, 32)),
    ],
)
def test_every_family_says_what_its_parts_are(model: str, patch: tuple[int, int, int]) -> None:
    found = built(model, patch)
    parts = found.parts
    assert parts is not None
    names = [name for name, _ in found.network.named_parameters()]
    encoder = [name for name in names if parts.in_encoder(name)]
    distances = [parts.distance(name) for name in encoder]
    assert set(distances) == set(range(1, len(parts.stages) + 1)) or model.startswith("models_genesis.nnunet")
    assert 0 < sum(map(parts.in_output, names)) <= 20
    assert not any(map(parts.in_output, encoder))
    family = adapter(model_card(model)[0].adapter)
    assert parts.stages == family.stages
    Tuning(found.network, Finetuning(mode="lora"), parts)
    assert not found.network.state_dict().keys() >= set(encoder)  # some weight is now base and update
