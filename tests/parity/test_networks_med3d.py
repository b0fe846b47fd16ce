"""Med3D: every depth computes what the authors' code computes."""

from __future__ import annotations

from types import ModuleType

import numpy as np
import pytest
import torch

from harness.networks.med3d_decoders import Med3DSegmentation
from harness.networks.med3d_resnet import DEPTHS, PUBLISHED_SHORTCUT, Med3DResNet


def _entries(network: torch.nn.Module) -> list[tuple[str, tuple[int, ...], str]]:
    return [(k, tuple(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in network.state_dict().items()]


def _published(content: dict) -> list[tuple[str, tuple[int, ...], str]]:
    return [(entry["name"], tuple(entry["shape"]), entry["dtype"]) for entry in content["entries"]]


@pytest.mark.parametrize("depth", DEPTHS)
def test_names_shapes_and_types_are_the_published(forge: ModuleType, depth: int) -> None:
    shortcut = PUBLISHED_SHORTCUT[depth]
    with torch.device("meta"):
        encoder = Med3DResNet(depth=depth, shortcut=shortcut)
        full = Med3DSegmentation(depth=depth, shortcut=shortcut, num_classes=2, decoder="conv_seg")
    published = forge.manifest(f"med3d-resnet{depth}")
    assert published["shortcut_type"] == shortcut
    assert _entries(encoder) == _published(published)
    assert _entries(full) == _published(forge.manifest(f"med3d-resnet{depth}", "manifest_full"))


@pytest.mark.parametrize(
    "depth", [pytest.param(d, marks=[pytest.mark.slow] if d in (34, 50, 101, 152, 200) else []) for d in DEPTHS]
)
def test_every_stage_is_the_authors(forge: ModuleType, depth: int) -> None:
    content = forge.manifest(f"med3d-resnet{depth}", "manifest_full")
    stored = forge.golden(f"med3d-resnet{depth}")
    with torch.device("meta"):
        network = Med3DSegmentation(depth=depth, shortcut=content["shortcut_type"], num_classes=2, decoder="conv_seg")
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(content).items()}
    network.load_state_dict(weights, assign=True)
    volume = torch.from_numpy(forge.input_volume(tuple(stored["input_shape"])))
    with torch.inference_mode():
        outputs = network.eval().named_outputs(volume)
    assert set(outputs) == forge.output_names(stored) == {"maxpool", *(f"layer{i}" for i in range(1, 5)), "logits"}
    for name, value in outputs.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])


def test_the_comparison_notices_a_wrong_stage(forge: ModuleType) -> None:
    content, stored = forge.manifest("med3d-resnet10"), forge.golden("med3d-resnet10")
    almost = stored["logits"] + np.float32(1e-3 * stored["logits"].std())
    with pytest.raises(AssertionError, match="largest difference"):
        forge.compare(stored, "logits", almost, content["tolerance"])
