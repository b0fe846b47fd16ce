"""Exports: the rows of a board that pass some filters, as tables for programs, for papers and for other sites.

What leaves here is what the page shows: the same verification, the same verdicts, the same marks. A result with a mark
(stand-in weights, synthetic data, bundled sample) keeps it in every table, and never reaches a model's card.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from harness.errors import UserError, unknown_name
from harness.files import atomic_path, write_text
from harness.leaderboard.exportpapers import bibtex, latex, markdown
from harness.leaderboard.exportrows import COLUMNS, Row, rows_of, where
from harness.leaderboard.exportsites import catalogue_files, hub_files
from harness.leaderboard.pages import Board, study

__all__ = ["FORMATS", "export"]

FORMATS: Final = ("csv", "json", "parquet", "hf", "latex", "markdown", "bibtex", "catalogue")
_TEXTS: Final[dict[str, Callable[[str, Sequence[Row]], str]]] = {
    "csv": lambda what, rows: as_csv(rows, COLUMNS[what]),
    "json": lambda what, rows: json.dumps(rows, indent=1, ensure_ascii=False, allow_nan=False) + "\n",  # noqa: ARG005
    "latex": latex,
    "markdown": markdown,
}


def export(
    runs: Sequence[Path],
    to: str,
    out: Path | None,
    *,
    what: str = "claims",
    filters: Sequence[str] = (),
    cards: Sequence[Path] = (),
    url: str = "",
    workers: int | None = None,
) -> str:
    """Verify records, filter what they say, and write it down.

    Parameters
    ----------
    runs : sequence of Path
        Folders that are searched for records.
    to : str
        One of `FORMATS`. ``hf`` writes, for each weight set with results of its own, a ``model-index`` for its card
        and its evaluation results; ``catalogue`` one small JSON per model family.
    out : Path, optional
        A file, or for ``hf`` and ``catalogue`` a folder. Without it a text is returned and nothing is written.
    what : {"claims", "runs", "cells"}
        Rows of the ledger, runs, or cells with their twins; ``hf`` always takes runs.
    filters : sequence of str
        ``column=value``: only rows with that value; several values of one column are alternatives.
    cards : sequence of Path
        Folders of the user's own cards.
    url : str
        Where the board is published; links start there. Empty: links are relative to the board.
    workers : int, optional
        Processes; all processors by default.

    Returns
    -------
    str
        The text, or one line about what was written.

    Raises
    ------
    UserError
        An unknown format, table or column; or no run may stand on a model's card.
    """
    if to not in FORMATS:
        raise unknown_name("format", to, FORMATS)
    if what not in COLUMNS:
        raise unknown_name("table", what, COLUMNS)
    what = "runs" if to == "hf" else what
    chosen = where(filters, COLUMNS[what])
    held = study(Board.gather(runs, cards), workers=workers)
    rows = [row for row in rows_of(what, held, url) if all(str(row[key]) in wanted for key, wanted in chosen.items())]
    if to in ("hf", "catalogue"):
        if out is None:
            raise UserError(f"{to} writes several files. Name a folder for them with --out.")
        files = hub_files(held, rows, url) if to == "hf" else catalogue_files(held, url)
        return _write_folder(files, out)
    if to == "parquet":
        if out is None:
            raise UserError("Parquet is no text. Name a file with --out.")
        _write_parquet(rows, COLUMNS[what], out)
    else:
        text = bibtex(held, rows, what, cards) if to == "bibtex" else _TEXTS[to](what, rows)
        if out is None:
            return text
        write_text(out, text)
    return f"{out}: {len(rows)} {what}\n"


def as_csv(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Write rows as CSV; a text that a spreadsheet would take for a formula gets an apostrophe before it."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows([[_cell(row[name]) for name in columns] for row in rows])
    return stream.getvalue()


def _cell(value: Any) -> Any:
    if isinstance(value, str) and value[:1] in ("=", "+", "-", "@", "\t", "\r"):
        return f"'{value}"
    return "" if value is None else value


def _write_folder(files: dict[str, str], out: Path) -> str:
    if out.exists() and not out.is_dir():
        raise UserError(f"{out} is not a folder, and several files are to be written. Name another place with --out.")
    for name, text in files.items():
        write_text(out / name, text)
    return "".join(f"{out / name}\n" for name in files)


def _write_parquet(rows: Sequence[Row], columns: Sequence[str], out: Path) -> None:
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise UserError(
            "Parquet needs the package pyarrow, which is not installed. Run: pip install 'voxharness[parquet]', or "
            "export to csv or json."
        ) from error
    types = {"text": pyarrow.string(), "number": pyarrow.float64(), "whole": pyarrow.int64()}
    schema = pyarrow.schema([(name, types[kind]) for name, kind in columns_of(columns)])
    table = pyarrow.Table.from_pylist(list(rows), schema=schema)
    out.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(out) as path:
        parquet.write_table(table, path)


def columns_of(columns: Sequence[str]) -> list[tuple[str, str]]:
    """Return each column with its kind, so that a table without rows, or with nulls alone, has the same schema."""
    numbers = {"reported", "std", "reproduced", "difference", "low", "high", "value", "label_fraction", "gpu_hours"}
    numbers |= {"seconds", "pretrained", "scratch", "gain"}
    whole = {"unknown_fields", "trust", "fold", "seed", "n_cases", "steps", "seeds", "cases"}
    return [(name, "number" if name in numbers else "whole" if name in whole else "text") for name in columns]
