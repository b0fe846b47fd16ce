"""Starting values are held back, drawn when somebody looks, and drawn for all that no file replaces."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from harness.checkpoints.deferring import DeferredInitialisation
from harness.checkpoints.matching import Translation, load
from harness.checkpoints.reading import read


class Odd(nn.Module):
    """Fills parameters in every way that networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(2, 3, 3)
        nn.init.kaiming_normal_(self.conv.weight, mode="fan_out")
        self.linear = nn.Linear(4, 4)
        nn.init.trunc_normal_(self.linear.weight, std=0.02)
        self.norm = nn.LayerNorm(4)
        self.table = nn.Parameter(torch.zeros(3, 4))
        with torch.no_grad():
            self.table.uniform_(-1, 1).mul_(2).add_(5)
        self.twin = nn.Linear(4, 4)
        with torch.no_grad():
            self.twin.weight.copy_(self.linear.weight)
            self.twin.weight[0] = 7
            self.twin.bias.data.fill_(3)
        self.square = nn.Linear(4, 4, bias=False)
        nn.init.orthogonal_(self.square.weight)
        self.attention = nn.MultiheadAttention(4, 2)


def plain(seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return Odd().state_dict()


def test_nothing_is_drawn_that_nobody_needs() -> None:
    before = torch.get_rng_state()
    with DeferredInitialisation() as held_back:
        layer = nn.Conv3d(8, 8, 3)
    held_back.finish(layer, without={"weight", "bias"})
    assert torch.equal(torch.get_rng_state(), before)


def test_all_that_is_not_replaced_gets_values_of_the_same_kind() -> None:
    expected = plain()
    torch.manual_seed(1)
    with DeferredInitialisation() as held_back:
        network = Odd()
    held_back.finish(network, without=set())
    found = network.state_dict()
    assert found.keys() == expected.keys()
    for name, value in found.items():
        if name.startswith("norm") or name.endswith(("in_proj_bias", "out_proj.bias")):
            assert torch.equal(value, expected[name]), name
        else:
            assert value.isfinite().all(), name
            assert float(value.std()) == pytest.approx(float(expected[name].std()), rel=0.9, abs=0.4), name
    assert 3 <= found["table"].min() < found["table"].max() <= 7
    assert torch.equal(found["twin.weight"][1:], found["linear.weight"][1:])
    assert (found["twin.weight"][0] == 7).all()
    assert (found["twin.bias"] == 3).all()
    assert torch.allclose(found["square.weight"] @ found["square.weight"].T, torch.eye(4), atol=1e-5)


def test_the_values_follow_the_seed() -> None:
    def draw(seed: int) -> Tensor:
        torch.manual_seed(seed)
        with DeferredInitialisation() as held_back:
            network = Odd()
        held_back.finish(network, without={"linear.weight"})
        return network.conv.weight.detach()

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


def test_what_is_filled_from_another_tensor_waits_for_nothing() -> None:
    torch.manual_seed(0)
    with DeferredInitialisation() as held_back:
        one, other = nn.Linear(3, 3), nn.Linear(3, 3)
        with torch.no_grad():
            other.weight.mul_(0).add_(one.weight)
    held_back.finish(nn.ModuleList([one, other]), without={"0.weight", "1.weight"})
    assert torch.equal(one.weight, other.weight)
    assert float(one.weight.detach().abs().max()) > 0


def test_a_parameter_that_is_read_meanwhile_has_its_values() -> None:
    with DeferredInitialisation():
        layer = nn.Linear(50, 50)
        assert 0.05 < float(layer.weight.detach().std()) < 0.12
        assert float(layer.bias.detach().abs().max()) <= 50**-0.5


@pytest.mark.parametrize("zip_format", [True, False])
def test_parameters_keep_the_memory_that_was_read_unless_it_is_shared(tmp_path: Path, zip_format: bool) -> None:
    both = torch.rand(2, 4, 4)
    given = {
        "one.weight": torch.rand(4, 4),
        "two.weight": both[0],
        "three.weight": both[1],
        "four.weight": torch.rand(4, 4),
    }
    given["five.weight"] = given["four.weight"]  # one tensor under two names
    torch.save(given, tmp_path / "w.pt", _use_new_zipfile_serialization=zip_format)
    source = read(tmp_path / "w.pt", mapped=False).tensors
    network = nn.ModuleDict({name: nn.Linear(4, 4, bias=False) for name in ("one", "two", "three", "four", "five")})
    report = load(network, source, Translation(source, {name: name for name in source}), ("one.",), 1.0, keep=True)
    assert report.counts["loaded"] == 5
    held = {name: tensor.untyped_storage().data_ptr() for name, tensor in network.state_dict().items()}
    assert held["one.weight"] == source["one.weight"].untyped_storage().data_ptr()
    assert len(set(held.values())) == 5  # a change of one is a change of one
    for name, tensor in network.state_dict().items():
        assert torch.equal(tensor, given[name])
