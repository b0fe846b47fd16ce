"""MIS-FM through the real reading path: a forged file in the published layout, read, mapped, run, compared."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from harness.adapters.build import Built, build
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card

OUTPUTS = {
    "misfm-pctnet": {"out0", "out1", "out2", "out3", "embed_x2", "bottleneck"},
    "misfm-fmunet": {"out0", "out1", "out2", "out3", "bottleneck"},
}


def write_forged(forge: ModuleType, model: str, path: Path, salt: int = 0) -> Path:
    """Write what PyMIC writes: a counter, a score as a NumPy scalar, the weights, the optimiser's state."""
    content = forge.manifest(model)
    weights = {name: torch.from_numpy(value) for name, value in forge.checkpoint(content, salt).items()}
    layout = {
        "iteration": 120000,
        "valid_pred": np.float32(0.875),
        content["weights_key"]: weights,
        "optimizer_state_dict": {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 1e-3}]},
    }
    assert list(layout) == content["top_level"]
    torch.save(layout, path)
    return path


@pytest.fixture(scope="module", params=OUTPUTS)
def forged(request: pytest.FixtureRequest, forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_forged(forge, request.param, tmp_path_factory.mktemp("misfm") / f"{request.param}.pt")


@pytest.fixture(scope="module")
def published(forged: Path) -> Built:
    return build(model_card(forged.stem)[0], Task("published"), {}, forged)


def test_every_output_is_the_authors(forge: ModuleType, forged: Path, published: Built) -> None:
    model = forged.stem
    stored = forge.golden(model)
    volume = torch.from_numpy(forge.input_volume(tuple(stored["input_shape"])))
    with torch.inference_mode():
        found = adapter("mis_fm").named_outputs(model_card(model)[0], published.network.eval(), volume)
    # the attention of the bottleneck has an input of its own: see test_networks_misfm.py
    assert set(found) == OUTPUTS[model]
    assert OUTPUTS[model] == {key[:-7] for key in stored if key.endswith("__shape")} - {"block_e4_trans"}
    for name, value in found.items():
        forge.compare(stored, name, value.numpy(), forge.manifest(model)["tolerance"])


def test_the_whole_file_is_loaded_with_its_head(forged: Path, published: Built) -> None:
    assert published.report is not None
    counts = published.report.counts
    assert counts["missing"] == counts["unused"] == counts["skipped"] == counts["adapted"] == 0
    assert published.report.encoder.value == published.report.decoder.value == 1.0
    fresh = [line for line in published.report.lines if line.state == "fresh"]
    assert {line.reason for line in fresh} <= {"computed from the window size"}
    assert len(fresh) == {"misfm-pctnet": 10, "misfm-fmunet": 0}[forged.stem]


def test_another_task_and_a_small_patch_stay_above_the_floor(forged: Path) -> None:
    card = model_card(forged.stem)[0]
    built = build(card, Task("segmentation", in_channels=2, out_channels=3, patch=(16, 32, 32)), {}, forged)
    assert built.report is not None
    assert card.floor <= built.report.encoder.value <= 1.0


@pytest.mark.parametrize("model", OUTPUTS)
def test_the_card_counts_the_parameters(model: str) -> None:
    card = model_card(model)[0]
    network = build(card, Task("published"), {}, None).network
    assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters
