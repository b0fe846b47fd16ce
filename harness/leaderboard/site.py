"""Building the board: gather records, claims and cards; write every page; put the folder in place. Deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.errors import HarnessError
from harness.leaderboard.folder import new_board
from harness.leaderboard.niivue import fetch, put_library
from harness.leaderboard.pages import Board, write_pages
from harness.progress import say

__all__ = ["build"]


def build(
    runs: Sequence[Path], out: Path, *, cards: Sequence[Path] = (), workers: int | None = None, viewer: bool = False
) -> Path:
    """Build the board.

    Parameters
    ----------
    runs : sequence of Path
        Folders that are searched for records, at any depth.
    out : Path
        The board's folder. An earlier board there is replaced at once when the new one is complete.
    cards : sequence of Path
        Folders of the user's own cards, such as the one that `harness pretrain` writes.
    workers : int, optional
        Processes for the pages of runs and cells; all processors by default, one where there are few pages.
    viewer : bool
        Also pages that show the volumes of runs, where their records hold some and the terms of the data allow it. It
        takes the NiiVue package from the cache or fetches it; where that fails the board has none, and a line says so.

    Returns
    -------
    Path
        ``out/index.html``.

    Raises
    ------
    UserError
        A folder of runs does not exist, or ``out`` holds something else than a board.
    HarnessError
        The board cannot be written.
    """
    package = _viewer_package() if viewer else None
    board = Board.gather(runs, cards, viewer=package is not None)
    with new_board(out) as folder:
        write_pages(board, folder, workers)
        if package is not None and any(folder.glob("runs/*/viewer.html")):
            put_library(package, folder)
    return out / "index.html"


def _viewer_package() -> Path | None:
    try:
        return fetch()
    except HarnessError as error:
        say(f"The board is built without the viewer of volumes. {error}")
        return None
