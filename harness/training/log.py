"""The curve of a run: one JSON object a line, cut back to the checkpoint when a run resumes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from harness.files import write_text

__all__ = ["CurveLog"]


class CurveLog:
    """Appends lines to ``log.jsonl``.

    Parameters
    ----------
    path : Path
        The file.
    keep_until : int
        Lines of later steps are dropped: they belong to work that a kill undid.
    silent : bool
        Nothing is written: another rank keeps the log.
    """

    def __init__(self, path: Path, keep_until: int, *, silent: bool = False) -> None:
        self.path, self._silent = path, silent
        if silent:
            return
        kept = [line for line in _whole_lines(path) if json.loads(line)["step"] <= keep_until]
        write_text(path, "".join(line + "\n" for line in kept))

    def write(self, **values: Any) -> None:
        """Append one line; None stands for a value that is not finite, since JSON has no other word."""
        if self._silent:
            return
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json.dumps(values, allow_nan=False) + "\n")


def _whole_lines(path: Path) -> list[str]:
    """Return the complete lines; a kill may have torn the last one."""
    if not path.is_file():
        return []
    text = path.read_text(encoding="utf-8")
    return [line for line in text.split("\n")[:-1] if line]
