"""What this process may use of the machine it runs on, and what it has used."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["peak_resident_bytes", "processors"]


def processors() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_resident_bytes() -> int | None:
    """Return the most main memory that this process has held; None where the system does not say (not on Linux).

    ``getrusage`` would say it everywhere, but counts what the parent held before this program was started.
    """
    try:
        lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    found = next((line.split()[1] for line in lines if line.startswith("VmHWM:")), None)
    return int(found) * 1024 if found is not None else None
