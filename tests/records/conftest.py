"""A complete, consistent record made the way a run makes it: real label maps, scored, assembled, written."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel
import numpy as np
import pytest
import yaml

from harness.cards.dataset import Split as CardSplit
from harness.cards.dataset import ids_sha256
from harness.data.splits import split_sha256
from harness.files import canonical_json, file_sha256
from harness.records.aggregate import aggregate
from harness.records.build import assemble, config_sha256
from harness.records.cases import CaseRow, case_rows, parse_cases, scores_sha256, to_csv
from harness.records.environment import Environment
from harness.records.fields import (
    CaseCounts,
    Contamination,
    Cost,
    Dataset,
    Deterministic,
    Env,
    Fingerprint,
    Hardware,
    Harness,
    Inference,
    Intensity,
    Model,
    Parameters,
    Pretraining,
    Protocol,
    Seeds,
    Selection,
    Split,
    Submitter,
    Weights,
)
from harness.records.identity import result_id, run_id
from harness.records.predictions import label_map_sha256
from harness.records.schema import Record
from harness.records.store import write
from harness.scoring import score

CLASSES = {"left": (1,), "right": (2,)}
SPACING = (3.0, 1.0, 1.5)


def _names(start: int, stop: int) -> tuple[str, ...]:
    return tuple(f"case_{case:02d}" for case in range(start, stop))


_PARTS = {"test": _names(0, 5), "train": _names(5, 11), "val": _names(11, 12)}
SPLIT = CardSplit(
    id="fixed", source="made here", parts=_PARTS, sha256={part: ids_sha256(ids) for part, ids in _PARTS.items()}
)


def reference_of(case: int) -> np.ndarray:
    labels = np.zeros((8, 12, 10), np.uint8)
    labels[1:5, 2 : 6 + case % 3, 2:7] = 1
    if case != 3:  # one case without the second structure
        labels[5:7, 7:11, 3:8] = 2
    return labels


def prediction_of(case: int, seed: int) -> np.ndarray:
    labels = reference_of(case).copy()
    rng = np.random.default_rng([case, seed])
    flips = rng.random(labels.shape) < 0.02 + 0.01 * case
    labels[flips] = rng.integers(0, 3, int(flips.sum()))
    if case == 3:
        labels[labels == 2] = 0
    return labels


def config_of(init: str, seed: int) -> str:
    chosen = {"model": "models_genesis.boxes", "dataset": "synthetic_boxes", "init": init, "fold": 0, "seed": seed}
    return yaml.safe_dump({**chosen, "protocol": {"name": "tiny", "training": {"steps": 20, "lr": 1e-05}}})


@dataclass(frozen=True)
class Made:
    """A record with everything that lies beside it."""

    record: Record
    rows: list[CaseRow]
    config: str
    loading: dict[str, Any] | None
    log: Path
    predictions: dict[str, str]

    def write(self, folder: Path, **options: Any) -> Path:
        return write(folder, self.record, self.rows, self.config, self.loading, self.log, self.predictions, **options)


ENVIRONMENT = Environment(
    harness=Harness(version="0.1.0", commit="a" * 40, dirty=False),
    env=Env(python="3.11.7", torch="2.6.0", cuda=None, cudnn=None, monai="1.5.0", driver=None, lock_sha256="b" * 64),
    hardware=Hardware(gpu=None, gpu_count=None, gpu_memory=None, cpu="a processor", cpu_count=2, ram=8.0),
    reasons=dict.fromkeys(
        ("env.cuda", "env.cudnn", "env.driver", "hardware.gpu", "hardware.gpu_count", "hardware.gpu_memory"),
        "run on a CPU",
    ),
    packages="numpy==2.2.6\n",
)


def parts(init: str = "pretrained", seed: int = 0) -> dict[str, Any]:
    """The typed inputs of `assemble` that do not come from scores."""
    loaded = init != "scratch"
    return {
        "kind": "fine_tune",
        "model": Model(
            id="models_genesis",
            variant="boxes",
            adapter_version="1",
            parameters=Parameters(total=1193761, trainable=1193761),
            init=init,
        ),
        "weights": Weights(
            source="https://zenodo.org/records/1/files/genesis.pt" if loaded else None,
            file="genesis.pt" if loaded else None,
            bytes=4801234 if loaded else None,
            sha256="c" * 64 if loaded else None,
            licence="CC-BY-4.0" if loaded else None,
            state_sha256=("d" if loaded else "e") * 63 + str(seed % 10),
            loaded_fraction=1.0 if loaded else 0.0,
            final_sha256=("1" if loaded else "2") * 63 + str(seed % 10),
        ),
        "pretraining": Pretraining(datasets=("luna16",)) if loaded else None,
        "contamination": Contamination(status="none", evidence="other patients") if loaded else None,
        "dataset": Dataset(
            id="synthetic_boxes",
            card_version="1",
            fingerprint=Fingerprint(all="3" * 64, scored="4" * 64),
            n_cases=CaseCounts(train=6, val=1, test=5),
            label_map={"0": "background", "1": "left", "2": "right"},
            excluded=(),
        ),
        "split": Split(
            id="fixed", sha256=split_sha256(SPLIT), fold=0, n_folds=1, scored_role="test", label_fraction=1.0
        ),
        "protocol": Protocol(
            id="tiny",
            spacing="native",
            orientation="RAS",
            intensity=Intensity(method="window", window=(-1000.0, 1000.0), to=(0.0, 1.0)),
            patch=(16, 16, 16),
            batch=2,
            patches_per_case=1,
            optimizer="adamw",
            lr=1e-5,
            schedule="cosine",
            loss="dice + cross entropy",
            steps=20,
            epochs=6.7,
            samples_seen=40,
            selection=Selection(rule="last"),
            inference=Inference(
                overlap=0.5,
                blending="gaussian",
                window_batch=1,
                tta=(),
                ensemble_size=1,
                decision="argmax",
                post_processing=(),
            ),
        ),
        "seeds": Seeds(python=seed, numpy=seed, torch=seed, data=seed, init=seed),
        "deterministic": Deterministic(cudnn_benchmark=False, algorithms=True, tf32=False, amp="off"),
        "environment": ENVIRONMENT,
        "cost": Cost(
            wall={"prepare": 1.0, "train": 20.5, "validate": 0.0, "infer": 3.0, "score": 0.2},
            gpu_hours=None,
            peak_gpu_memory=None,
            allocator=None,
            seconds_per_case=0.6,
            resumed=0,
        ),
        "submitter": Submitter(handle="tester", affiliation=None, relation="none"),
        "evidence": ("synthetic_data",),
        "created": datetime(2026, 8, 1, 12, 0, tzinfo=UTC),
        "declarations": ("test_data_not_trained", "adapter_unmodified"),
        "reasons": {"submitter.affiliation": "not given"},
    }


def loading_report() -> dict[str, Any]:
    return {
        "counts": {"loaded": 2},
        "encoder": {"loaded": 10, "total": 10, "fraction": 1.0},
        "floor": 1.0,
        "tensors": [],
    }


def make(folder: Path, init: str = "pretrained", seed: int = 0, predict_seed: int | None = None, **over: Any) -> Made:
    """Score five cases and assemble the record; ``predict_seed`` decides the predictions apart from the seed."""
    number = (seed if predict_seed is None else predict_seed) + (100 if init == "scratch" else 0)
    scored, predictions = [], {}
    for case in range(5):
        prediction, reference = prediction_of(case, number), reference_of(case)
        name = f"case_{case:02d}"
        rows = score(prediction, reference, SPACING, CLASSES, ["dice", "hd95"])
        scored += [{**row, "case_id": name, "spacing": SPACING} for row in rows]
        predictions[name] = label_map_sha256(prediction)
    ids = {name: labels[0] for name, labels in CLASSES.items()}
    seconds = {name: 0.5 + 0.01 * n for n, name in enumerate(predictions)}
    rows = case_rows(scored, ids, seconds=seconds, predictions=predictions)
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "log.jsonl"
    log.write_text(
        '{"step": 0, "loss": 1.2, "lr": 1e-05, "seconds": 0.1}\n{"step": 19, "loss": 0.7, "lr": 0.0, "seconds": 2.0}\n',
        encoding="utf-8",
    )
    files = {
        "cases": rows,
        "config_yaml": config_of(init, seed),
        "loading": loading_report() if init != "scratch" else None,
        "log_path": log,
        "predictions": predictions,
    }
    given = {**parts(init, seed), **files, "metric_order": ("dice.hard.native.v1",), **over}
    beside = (given[name] for name in ("cases", "config_yaml", "loading", "log_path", "predictions"))
    return Made(assemble(**given), *beside)


def save(path: Path, volume: np.ndarray, shift: float = 0.0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0])
    affine[:3, 3] = (-10.0 + shift, 5.0, 20.0)
    nibabel.save(nibabel.Nifti1Image(volume, affine), path)


@pytest.fixture(scope="session")
def cards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cards of the data set and of the weights that the records are about; the volumes lie beside the former."""
    folder = tmp_path_factory.mktemp("cards")
    data = folder / "synthetic_boxes"
    for case in range(5):
        save(data / "labels" / f"case_{case:02d}.nii.gz", reference_of(case))
        save(data / "images" / f"case_{case:02d}.nii.gz", np.zeros((8, 12, 10), np.int16))
    card = {
        "id": "synthetic_boxes", "title": "Boxes", "version": "1", "task": "segmentation", "modality": ["CT"],
        "body": "none", "channels": ["CT"], "labels": {0: "background", 1: "left", 2: "right"},
        "layout": {"kind": "pairs"}, "evidence": ["synthetic_data"], "bundled": True, "citation": "none",
        "terms": {"licence": "CC0-1.0", "attribution": "none", "how_to_get": "made here", "redistribution": True},
    }  # fmt: skip
    (data / "card.yaml").write_text(yaml.safe_dump(card), encoding="utf-8")
    (data / "splits.yaml").write_text(yaml.safe_dump([SPLIT.model_dump(mode="json")]), encoding="utf-8")
    weights = {
        "id": "models_genesis.boxes", "title": "Weights", "adapter": "models_genesis", "aliases": ["boxes-alias"],
        "checkpoint": {"files": [{"name": "genesis.pt", "bytes": 4801234, "sha256": "c" * 64}]},
        "contract": {"axes": "xyz", "modality": ["CT"], "channels": ["CT"], "intensity": {"rule": "none"}},
        "licence": "CC-BY-4.0", "parity": "none", "citation": "none", "source": "none",
    }  # fmt: skip
    (folder / "weights.yaml").write_text(yaml.safe_dump(weights), encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def pattern(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A written record, to be copied and never changed."""
    folder = tmp_path_factory.mktemp("pattern")
    make(folder / "run").write(folder / "run" / "record")
    for case in range(5):
        save(folder / "run" / "predictions" / f"case_{case:02d}.nii.gz", prediction_of(case, 0))
    return folder / "run"


@pytest.fixture
def run(pattern: Path, tmp_path: Path) -> Path:
    """A run folder with a written record in ``record/``, free to be damaged."""
    shutil.copytree(pattern, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def maker():
    return make


def reseal(folder: Path, change: Callable[[dict[str, Any]], None] | None = None, *, aggregates: bool = False) -> None:
    """Make a damaged record consistent again, as far as somebody with an editor and our own code could.

    Every hash and both ids are recomputed after ``change``; with ``aggregates`` the metrics are as well.
    """
    data = json.loads((folder / "record.json").read_text(encoding="utf-8"))
    rows = parse_cases((folder / "cases.csv").read_text(encoding="utf-8"))[0]
    data["cases_file"] |= {
        "sha256": file_sha256(folder / "cases.csv"), "scores_sha256": scores_sha256(rows), "rows": len(rows)
    }  # fmt: skip
    if aggregates:
        data["metrics"] = [
            metric.model_dump(mode="json")
            for metric in aggregate(rows, policy="adopted", order=[metric["id"] for metric in data["metrics"]])
        ]
    for name, place in (("predictions.txt", "predictions_sha256"), ("log.jsonl", "log_sha256")):
        if (folder / name).is_file():  # a pretraining has no predictions
            data[place] = file_sha256(folder / name)
    if (folder / "loading.json").is_file():
        data["weights"]["loading_file_sha256"] = file_sha256(folder / "loading.json")
    data["config_sha256"] = config_sha256((folder / "config.yaml").read_text(encoding="utf-8"))
    if change is not None:
        change(data)
    data["result_id"] = result_id(data)
    data["run_id"] = run_id(data)
    (folder / "record.json").write_text(canonical_json(data), encoding="utf-8")


def rewrite(folder: Path, change: Callable[[CaseRow], CaseRow | None]) -> None:
    """Change or drop rows of the case file."""
    rows = [
        changed
        for row in parse_cases((folder / "cases.csv").read_text(encoding="utf-8"))[0]
        if (changed := change(row))
    ]
    (folder / "cases.csv").write_text(to_csv(rows), encoding="utf-8")


@pytest.fixture
def tools():
    """What tests need to damage records: they cannot import from a conftest."""
    return SimpleNamespace(
        make=make, parts=parts, reseal=reseal, rewrite=rewrite, save=save, reference_of=reference_of,
        prediction_of=prediction_of, environment=ENVIRONMENT, SPLIT=SPLIT, SPACING=SPACING, CLASSES=CLASSES,
    )  # fmt: skip
