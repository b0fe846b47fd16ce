"""Whether a cell is done: a record that is whole, hashes to its own name and is of this very cell."""

from __future__ import annotations

from harness.errors import HarnessError
from harness.files import file_sha256
from harness.records.identity import run_id
from harness.records.store import RECORD, read_json
from harness.sweep.cells import Cell

__all__ = ["fault_of"]


def fault_of(cell: Cell) -> str | None:
    """Return what is wrong with the record of a cell, or None where it is valid.

    A record was validated when it was written; that it hashes to its name shows that nobody changed it since. Whether
    its scores are right is for ``harness record verify``.
    """
    folder = cell.folder.record
    try:
        raw, _ = read_json(folder / RECORD)
        if run_id(raw) != raw.get("run_id"):
            return "its content was changed: it does not hash to its run_id"
        if raw["config_sha256"] != cell.config.sha256:
            return "it is of another configuration"
        if raw["status"] != "complete":
            return f"it says that the run is {raw['status']}"
        if file_sha256(folder / "cases.csv") != raw["cases_file"]["sha256"]:
            return "cases.csv was changed"
    except (HarnessError, OSError) as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"a field is missing: {error}"
    return None
