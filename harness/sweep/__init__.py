"""Sweeps: many cells, what is missing, where it runs, what failed. What is on disk decides; there is no other memory.

`cells` turns overrides with comma lists into cells, `queue` runs what has no valid record, `pools` says where:
processes here, jobs of Slurm, tasks of Ray. `worker` is what runs there.
"""

from harness.sweep.cells import Cell, expand
from harness.sweep.queue import Report, Row, sweep

__all__ = ["Cell", "Report", "Row", "expand", "sweep"]
