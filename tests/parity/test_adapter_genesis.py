"""Models Genesis through the real reading path: a forged file in the published layout, read, mapped, run, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.networks.genesis_unet import GenesisClassifier

MODEL = "genesis-chest-ct"


def write_forged(forge: ModuleType, path: Path, salt: int = 0) -> Path:
    """Write the published layout: prefix, top-level keys and legacy container as the authors' script leaves them."""
    content = forge.manifest(MODEL)
    weights = {
        content["prefix"] + name: torch.from_numpy(value) for name, value in forge.checkpoint(content, salt).items()
    }
    layout = {"epoch": 100, content["weights_key"]: weights, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    assert list(layout) == content["top_level"]
    torch.save(layout, path, _use_new_zipfile_serialization=False)
    return path


@pytest.fixture(scope="module")
def forged(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forged(forge, tmp_path_factory.mktemp("genesis") / "Genesis_Chest_CT.pt")


def published(weights: Path, **options: Any) -> Built:
    built = build(model_card(MODEL)[0], Task("published"), options, weights)
    built.network.eval()
    return built


def outputs(built: Built, volume: Any) -> dict[str, Any]:
    with torch.no_grad():
        return adapter("models_genesis").named_outputs(model_card(MODEL)[0], built.network, torch.from_numpy(volume))


def test_names_shapes_types_and_order_are_the_published(forge: ModuleType) -> None:
    network = build(model_card(MODEL)[0], Task("published"), {}, None).network
    entries = [(k, list(v.shape), str(v.dtype).removeprefix("torch.")) for k, v in network.state_dict().items()]
    assert entries == [(e["name"], e["shape"], e["dtype"]) for e in forge.manifest(MODEL)["entries"]]


@pytest.mark.parametrize("golden", ["golden", "golden_batch2"])
def test_outputs_are_the_authors(forge: ModuleType, forged: Path, golden: str) -> None:
    stored = forge.golden(MODEL, golden)
    built = published(forged)
    found = outputs(built, forge.input_volume(tuple(stored["input_shape"])))
    assert set(found) == {"out", "bottleneck"}
    for name, value in found.items():
        forge.compare(stored, name, value.numpy(), forge.manifest(MODEL)["tolerance"])


def test_running_statistics_are_another_network(forge: ModuleType, forged: Path) -> None:
    """The option must matter: with the stored statistics the output leaves the authors' by far more than noise."""
    stored = forge.golden(MODEL)
    found = outputs(published(forged, normalization="running"), forge.input_volume(tuple(stored["input_shape"])))
    with pytest.raises(AssertionError, match="largest difference"):
        forge.compare(stored, "bottleneck", found["bottleneck"].numpy(), forge.manifest(MODEL)["tolerance"])


def test_the_classification_head_is_the_authors(forge: ModuleType, forged: Path) -> None:
    stored = forge.golden(MODEL)
    network = build(model_card(MODEL)[0], Task("classification", out_channels=1), {}, forged).network
    assert isinstance(network, GenesisClassifier)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if name.startswith("dense_"):
                tensor.copy_(torch.from_numpy(forge.fill(name, tuple(tensor.shape))))
        logit = network.eval()(torch.from_numpy(forge.input_volume(tuple(stored["input_shape"]))))
    forge.compare(stored, "class_logit", logit.numpy(), forge.manifest(MODEL)["tolerance"])


def test_looking_never_changes_the_buffers(forge: ModuleType, forged: Path) -> None:
    built = published(forged)
    before = {name: buffer.clone() for name, buffer in built.network.named_buffers()}
    outputs(built, forge.input_volume((1, 1, 16, 16, 16)))
    assert all(torch.equal(buffer, before[name]) for name, buffer in built.network.named_buffers())
    built.network.train()
    built.network(torch.from_numpy(forge.input_volume((1, 1, 16, 16, 16))))
    assert any(not torch.equal(buffer, before[name]) for name, buffer in built.network.named_buffers())
