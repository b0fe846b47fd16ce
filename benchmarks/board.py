"""Build the board of many records with many cases, over all cores, and open its front page in Chromium.

    python benchmarks/board.py [--records 10000] [--cases 100] [--classes 1] [--workers 2]

The records are like those of `records.py`, spread over cells of five seeds and two starts. Making them is not part of
the figure; verifying them is, because a board shows nothing that it has not checked.
"""

from __future__ import annotations

import argparse
import gzip
import resource
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from records import children, metrics_of, pattern_of, rows_of

from harness.files import canonical_json, sha256_hex
from harness.leaderboard import build
from harness.records.build import config_sha256
from harness.records.cases import scores_sha256, to_csv
from harness.records.identity import record_path, result_id, run_id
from harness.records.predictions import predictions_text
from harness.records.schema import Record

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
    config, table = f"seed: {seed}\n", to_csv(rows)
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


def interactive(page: Path) -> str:
    """Return how long Chromium takes until the filters work, and until one has been applied."""
    if shutil.which("chromedriver") is None:
        return "no chromedriver, so the page was not opened"
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    with tempfile.TemporaryDirectory() as profile:
        for flag in ("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", f"--user-data-dir={profile}"):
            options.add_argument(flag)
        service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
        driver = webdriver.Chrome(options=options, service=service)
        try:
            driver.get(page.as_uri())
            ready = driver.execute_script(
                "return performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
            )
            script = """
                const start = performance.now();
                const field = document.querySelector('form[data-for=claims] select[name=model]');
                field.value = 'Med3D';
                field.dispatchEvent(new Event('change', {bubbles: true}));
                document.body.offsetHeight;
                return performance.now() - start;
            """
            return f"interactive after {ready:.0f} ms, a filter applied in {driver.execute_script(script):.0f} ms"
        finally:
            driver.quit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--records", type=int, default=10_000)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--classes", type=int, default=1)
    parser.add_argument("--workers", type=int, default=2)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root, patterns = Path(folder) / "runs", starts(chosen.cases, chosen.classes)
        for number in range(chosen.records):
            write_record(root, patterns, number, chosen.cases, chosen.classes)
        before, start = time.process_time() + children(), time.perf_counter()
        front = build([root], Path(folder) / "board", workers=chosen.workers)
        seconds = time.perf_counter() - start
        cpu = time.process_time() + children() - before
        used = [resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        pages = sum(1 for _ in front.parent.glob("runs/*/index.html"))
        size = sum(path.stat().st_size for path in front.parent.rglob("*") if path.is_file())
        print(
            f"{chosen.records:,} records x {chosen.cases} cases x 3 metrics x {chosen.classes} classes: {seconds:.1f} s"
            f" wall on {chosen.workers} workers, {cpu:.1f} s CPU, {1000 * cpu / chosen.records:.1f} CPU ms a record; "
            f"memory {used[0]:.0f} MB + {chosen.workers} x {used[1]:.0f} MB; board {size / 2**20:.0f} MiB"
        )
        packed = len(gzip.compress(front.read_bytes()))
        print(f"front page {packed / 1024:.0f} KiB compressed; {interactive(front)}")
        if pages != chosen.records:
            raise SystemExit(f"only {pages} of {chosen.records} records have a page")


if __name__ == "__main__":
    main()
