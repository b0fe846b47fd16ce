"""PCT-Net and FMUNet compute what the authors' code computes."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from harness.networks.fmunet import FMUNet
from harness.networks.pctnet import PCTNet

NETWORKS = {"misfm-pctnet": PCTNet, "misfm-fmunet": FMUNet}
OUTPUTS = {
    "misfm-pctnet": {"out0", "out1", "out2", "out3", "embed_x2", "bottleneck", "block_e4_trans"},
    "misfm-fmunet": {"out0", "out1", "out2", "out3", "bottleneck"},
}


def _forged(forge: ModuleType, model: str, salt: int = 0) -> nn.Module:
    """Build the published network with stand-in weights; its own buffers stay as the architecture computes them."""
    network = NETWORKS[model](num_classes=5)
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(forge.manifest(model), salt).items()}
    answer = network.load_state_dict(weights, strict=False)
    assert not answer.unexpected_keys
    assert all(name.endswith("relative_position_index") for name in answer.missing_keys)
    return network.eval()


@pytest.mark.parametrize("model", NETWORKS)
def test_names_shapes_types_and_order_are_the_published(forge: ModuleType, model: str) -> None:
    with torch.device("meta"):
        network = NETWORKS[model](num_classes=5)
    entries = [(k, list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in network.state_dict().items()]
    assert entries == [(e["name"], e["shape"], e["dtype"]) for e in forge.manifest(model)["entries"]]


@pytest.mark.parametrize("model", NETWORKS)
def test_the_number_of_classes_changes_exactly_the_entries_the_manifest_names(forge: ModuleType, model: str) -> None:
    with torch.device("meta"):
        published, other = NETWORKS[model](num_classes=5).state_dict(), NETWORKS[model](num_classes=3).state_dict()
    changed = {name for name in published if published[name].shape != other[name].shape}
    assert changed == {e["name"] for e in forge.manifest(model)["entries"] if e.get("class_dependent")}
    assert len(changed) == {"misfm-pctnet": 16, "misfm-fmunet": 8}[model]


@pytest.mark.parametrize("model", NETWORKS)
def test_every_output_is_the_authors(forge: ModuleType, model: str) -> None:
    network, stored = _forged(forge, model), forge.golden(model)
    with torch.inference_mode():
        outputs = network.named_outputs(torch.from_numpy(forge.input_volume(tuple(stored["input_shape"]))))
        if model == "misfm-pctnet":
            features = forge.input_volume(tuple(stored["block_e4_input_shape"]))
            outputs["block_e4_trans"] = network.block_e4_trans(torch.from_numpy(features))
    assert set(outputs) == OUTPUTS[model]
    assert {name.removesuffix("__shape") for name in stored if name.endswith("__shape")} == OUTPUTS[model]
    for name, value in outputs.items():
        forge.compare(stored, name, value.numpy(), forge.manifest(model)["tolerance"])


def test_the_comparison_notices_swins_own_position_index(forge: ModuleType) -> None:
    network, stored = _forged(forge, "misfm-pctnet"), forge.golden("misfm-pctnet")
    axis = torch.arange(6)
    position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
    offset = position[:, None] - position[None] + 5
    for block in network.pyramid_ct.convtrans_e4.trans.blocks:
        block.attn.relative_position_index.copy_(121 * offset[..., 0] + 11 * offset[..., 1] + offset[..., 2])
    with torch.inference_mode():
        features = forge.input_volume(tuple(stored["block_e4_input_shape"]))
        output = network.block_e4_trans(torch.from_numpy(features)).numpy()
    with pytest.raises(AssertionError, match="largest difference"):
        forge.compare(stored, "block_e4_trans", output, forge.manifest("misfm-pctnet")["tolerance"])
