"""CPU milliseconds of commands that must answer at once: `python benchmarks/startup.py`.

Each command runs in fresh processes after one warm-up; the peer is `import torch` in the same run.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys

RUNS = 9
COMMANDS = {
    "harness --help": ["-m", "harness", "--help"],
    "harness list models": ["-m", "harness", "list", "models"],
    "harness list datasets": ["-m", "harness", "list", "datasets"],
    "harness list claims": ["-m", "harness", "list", "claims"],
    "config composed and validated": [
        "-c",
        "from harness.config import run_config; run_config(['model=a', 'dataset=b'])",
    ],
    "import torch (peer)": ["-c", "import torch"],
}


def cpu_ms(arguments: list[str]) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, *arguments], check=True, stdout=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return 1000 * (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def main() -> None:
    found: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for turn in range(RUNS + 1):
        for name, arguments in COMMANDS.items():
            milliseconds = cpu_ms(arguments)
            if turn:
                found[name].append(milliseconds)
    peer = statistics.median(found["import torch (peer)"])
    print(f"{'command':<32} {'median':>8} {'min':>8} {'of import torch':>16}   (CPU ms, {RUNS} runs)")
    for name, values in found.items():
        median = statistics.median(values)
        print(f"{name:<32} {median:8.0f} {min(values):8.0f} {median / peer:16.2f}")


if __name__ == "__main__":
    main()
