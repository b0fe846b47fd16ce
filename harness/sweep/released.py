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
    if "experiment" in given and "model" not in given:
        return expand([*overrides, "init=released"], config_dir, twins=False)
    folders = [Path(folder) for folder in compose("run", rest, config_dir)["cards"]]
    cards, model = index("model", folders), given.get("model", "")
    own = _FOLD.match(model)
    if own and "fold" not in given:
        return expand([*rest, f"fold={own['fold']}", "init=released"], config_dir, twins=False)
    siblings = {int(found["fold"]): name for name in cards if (found := _FOLD.match(name)) and found["family"] == model}
    if model in cards or not siblings:
        return expand([*rest, *_fold(given), "init=released"], config_dir, twins=False)
    wanted = given.get("fold", "all")
    folds = sorted(siblings) if wanted == "all" else [int(text) for text in wanted.split(",") if text.isdigit()]
    others = [text for text in rest if not text.startswith("model=")]
    return [
        cell
        for fold in folds
        for cell in expand(
            [*others, f"model={siblings.get(fold, f'{model}_fold{fold}')}", f"fold={fold}", "init=released"],
            config_dir,
            twins=False,
        )
    ]


def _fold(given: dict[str, str]) -> list[str]:
    return [f"fold={given['fold']}"] if "fold" in given else []
