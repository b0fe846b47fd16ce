"""A file of one family is refused by every other, also where it lies on disk exactly as the other's files do."""

from __future__ import annotations

import functools
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from harness.adapters.build import build
from harness.adapters.conformance_forge import forge
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import model_card
from harness.cards.model import ModelCard
from harness.errors import UserError

SAYS = r"belong|does not fill the network|is not the file that|where a Keras|holds no tensors|do not start with"
SMALL: dict[str, dict[str, Any]] = {
    "med3d.resnet10": {"base_width": 8},
    "models_genesis.chest_ct": {"base_width": 2},
    "models_genesis.chest_ct_keras": {"base_width": 2},
    "models_genesis.nnunet_luna16": {"base_features": 4},
    "mis_fm.pctnet_ct10k": {"feature_channels": [4, 4, 4, 8, 16], "num_heads": [2, 2, 2]},
    "mis_fm.fmunet_abk1k": {"feature_channels": [4, 4, 4, 8, 8]},
    "brainsegfounder.ssl_tiny": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
    "brainsegfounder.brats_tiny_fold0": {"feature_size": 12, "depths": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8]},
}


@functools.cache
def narrow(name: str) -> ModelCard:
    card = model_card(name)[0]
    return card.model_copy(update={"architecture": card.architecture | SMALL[name]})


@functools.cache
def tensors(name: str) -> dict[str, torch.Tensor]:
    card = narrow(name)
    patch = card.contract.patch if name.startswith("mis_fm") else None
    network = build(card, Task("published", len(card.contract.channels), patch=patch), {}, None).network
    return adapter(card.adapter).published_tensors(card, network)


@pytest.mark.parametrize(("written", "read"), list(itertools.permutations(SMALL, 2)))
def test_another_familys_file_is_refused(written: str, read: str, tmp_path: Path) -> None:
    card = narrow(read)
    for number, layout in enumerate({narrow(written).checkpoint, card.checkpoint}):
        path = tmp_path / str(number)
        forge(card.model_copy(update={"checkpoint": layout}), tensors(written), path)
        for kind in ("segmentation", "published"):
            task = Task(kind, len(card.contract.channels), 3, card.contract.patch)  # type: ignore[arg-type]
            with pytest.raises(UserError, match=SAYS):
                build(card, task, {}, path)


@pytest.mark.parametrize("name", SMALL)
def test_its_own_file_is_not(name: str, tmp_path: Path) -> None:
    card = narrow(name)
    forge(card, tensors(name), tmp_path / "w")
    built = build(card, Task("published", len(card.contract.channels), patch=card.contract.patch), {}, tmp_path / "w")
    assert built.report is not None
    assert built.report.encoder.value == 1.0
