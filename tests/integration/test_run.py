"""The whole line in one process: from a tiny data set to a record that verifies, and what a second start does."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import nibabel
import numpy as np
import pytest
import yaml
from filelock import FileLock

from harness.cli import main
from harness.config import run_config
from harness.errors import UserError
from harness.records.verify import verify
from harness.run import run


def test_a_cell_runs_from_cards_to_a_valid_record(cell: list[str], synthetic: Path) -> None:
    begin = time.process_time()
    folder = run(run_config(cell))
    assert time.process_time() - begin < 20  # CPU seconds: the wall clock of a shared machine proves nothing
    record = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    assert record["evidence"] == ["synthetic_data"]
    assert record["division"] == "open"
    assert record["model"]["init"] == "scratch"
    assert record["dataset"]["n_cases"] == {"train": 3, "val": 1, "test": 1}
    assert [metric["id"] for metric in record["metrics"]] == ["dice.hard.native.v1", "hd95.native.v1"]
    assert record["protocol"]["inference"]["window_batch"] == 1
    cost = record["cost"]
    assert cost["samples_per_second"] == pytest.approx(record["protocol"]["samples_seen"] / cost["wall"]["train"])
    assert 0 < cost["wait_fraction"] < 1
    assert cost["energy"] is None
    planned, did = cost["planned"], record["protocol"]
    assert (planned["steps"], planned["samples"]) == (did["steps"], did["samples_seen"])
    assert planned["parameters"] == record["model"]["parameters"]["total"]
    assert planned["flops_per_step"] > 1e6
    weights = 4 * planned["parameters"] / 2**30  # the least that any step holds
    assert weights < planned["predict_memory"] < cost["peak_resident"]
    assert 3 * weights < planned["train_memory"] < cost["peak_resident"]  # the optimiser keeps two numbers beside each
    assert "ranks" not in cost
    assert "batch_norm" not in record["protocol"]

    places = {"cards": [synthetic], "data_root": synthetic / "synthetic"}
    verdict = verify(folder, rescore=True, full=True, **places)
    assert verdict.ok, verdict.findings

    (prediction,) = (folder.parent / "predictions").glob("*.nii.gz")
    image = nibabel.load(synthetic / "synthetic" / "images" / prediction.name)
    found = nibabel.load(prediction)
    assert found.shape == image.shape[:3]
    assert np.allclose(found.affine, image.affine, atol=1e-5)

    again = run(run_config(cell))
    assert again == folder
    assert json.loads((folder / "record.json").read_text(encoding="utf-8")) == record

    labels = np.asarray(found.dataobj).copy()
    labels[0, 0, 0] = 3 - labels[0, 0, 0]
    nibabel.save(nibabel.Nifti1Image(labels, found.affine), prediction)
    tampered = verify(folder, rescore=True, **places)
    assert {finding.check for finding in tampered.errors} == {6}


def test_twins_differ_in_nothing_but_their_start(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    made = main(
        [
            "pretrain",
            "model=models_genesis.narrow8",
            "name=tiny",
            "dataset=synthetic",
            "held_out=[case004]",
            "input.allow_modality_mismatch=true",
            "recipe.cubes.size=[16,16,16]",
            "recipe.batch=2",
            "recipe.evaluation_batches=1",
            "training.steps=2",
            f"cards=['{synthetic}']",
            f"data_root='{synthetic / 'synthetic'}'",
            f"out='{tmp_path / 'runs'}'",
            f"cache='{tmp_path / 'cache'}'",
        ]
    )
    assert made == 0
    (card,) = tmp_path.glob("runs/*/weights/card.yaml")
    twin = [item for item in cell if not item.startswith(("model=", "init=", "cards="))]
    twin += ["model=models_genesis.tiny", f"cards=['{synthetic}','{card.parent}']"]
    records = {}
    for init in ("pretrained", "scratch"):
        folder = run(run_config([*twin, f"init={init}"]))
        records[init] = json.loads((folder / "record.json").read_text(encoding="utf-8"))
        verdict = verify(folder, cards=[synthetic, card.parent])
        assert verdict.ok, verdict.errors
    pretrained, scratch = records["pretrained"], records["scratch"]
    assert pretrained["weights"]["loaded_fraction"] == 1.0
    assert scratch["weights"]["loaded_fraction"] == 0.0
    assert pretrained["weights"]["state_sha256"] != scratch["weights"]["state_sha256"]
    assert "self_pretrained" in pretrained["evidence"]
    assert "self_pretrained" not in scratch["evidence"]
    # by content: the very volumes that are scored here were seen without their labels
    assert pretrained["contamination"]["status"] in ("unlabeled_overlap", "none")
    for part in ("dataset", "split", "protocol", "seeds", "deterministic"):
        assert pretrained[part] == scratch[part]


def test_a_second_process_is_turned_away(cell: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    config = run_config(cell)
    folder = config.out / config.cell
    folder.mkdir(parents=True)
    with FileLock(folder / "lock"):
        assert main(["run", *cell]) == 1
    assert "Another process is executing this run" in capsys.readouterr().err
    assert not (folder / "run.json").exists()


def test_weights_are_not_chosen_by_cases_that_are_not_there(cell: list[str], synthetic: Path, tmp_path: Path) -> None:
    cards = tmp_path / "cards"
    shutil.copytree(synthetic, cards)
    splits = cards / "synthetic" / "splits.yaml"
    (split,) = yaml.safe_load(splits.read_text(encoding="utf-8"))
    for of_parts in (split["parts"], split["sha256"]):
        del of_parts["val"]
    splits.write_text(yaml.safe_dump([split]), encoding="utf-8")
    moved = [word.replace(str(synthetic), str(cards)) for word in cell]
    with pytest.raises(UserError, match="no validation cases to choose by"):
        run(run_config([*moved, "protocol.training.selection.rule=best_val"]))
