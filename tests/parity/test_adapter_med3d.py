"""Med3D through the real reading path: forged files in both published layouts, read, mapped, run, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import torch

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card

STAGES = {"maxpool", "layer1", "layer2", "layer3", "layer4"}


def write_forged(forge: ModuleType, model: str, kind: str, path: Path, salt: int = 0) -> Path:
    """Write the layout of the released encoder (``manifest``) or of the authors' fine-tuning (``manifest_full``)."""
    content = forge.manifest(model, kind)
    weights = {
        content["prefix"] + name: torch.from_numpy(value) for name, value in forge.checkpoint(content, salt).items()
    }
    layout = {"ecpoch": 3, "batch_id": 0, content["weights_key"]: weights, "optimizer": {"state": {}}}
    written = {key: layout[key] for key in content["top_level"]}
    torch.save(written, path, _use_new_zipfile_serialization=False)
    return path


def outputs(built: Built, model: str, forge: ModuleType) -> dict[str, torch.Tensor]:
    volume = torch.from_numpy(forge.input_volume(tuple(forge.golden(model)["input_shape"])))
    with torch.inference_mode():
        return adapter("med3d").named_outputs(model_card(model)[0], built.network.eval(), volume)


@pytest.mark.parametrize(
    "depth",
    [pytest.param(d, marks=[pytest.mark.slow] if d > 18 else []) for d in (10, 18, 34, 50, 101, 152, 200)],
)
def test_outputs_are_the_authors(forge: ModuleType, tmp_path: Path, depth: int) -> None:
    model = f"med3d-resnet{depth}"
    content, stored = forge.manifest(model, "manifest_full"), forge.golden(model)
    file = write_forged(forge, model, "manifest_full", tmp_path / "w.pth")
    built = build(model_card(model)[0], Task("published"), {}, file)
    assert built.report is not None
    assert built.report.counts["loaded"] == len(content["entries"]) == len(built.report.lines)
    found = outputs(built, model, forge)
    assert set(found) == forge.output_names(stored) == STAGES | {"logits"}
    for name, value in found.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])


def test_the_released_encoder_gives_every_stage(forge: ModuleType, tmp_path: Path) -> None:
    model = "med3d-resnet10"
    file = write_forged(forge, model, "manifest", tmp_path / "resnet_10.pth")
    found = outputs(build(model_card(model)[0], Task("published"), {}, file), model, forge)
    assert set(found) == STAGES
    for name, value in found.items():
        forge.compare(forge.golden(model), name, value.numpy(), forge.manifest(model)["tolerance"])


def test_another_salt_is_another_network(forge: ModuleType, tmp_path: Path) -> None:
    model = "med3d-resnet10"
    file = write_forged(forge, model, "manifest", tmp_path / "w.pth", salt=1)
    found = outputs(build(model_card(model)[0], Task("published"), {}, file), model, forge)
    with pytest.raises(AssertionError, match="largest difference"):
        forge.compare(forge.golden(model), "layer4", found["layer4"].numpy(), forge.manifest(model)["tolerance"])
