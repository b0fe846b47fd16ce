"""Whether a cell is done: a record that is whole, hashes to its own name and is of this very cell."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from harness.cards.library import model_card
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
        if _cell_of(raw) != _cell_of_config(cell):
            return f"it is of another cell: {_cell_of(raw)} instead of {_cell_of_config(cell)}"
        if raw["status"] != "complete":
            return f"it says that the run is {raw['status']}"
        if file_sha256(folder / "cases.csv") != raw["cases_file"]["sha256"]:
            return "cases.csv was changed"
    except (HarnessError, OSError) as error:
        return str(error)
    except (KeyError, TypeError) as error:
        return f"a field is missing: {error}"
    return None


def _cell_of(raw: dict[str, Any]) -> tuple[object, ...]:
    """Return what names a cell. The rest of its configuration is in the hash that its folder's name ends with."""
    model, split = raw["model"], raw["split"]
    return (
        f"{model['id']}.{model['variant']}",
        model["init"],
        raw["dataset"]["id"],
        split["fold"],
        split["label_fraction"],
        split["subset_seed"],
        raw["seeds"]["torch"],
        raw["protocol"]["id"],
    )


def _cell_of_config(cell: Cell) -> tuple[object, ...]:
    config = cell.config
    return (
        _card_id(config.model, tuple(config.cards)),
        config.init,
        config.dataset,
        config.fold,
        config.label_fraction,
        config.subset_seed,
        config.seed,
        config.protocol.name,
    )


@functools.lru_cache(maxsize=1024)
def _card_id(name: str, cards: tuple[Path, ...]) -> str:
    """Return the id of a card that may be named by an alias; a sweep has many cells of few models."""
    return model_card(name, cards)[0].id
