"""BrainSegFounder through the real reading path: forged files as the authors save them, read, mapped, run, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.networks.swin_unetr import SwinUNETR

MODELS = [
    pytest.param("brainsegfounder-ssl-tiny"),
    pytest.param("brainsegfounder-ssl-small", marks=pytest.mark.slow),
    pytest.param("brainsegfounder-ssl-big", marks=pytest.mark.slow),
    pytest.param("brainsegfounder-brats-tiny", marks=pytest.mark.slow),
    pytest.param("brainsegfounder-brats-small", marks=pytest.mark.slow),
]


def write_forged(forge: ModuleType, model: str, path: Path) -> Path:
    """Write the authors' layout, index buffers included; the best score is a NumPy scalar, as theirs."""
    content = forge.manifest(model)
    index = _position_index()
    weights = {
        content["prefix"] + entry["name"]: index
        for entry in content["entries"]
        if entry.get("values") == "architecture"
    }
    weights |= {content["prefix"] + n: torch.from_numpy(v) for n, v in forge.checkpoint(content).items()}
    layout: dict[str, Any] = {
        "global_step": 500,
        "epoch": 9,
        "best_acc": np.float64(0.9),
        content["weights_key"]: weights,
        "optimizer": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-4}]},
    }
    torch.save({key: layout[key] for key in content["top_level"]}, path)
    return path


def _position_index() -> torch.Tensor:
    """Number the pairs of voxels in a window of 7 by their offset, from the definition and not from the network."""
    place = np.stack(np.meshgrid(*[np.arange(7)] * 3, indexing="ij")).reshape(3, -1)
    offset = place[:, :, None] - place[:, None, :] + 6
    return torch.from_numpy(np.tensordot([169, 13, 1], offset, axes=1)).long()


@pytest.mark.parametrize("model", MODELS)
def test_outputs_are_the_authors(forge: ModuleType, tmp_path: Path, model: str) -> None:
    card, content, stored = model_card(model)[0], forge.manifest(model), forge.golden(model)
    built = build(card, Task("published"), {}, write_forged(forge, model, tmp_path / "w.pt"))
    assert built.report is not None
    assert built.report.counts["loaded"] == len(content["entries"]) == len(built.report.lines)
    volume = torch.from_numpy(forge.input_volume(tuple(stored["input_shape"])))
    with torch.inference_mode():
        found = adapter("brainsegfounder").named_outputs(card, built.network.eval(), volume)
    assert set(found) == forge.output_names(stored)
    for name, value in found.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])


@pytest.mark.slow
def test_the_pretrained_encoder_reaches_the_segmentation_network(forge: ModuleType, tmp_path: Path) -> None:
    """The hidden states of a Swin UNETR filled from a pretext file are those of the authors' pretext network."""
    model = "brainsegfounder-ssl-tiny"
    stored, file = forge.golden(model), write_forged(forge, model, tmp_path / "w.pt")
    network = build(model_card(model)[0], Task("segmentation", in_channels=1, out_channels=3), {}, file).network
    assert isinstance(network, SwinUNETR)
    with torch.inference_mode():
        hidden = network.eval().swinViT(torch.from_numpy(forge.input_volume(tuple(stored["input_shape"]))))
    for number, value in enumerate(hidden):
        forge.compare(stored, f"hidden{number}", value.numpy(), forge.manifest(model)["tolerance"])
