"""Genesis' nnU-Net through the real reading path: a forged file, read, mapped, run, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import torch

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card

MODEL = "genesis-nnunet"


def test_outputs_are_the_authors(forge: ModuleType, tmp_path: Path) -> None:
    card, content, stored = model_card(MODEL)[0], forge.manifest(MODEL), forge.golden(MODEL)
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(content).items()}
    layout = {"epoch": 6, content["weights_key"]: weights, "optimizer_state_dict": {"state": {}, "param_groups": []}}
    assert list(layout) == content["top_level"]
    torch.save(layout, tmp_path / "w.model", _use_new_zipfile_serialization=False)
    built = build(card, Task("published"), {}, tmp_path / "w.model")
    assert built.report is not None
    assert built.report.counts["loaded"] == len(content["entries"]) == len(built.report.lines)
    volume = torch.from_numpy(forge.input_volume(tuple(stored["input_shape"])))
    with torch.inference_mode():
        found = adapter(card.adapter).named_outputs(card, built.network.eval(), volume)
    assert set(found) == forge.output_names(stored)
    for name, value in found.items():
        forge.compare(stored, name, value.numpy(), content["tolerance"])
