"""Cells that score released weights as they are: of one file, or of the files of all folds, each on its own fold."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from harness.cards.library import index
from harness.config import compose
from harness.sweep.cells import Cell, expand

__all__ = ["released_cells"]

_FOLD = re.compile(r"^(?P<family>.+)_fold(?P<fold>\d+)$")


def released_cells(overrides: Sequence[str], config_dir: Path | None = None) -> list[Cell]:
    """Turn overrides into cells with ``init=released``.

    A file that was trained on all folds but one is scored on that one. ``model=swin_unetr.brats21`` stands for
    ``swin_unetr.brats21_fold0`` and its siblings, each on its own fold; ``fold=`` then chooses among them.

    Parameters
    ----------
    overrides : sequence of str
        As for `harness.sweep.expand`; ``init`` is set here.
    config_dir : Path, optional
        A folder of the user's own config groups.
    """
    given = {text.partition("=")[0]: text.partition("=")[2] for text in overrides}
    rest = [text for text in overrides if text.partition("=")[0] not in ("init", "fold")]
    model, own = given.get("model", ""), _FOLD.match(given.get("model", ""))
    fold = given.get("fold", own["fold"] if own else None)
    siblings = _siblings(model, rest, config_dir)
    if not siblings:
        chosen = [] if fold is None else [f"fold={fold}"]
        return expand([*rest, *chosen, "init=released"], config_dir, twins=False)
    numbers = sorted(siblings) if fold in (None, "all") else None
    others = [text for text in rest if not text.startswith("model=")]
    one = [*others, f"model={siblings[min(siblings)]}", f"fold={min(siblings) if numbers else fold}", "init=released"]
    cells = expand(one, config_dir, twins=False)  # composed once; the files of the folds vary in Python
    return [
        _of_fold(cell, number, siblings.get(number, f"{model}_fold{number}"))
        for number in numbers or dict.fromkeys(cell.config.fold for cell in cells)
        for cell in cells
        if numbers or cell.config.fold == number
    ]


def _siblings(family: str, overrides: Sequence[str], config_dir: Path | None) -> dict[int, str]:
    """Return fold and card of every file of a family; none where the name is a card itself."""
    has_own_cards = config_dir is not None or any("cards=" in text for text in overrides)
    folders = [Path(folder) for folder in compose("run", overrides, config_dir)["cards"]] if has_own_cards else []
    cards = index("model", folders)
    found = {name: match for name in cards if (match := _FOLD.match(name)) and match["family"] == family}
    return {} if family in cards else {int(match["fold"]): name for name, match in found.items()}


def _of_fold(cell: Cell, fold: int, model: str) -> Cell:
    return Cell(cell.config.model_copy(update={"fold": fold, "model": model}))
