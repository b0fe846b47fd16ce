"""Building the board: gather records, claims and cards; write every page; put the folder in place. Deterministic."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from harness.leaderboard.folder import new_board
from harness.leaderboard.pages import Board, write_pages

__all__ = ["build"]


def build(runs: Sequence[Path], out: Path, *, cards: Sequence[Path] = (), workers: int | None = None) -> Path:
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
    board = Board.gather(runs, cards)
    with new_board(out) as folder:
        write_pages(board, folder, workers)
    return out / "index.html"
