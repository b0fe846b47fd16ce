"""Time until the first training batch after a restart: `python benchmarks/first_batch.py [--cases 40]`.

A made-up data set is checked and prepared once. Then processes start anew with the cache warm, and do what `harness
run` does before its first step: find the cases, divide them, check them (unchanged files are remembered), open the
prepared volumes, draw the first batch. Imports are timed apart. Medians; asked is 2 s plus imports.
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ASK = 2.0


def clocks() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def start(folder: Path) -> dict[str, list[float]]:
    """Return wall and CPU seconds of each part."""
    stamps = {"": clocks()}
    from harness.cards.library import dataset_card, model_card
    from harness.config import run_config
    from harness.data.contract import meet
    from harness.data.opening import Division, open_cell
    from harness.data.patches import PatchSource

    stamps["imports"] = clocks()
    config = run_config(
        [
            *("model=models_genesis.narrow8", "dataset=synthetic", "protocol=demo_ct", "init=scratch"),
            *(f"cards=[{folder}]", "executor.workers=1"),
        ]
    )
    model, _ = model_card(config.model, config.cards)
    card, home = dataset_card(config.dataset, config.cards)
    protocol = config.protocol
    stamps["configuration"] = clocks()
    data = open_cell(
        card,
        home,
        meet(model.contract, card, protocol.input),
        protocol.input,
        Division(),
        protocol.patches.size,
        scored_only=False,
        root=None,
        cache=folder / "cache",
        workers=1,
    )
    stamps["opening"] = clocks()
    source = PatchSource(data.cache, data.split.train, protocol.patches, protocol.augmentation, 0)
    source.batch(0)
    stamps["batch"] = clocks()
    names = list(stamps)
    return {
        name: [now - then for now, then in zip(stamps[name], stamps[before], strict=True)]
        for before, name in itertools.pairwise(names)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=40)
    parser.add_argument("--shape", type=int, nargs=3, default=(96, 96, 48))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        sys.stdout.write(json.dumps(start(options.child)) + "\n")
        return
    from harness.data.synthetic import write

    with tempfile.TemporaryDirectory() as name:
        write(Path(name, "synthetic"), cases=options.cases, shape=options.shape)
        rows = []
        for _ in range(1 + options.repeats):
            command = [sys.executable, __file__, "--child", name]
            result = subprocess.run(command, check=True, stdout=subprocess.PIPE, encoding="utf-8")
            rows.append(json.loads(result.stdout.splitlines()[-1]))
    warm = {key: [statistics.median(row[key][clock] for row in rows[1:]) for clock in (0, 1)] for key in rows[0]}
    for what, row in (("cold cache", rows[0]), ("warm cache", warm)):
        parts = ", ".join(f"{key} {wall:.2f} ({cpu:.2f})" for key, (wall, cpu) in row.items())
        print(f"{what}, {options.cases} cases, seconds (of CPU): {parts}")
    wall, cpu = (sum(row[clock] for key, row in warm.items() if key != "imports") for clock in (0, 1))
    print(f"first batch after a restart: {wall:.2f} s, {cpu:.2f} s of CPU, plus imports; asked {ASK}")
    if min(wall, cpu) > ASK:
        raise SystemExit("missed")


if __name__ == "__main__":
    main()
