"""PCT-Net and FMUNet have the published layout, and the attention of PCT-Net is the authors'.

The other outputs are compared in ``test_adapter_misfm.py``, where the same networks are filled from a forged file.
"""

from __future__ import annotations

import contextlib
import copy
from types import ModuleType

import pytest
import torch

from harness.networks.fmunet import FMUNet
from harness.networks.pctnet import PCTNet

NETWORKS = {"misfm-pctnet": PCTNet, "misfm-fmunet": FMUNet}


@pytest.fixture(scope="module")
def pctnet(forge: ModuleType) -> PCTNet:
    """PCT-Net with stand-in weights; its index buffers stay as the architecture computes them."""
    network = PCTNet(num_classes=5)
    weights = forge.checkpoint(forge.manifest("misfm-pctnet"))
    answer = network.load_state_dict({k: torch.from_numpy(v) for k, v in weights.items()}, strict=False)
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


@pytest.mark.parametrize("index_of", ["the authors", "Swin"])
def test_the_bottleneck_attention_is_the_authors(forge: ModuleType, pctnet: PCTNet, index_of: str) -> None:
    network, stored = copy.deepcopy(pctnet), forge.golden("misfm-pctnet")
    if index_of == "Swin":
        axis = torch.arange(6)
        position = torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), -1).reshape(-1, 3)
        offset = position[:, None] - position[None] + 5
        for block in network.pyramid_ct.convtrans_e4.trans.blocks:
            block.attn.relative_position_index.copy_(121 * offset[..., 0] + 11 * offset[..., 1] + offset[..., 2])
    features = torch.from_numpy(forge.input_volume(tuple(stored["block_e4_input_shape"])))
    with torch.inference_mode():
        output = network.block_e4_trans(features).numpy()
    refused = pytest.raises(AssertionError, match="largest difference")
    with refused if index_of == "Swin" else contextlib.nullcontext():
        forge.compare(stored, "block_e4_trans", output, forge.manifest("misfm-pctnet")["tolerance"])
