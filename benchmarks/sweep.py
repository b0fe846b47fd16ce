"""A sweep whose cells are all done must say so at once: `python benchmarks/sweep.py [--cells 1000]`.

Every cell gets a record of its own that reads, hashes to its run_id and is of that very configuration, made from one
pattern; making them is not part of the figure. Measured: composing, varying, looking at every record, "nothing to do".
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path

from harness.files import canonical_json, sha256_hex
from harness.records.identity import result_id, run_id
from harness.records.runfolder import RunFolder
from harness.sweep import Cell, expand, sweep

PATTERN = Path(__file__).parent.parent / "tests" / "records" / "data" / "1.0.0" / "record.json"


def finish(cell: Cell, pattern: dict) -> None:
    """Give a cell a valid record."""
    cases = "case_id\n"
    config = cell.config
    family, variant = config.model.split(".")
    data = {
        **pattern,
        "model": {**pattern["model"], "id": family, "variant": variant, "init": config.init},
        "dataset": {**pattern["dataset"], "id": config.dataset},
        "split": {**pattern["split"], "fold": config.fold, "label_fraction": 1.0, "subset_seed": config.subset_seed},
        "seeds": dict.fromkeys(pattern["seeds"], config.seed),
        "protocol": {**pattern["protocol"], "id": config.protocol.name},
    }
    data["cases_file"] = {**pattern["cases_file"], "sha256": sha256_hex(cases)}
    data["result_id"] = result_id(data)
    data["run_id"] = run_id(data)
    folder = RunFolder(cell.config.out / cell.name)
    folder.record.mkdir(parents=True)
    (folder.record / "cases.csv").write_text(cases, encoding="utf-8")
    (folder.record / "record.json").write_text(canonical_json(data), encoding="utf-8")
    folder.begin()
    folder.end("complete")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=1000)
    count = parser.parse_args().cells
    pattern = json.loads(PATTERN.read_text(encoding="utf-8"))
    with tempfile.TemporaryDirectory() as folder:
        overrides = [
            "model=models_genesis.narrow8",
            "dataset=ct_headneck_oar",
            "init=pretrained,scratch",
            f"seed=range(0,{count // 2})",
            f"out={folder}",
        ]
        for cell in expand(overrides):
            finish(cell, pattern)
        wall, cpu = time.perf_counter(), time.process_time()
        cells = expand(overrides)
        planned = time.process_time() - cpu
        report = sweep(cells)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        assert report.is_complete, report.rows[0]
        assert report.ran == 0
    print(f"{len(cells)} cells, all done: {wall:.2f} s wall, {cpu:.2f} s CPU ({planned:.2f} s of it planning)")


if __name__ == "__main__":
    main()
