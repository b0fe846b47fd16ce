"""One rank of the check of two: ``torchrun --nproc-per-node 2 -m harness.selftest.ranks DEVICE MODEL``."""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from harness.checkpoints.hashing import state_sha256
from harness.selftest.bench import Bench
from harness.training.device import Numerics
from harness.training.distributed import join
from harness.training.loop import fit


def main() -> int:
    """Train two steps together and print the hash of the weights of this rank."""
    device, model = sys.argv[1:3]
    with tempfile.TemporaryDirectory() as name, join(device):
        folder, bench = Path(name), Bench(device, Path(name), model)
        protocol = bench.protocol(steps=2)
        built = bench.fresh(protocol)
        numerics = Numerics(protocol.training, bench.device)
        fit(built.network, bench.work(protocol), protocol.training, folder / "state", folder / "log.jsonl", numerics)
        sys.stdout.write(f"weights {state_sha256(built.network.state_dict())}\n")
        sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
