"""Verify many records with many cases: everything but intervals, those on a 1 % sample, over all cores.

    python benchmarks/records.py [--records 10000] [--cases 100] [--classes 1] [--workers 2]

The records are those of `many_records.py`. Making them is not part of the figure.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from many_records import METRICS, arguments, children, make, memory

from harness.records.verify import verify_all


def main() -> None:
    chosen = arguments(__doc__)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "records"
        make(root, chosen)
        before, start = time.process_time() + children(), time.perf_counter()
        verdicts = verify_all([root], workers=chosen.workers)
        seconds = time.perf_counter() - start
        cpu = time.process_time() + children() - before
        invalid = [verdict for verdict in verdicts if not verdict.ok]
        print(
            f"{len(verdicts):,} records x {chosen.cases} cases x {len(METRICS)} metrics x {chosen.classes} classes: "
            f"{seconds:.1f} s wall on {chosen.workers} workers, {cpu:.1f} s CPU, "
            f"{1000 * cpu / len(verdicts):.2f} CPU ms a record; "
            f"{len(invalid)} invalid; largest process {max(memory()):.0f} MB"
        )
        if invalid:
            raise SystemExit(str(invalid[0].errors[0]))


if __name__ == "__main__":
    main()
