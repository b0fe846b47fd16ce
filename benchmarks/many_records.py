"""Many valid records of one pattern, for the measurements of `board.py` and `records.py`.

Every record has its own scores, hashes and ids, and holds in everything that verification looks at. They are spread
over cells of five seeds and two starts. Making them is never part of a figure.
"""

from __future__ import annotations

import argparse
import json
import resource
from pathlib import Path
from typing import Any

import numpy as np

from harness.files import canonical_json, sha256_hex
from harness.records.aggregate import aggregate
from harness.records.build import config_sha256
from harness.records.cases import CaseRow, scores_sha256, to_csv
from harness.records.identity import record_path, result_id, run_id
from harness.records.predictions import predictions_text
from harness.records.schema import Record

METRICS = ("dice.hard.native.v1", "hd95.native.v1", "nsd@2.native.v1")


def rows_of(number: int, cases: int, classes: int) -> list[CaseRow]:
    rng = np.random.default_rng(number)
    rows = []
    for case in range(cases):
        name, prediction = f"case_{case:04d}", sha256_hex(f"{number}/{case}")
        for label in range(1, classes + 1):
            n_ref = 1000 + 13 * case + label
            tp, fp = int(n_ref * rng.uniform(0.7, 1.0)), int(rng.integers(1, 300))
            counts = (tp, fp, n_ref - tp, n_ref, tp + fp)
            dice = 2 * tp / (tp + fp + n_ref)
            values = (dice, float(rng.uniform(1, 30)), float(rng.uniform(0.5, 1)))
            for metric, value in zip(METRICS, values, strict=True):
                rows.append(
                    CaseRow(name, label, f"organ {label}", metric, value, None, *counts, 1.0, 1.0, 3.0, 0.5, prediction)
                )
    return rows


def metrics_of(rows: list[CaseRow], *, drawn: bool) -> list[dict]:
    """Return the metrics; where the intervals will not be looked at, a quick one instead of 9,999 draws."""
    made = [m.model_dump(mode="json") for m in aggregate(rows, policy="adopted", order=METRICS, intervals=drawn)]
    for metric in made:
        if not drawn:
            metric["ci95"] = [metric["value"], metric["value"]]
            metric["ci95_method"] = {"name": "bca", "level": 0.95, "draws": 9999, "seed": 0}
    return made


SEEDS = 5
LOG = "".join(
    f'{{"loss": {1 / (step + 1):.4f}, "lr": 0.003, "seconds": {step}, "step": {step}}}\n' for step in range(50)
)


def starts(cases: int, classes: int) -> dict[str, dict[str, Any]]:
    """Return the pattern of a record from scratch and of its pretrained twin."""
    scratch = pattern_of(cases, classes)
    scratch["log_sha256"] = sha256_hex(LOG)
    scratch["reasons"].pop("log_sha256")
    known = {
        "source": "https://zenodo.org/records/1",
        "file": "w.pt",
        "bytes": 1000,
        "sha256": "c" * 64,
        "licence": "MIT",
    }
    pretrained = {
        **scratch,
        "model": {**scratch["model"], "init": "pretrained"},
        "weights": {**scratch["weights"], **known, "loaded_fraction": 1.0, "state_sha256": "9" * 64},
        "pretraining": {"datasets": ["luna16"]},
        "contamination": {"status": "none", "evidence": "other patients"},
        "reasons": {k: v for k, v in scratch["reasons"].items() if k not in ("pretraining", "contamination")},
    }
    return {"scratch": scratch, "pretrained": pretrained}


def write_record(root: Path, patterns: dict[str, dict[str, Any]], number: int, cases: int, classes: int) -> None:
    """Write record ``number``: its cell, seed and start follow from the number."""
    cell, place = divmod(number, 2 * SEEDS)
    seed, init = place // 2, ("scratch", "pretrained")[place % 2]
    rows = rows_of(number, cases, classes)
    table = to_csv(rows)
    config = f"seed: {seed}\nprotocol:\n"
    config += "".join(f"  option_{line}:\n    name: choice_{line}\n    value: {0.5 * line}\n" for line in range(25))
    predictions = predictions_text({row.case_id: str(row.prediction_sha256) for row in rows})
    pattern = patterns[init]
    drawn = number % 100 == 0
    data = {
        **pattern,
        "cost": dict(pattern["cost"]),
        "model": {**pattern["model"], "variant": f"variant_{cell}"},
        "weights": {**pattern["weights"], "state_sha256": sha256_hex(f"{number}")},
        "seeds": dict.fromkeys(pattern["seeds"], seed),
        "metrics": metrics_of(rows, drawn=drawn),
        "cases_file": {
            "file": "cases.csv",
            "sha256": sha256_hex(table),
            "scores_sha256": scores_sha256(rows),
            "rows": len(rows),
        },
        "config_sha256": config_sha256(config),
        "predictions_sha256": sha256_hex(predictions),
    }
    data["result_id"] = result_id(data)
    # Verification draws intervals again where the id ends in a hundredth, so ids are looked for that give 1 %.
    for data["cost"]["resumed"] in range(100_000):
        data["run_id"] = run_id(data)
        if (int(data["run_id"], 16) % 100 == 0) == drawn:
            break
    folder = root / record_path(Record.model_validate(data))
    folder.mkdir(parents=True)
    texts = {"cases.csv": table, "config.yaml": config, "predictions.txt": predictions, "log.jsonl": LOG}
    for name, text in {**texts, "record.json": canonical_json(data)}.items():
        (folder / name).write_text(text, encoding="utf-8")


def pattern_of(cases: int, classes: int) -> dict:
    """Return a record's JSON data to vary: the frozen example of the schema with these cases and classes."""
    example = Path(__file__).parent.parent / "tests" / "records" / "data" / "1.0.0" / "record.json"
    data = json.loads(example.read_text(encoding="utf-8"))
    data["model"]["init"] = "scratch"
    data["weights"] |= dict.fromkeys(("source", "file", "bytes", "sha256", "licence", "loading_file_sha256"))
    data["weights"]["loaded_fraction"] = 0.0
    data["pretraining"] = data["contamination"] = data["log_sha256"] = None
    data["reasons"] |= dict.fromkeys(("pretraining", "contamination"), "from scratch")
    data["reasons"] |= {"weights.loading_file_sha256": "nothing was loaded", "log_sha256": "not kept"}
    data["pictures"] = {}
    data["dataset"]["n_cases"]["test"] = cases
    data["dataset"]["label_map"] = {"0": "background", **{str(n): f"organ {n}" for n in range(1, classes + 1)}}
    return data


def children() -> float:
    """Return the CPU seconds of all processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def arguments(description: str | None) -> argparse.Namespace:
    """Read the command line of a measurement."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    return parser.parse_args()


def make(root: Path, chosen: argparse.Namespace) -> None:
    """Write the records that the command line asks for below ``root``."""
    patterns = starts(chosen.cases, chosen.classes)
    for number in range(chosen.records):
        write_record(root, patterns, number, chosen.cases, chosen.classes)


def memory() -> tuple[float, float]:
    """Return the most memory that this process, and the largest that it started, ever held, in MB."""
    this, below = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return this, below
