"""Released weights are scored as they are: zero steps, no training case touched, and a record that says so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
import yaml

from harness.adapters.conformance_forge import forge
from harness.adapters.interface import Task
from harness.adapters.registry import adapter
from harness.cards.library import dataset_card, model_card
from harness.config import run_config
from harness.errors import UserError
from harness.records.verify import verify
from harness.resources import shipped
from harness.run import run
from harness.sweep import cells
from harness.sweep.released import released_cells


def card_with_head(folder: Path, name: str, classes: int) -> None:
    """Write a card and the file that goes with it: a network with an output layer of its own."""
    content = yaml.safe_load((shipped("model_cards") / "mis_fm.fmunet_narrow8.yaml").read_text(encoding="utf-8"))
    content |= {
        "id": name,
        "evidence": ["stand_in_weights"],
        "checkpoint": {
            "published_head": True,
            "files": [{"name": f"{name}.pt", "places": [{"kind": "beside_card", "where": f"{name}.pt"}]}],
        },
    }
    content["architecture"]["num_classes"] = classes
    folder.mkdir(exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    card, _ = model_card(name, [folder])
    torch.manual_seed(1)
    network = adapter(card.adapter).build(card, Task("published", 1, classes, (32, 32, 32)), {})
    forge(card, network.state_dict(), folder / f"{name}.pt")


def overrides(cell: list[str], synthetic: Path, cards: Path) -> list[str]:
    kept = [item for item in cell if not item.startswith(("model=", "init=", "cards="))]
    return [*kept, f"cards=['{synthetic}','{cards}']", "protocol.input.allow_modality_mismatch=true"]


def test_a_released_file_is_scored_with_zero_steps(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    labels = len(dataset_card("synthetic", [synthetic])[0].labels)
    card_with_head(tmp_path / "cards", "mis_fm.tiny", labels)
    rest = overrides(cell, synthetic, tmp_path / "cards")
    config = run_config([*rest, "model=mis_fm.tiny", "init=released"])
    folder = run(config)
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert (record["kind"], record["model"]["init"], record["protocol"]["steps"]) == ("eval_only", "released", 0)
    assert record["protocol"]["optimizer"] is None
    assert "nothing was trained here" in record["reasons"]["protocol.optimizer"]
    assert record["protocol"]["selection"]["rule"] == "none"
    assert record["weights"]["state_sha256"] == record["weights"]["final_sha256"]
    assert "stand_in_weights" in record["evidence"]
    assert record["cost"]["wall"]["train"] == 0
    planned = record["cost"]["planned"]
    assert (planned["steps"], planned["flops_per_step"], planned["train_memory"]) == (0, 0, 0)
    assert planned["parameters"] == record["model"]["parameters"]["total"]
    verdict = verify(
        folder, rescore=True, full=True, cards=[synthetic, tmp_path / "cards"], data_root=synthetic / "synthetic"
    )
    assert verdict.ok, verdict.findings
    # only the scored case was prepared
    assert len(list((tmp_path / "cache").glob("*/*/image.npy"))) == record["dataset"]["n_cases"]["test"]

    card_with_head(tmp_path / "cards", "mis_fm.other", labels + 2)
    with pytest.raises(UserError, match=f"{labels + 2} output channels"):
        run(run_config([*rest, "model=mis_fm.other", "init=released"]))


def test_files_of_folds_are_scored_on_their_own_fold(monkeypatch: pytest.MonkeyPatch) -> None:
    base = ["dataset=brats2021", "protocol=swin_unetr_brats21"]
    composed: list[object] = []
    original = cells.compose
    with monkeypatch.context() as patched:
        patched.setattr(cells, "compose", lambda *given: composed.append(given) or original(*given))
        every = released_cells([*base, "model=swin_unetr.brats21", "fold=all"])
    assert len(composed) == 1
    assert [(one.config.model, one.config.fold) for one in every] == [
        (f"swin_unetr.brats21_fold{fold}", fold) for fold in range(5)
    ]
    assert {one.config.init for one in every} == {"released"}
    some = released_cells([*base, "model=swin_unetr.brats21", "fold=1,3"])
    assert [(one.config.model, one.config.fold) for one in some] == [
        (f"swin_unetr.brats21_fold{fold}", fold) for fold in (1, 3)
    ]
    beyond = released_cells([*base, "model=swin_unetr.brats21", "fold=7"])
    assert [one.config.model for one in beyond] == ["swin_unetr.brats21_fold7"]  # has no card, which `run` then says
    assert [one.config.fold for one in released_cells([*base, "model=swin_unetr.brats21_fold2"])] == [2]
    assert len(released_cells(["model=swin_unetr.btcv_tiny", "dataset=btcv"])) == 1
    assert released_cells(["experiment=brats21_released_swin_fold1"])[0].config.model == "swin_unetr.brats21_fold1"
