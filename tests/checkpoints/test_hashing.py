"""The identity of live parameters."""

from __future__ import annotations

import pytest
import torch

from harness.checkpoints.hashing import output_fingerprint, state_sha256


def test_the_hash_sees_names_types_shapes_and_values_and_nothing_else() -> None:
    base = {"a": torch.arange(6.0).reshape(1, 2, 3), "n": torch.tensor(3)}
    same = {"n": torch.tensor(3), "a": torch.arange(6.0).reshape(1, 2, 3).transpose(1, 2).contiguous().transpose(1, 2)}
    assert state_sha256(base) == state_sha256(same)
    for other in (
        {**base, "a": base["a"] + 1e-7},
        {**base, "a": base["a"].reshape(2, 3)},
        {**base, "a": base["a"].double()},
        {"b": base["a"], "n": base["n"]},
    ):
        assert state_sha256(other) != state_sha256(base)


def test_every_floating_type_can_be_hashed() -> None:
    hashes = {state_sha256({"a": torch.ones(3, dtype=kind)}) for kind in (torch.float16, torch.bfloat16, torch.bool)}
    assert len(hashes) == 3


def test_the_fingerprint_leaves_the_network_as_it_was() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Conv3d(1, 2, 3), torch.nn.BatchNorm3d(2)).train()
    before = state_sha256(network.state_dict())
    text = output_fingerprint(network, torch.randn(1, 1, 5, 5, 5))
    assert text.startswith("(1, 2, 3, 3, 3) mean ")
    assert network.training
    assert state_sha256(network.state_dict()) == before
    with torch.no_grad():
        network[0].weight.mul_(2)  # type: ignore[operator, union-attr]
    assert output_fingerprint(network, torch.randn(1, 1, 5, 5, 5)) != text


def test_a_scalar_state_hashes() -> None:
    assert state_sha256({"n": torch.tensor(1)}) != state_sha256({"n": torch.tensor(2)})


@pytest.mark.parametrize("missing", [{}, {"a": torch.zeros(0)}])
def test_empty_states_hash(missing: dict[str, torch.Tensor]) -> None:
    assert len(state_sha256(missing)) == 64
