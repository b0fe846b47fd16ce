"""BrainSegFounder: every published layout computes what the authors' code on the MONAI of its day computes."""

from __future__ import annotations

from types import ModuleType

import pytest
import torch
from torch import nn

from harness.networks.swin_unetr import SwinSSL, SwinUNETR

_PRETEXT = [f"brainsegfounder-ssl-{size}" for size in ("tiny", "small", "big")]
_SEGMENTATION = [f"brainsegfounder-brats-{size}" for size in ("tiny", "small")]


def _build(content: dict, merging: str = "legacy") -> nn.Module:
    sizes = {key: content[key] for key in ("in_channels", "feature_size", "depths", "num_heads")}
    if "out_channels" in content:
        return SwinUNETR(out_channels=content["out_channels"], merging=merging, **sizes)
    return SwinSSL(merging=merging, **sizes)


def _load_forged(network: nn.Module, forge: ModuleType, content: dict) -> None:
    """Load strictly; the index buffers are the architecture's own, as in the manifest."""
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(content).items()}
    absent = network.load_state_dict(weights, strict=False)
    assert absent.unexpected_keys == []
    computed = {entry["name"] for entry in content["entries"] if entry.get("values") == "architecture"}
    assert set(absent.missing_keys) == computed


@pytest.mark.slow  # tests/parity/test_adapter_brainsegfounder.py runs one of them quickly
@pytest.mark.parametrize("model", [*_PRETEXT, *_SEGMENTATION])
def test_the_published_layout_computes_the_authors_outputs(forge: ModuleType, model: str) -> None:
    content, stored = forge.manifest(model), forge.golden(model)
    network = _build(content).eval()
    ours = [(k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in network.state_dict().items()]
    assert ours == [(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in content["entries"]]
    _load_forged(network, forge, content)
    with torch.inference_mode():
        outputs = network.named_outputs(torch.from_numpy(forge.input_volume(tuple(stored["input_shape"]))))
    assert set(outputs) == forge.output_names(stored)
    for name, value in outputs.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])


@pytest.mark.parametrize("merging", ["monai_1_5", pytest.param("v2", marks=pytest.mark.slow)])
def test_another_merging_order_loads_strictly_and_is_another_network(forge: ModuleType, merging: str) -> None:
    content, stored = forge.manifest("brainsegfounder-ssl-tiny"), forge.golden("brainsegfounder-ssl-tiny")
    network = _build(content, merging).eval()
    _load_forged(network, forge, content)
    with torch.inference_mode():
        hidden = network.swinViT(torch.from_numpy(forge.input_volume(tuple(stored["input_shape"]))))
    forge.compare(stored, "hidden0", hidden[0].numpy(), content["tolerance"])
    with pytest.raises(AssertionError, match="largest difference"):
        forge.compare(stored, "hidden1", hidden[1].numpy(), content["tolerance"])
