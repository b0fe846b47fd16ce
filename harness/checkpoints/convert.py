"""From a pickle that is refused to safetensors: read in a process without network, tensors kept, the rest named.

Reading such a file executes what its author wrote into it. The process that does it has no network, no tokens and an
empty environment, so that it cannot send anything away; it can still do what your user may do to your files.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from harness.checkpoints.convert_worker import NOT_ISOLATED, REFUSED
from harness.errors import HarnessError, UserError
from harness.files import file_sha256, write_json

__all__ = ["convert", "provenance_path"]


def provenance_path(out: Path) -> Path:
    """Return where the account of a conversion lies: ``<out>.provenance.json``."""
    return out.with_name(out.name + ".provenance.json")


def convert(
    source: Path, out: Path, weights_key: str | None = None, prefix: str = "", *, trust: bool = False
) -> dict[str, Any]:
    """Write the tensors of an arbitrary torch file as safetensors, and an account of what was left out.

    Parameters
    ----------
    source : Path
        A torch file, of either container, with any objects inside.
    out : Path
        The ``.safetensors`` file to write; must not exist.
    weights_key : str, optional
        The top-level entry whose tensors are wanted; found by looking where only one can be meant.
    prefix : str
        Stripped from every name; every name must start with it.
    trust : bool
        Go on where this machine cannot take the network away from a process.

    Returns
    -------
    dict
        The account: ``source``, ``source_sha256``, ``tensors``, ``dropped`` (name to reason), ``isolated``, …

    Raises
    ------
    UserError
        The file is missing, cannot be read even so, or does not say which of its tensors are the weights.
    HarnessError
        This machine cannot isolate a process, or the output cannot be written. Nothing is left behind.
    """
    if not source.is_file():
        raise UserError(f"There is no file at {source}. Check the path.")
    if out.suffix != ".safetensors" or out.exists():
        raise UserError(f"The output {out} must be a new file that ends in .safetensors. Choose another name.")
    before = file_sha256(source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = tempfile.TemporaryDirectory(dir=out.parent, prefix=".tmp-convert-")
    except OSError as error:
        raise HarnessError(
            f"Cannot write to {out.parent}: {error.strerror or error}. Choose another folder."
        ) from error
    with folder as name:
        tensors, report = Path(name) / "tensors.safetensors", Path(name) / "report.json"
        request = {
            "source": str(source.resolve()),
            "tensors": str(tensors.resolve()),
            "report": str(report.resolve()),
            "weights_key": weights_key,
            "prefix": prefix,
            "trust": trust,
        }
        _run(request, source)
        account = _account(source, before, tensors, report)
        write_json(provenance_path(out), account)
        try:
            tensors.replace(out)
        except OSError as error:
            provenance_path(out).unlink()
            raise HarnessError(f"Could not write {out}: {error.strerror or error}. Nothing was left behind.") from error
    return account


def _run(request: dict[str, Any], source: Path) -> None:
    # nothing of the caller's environment: it may hold tokens
    environment = {"PATH": os.defpath, "PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(  # noqa: S603 - our own interpreter and module
        [sys.executable, "-P", "-m", "harness.checkpoints.convert_worker", json.dumps(request)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        errors="replace",
        env=environment,
        check=False,
    )
    said = done.stderr.strip().splitlines()
    last = said[-1][:300] if said else "it said nothing"
    if done.returncode == NOT_ISOLATED:
        raise HarnessError(
            f"{source} was not opened: reading it executes code, and this machine cannot take the network away from a "
            f"process ({last}). Convert it on another machine, or pass --trust if you trust where it comes from."
        )
    if done.returncode == REFUSED:
        raise UserError(f"{source} was not converted: {last}")
    if done.returncode != 0:
        raise UserError(
            f"{source} cannot be read: the process that read it ended with code {done.returncode} ({last}). It is cut "
            "off, or needs the packages that it was written with."
        )


def _account(source: Path, before: str, tensors: Path, report: Path) -> dict[str, Any]:
    # whatever ran in there may have written these two: they are read like any file from outside
    from harness.checkpoints.reading import read

    names = list(read(tensors).tensors)
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, AttributeError):
        told = json.loads(report.read_text(encoding="utf-8"))
        return {
            "source": source.name,
            "source_bytes": source.stat().st_size,
            "source_sha256": before,
            "sha256": file_sha256(tensors),
            "tensors": len(names),
            "weights_key": told["weights_key"],
            "prefix": told["prefix"],
            "dropped": {str(name): str(reason) for name, reason in told["dropped"].items()},
            "isolated": bool(told["isolated"]),
            "date": datetime.date.today().isoformat(),  # noqa: DTZ011 - the date where the person is
        }
    raise UserError(f"{source} was not converted: what it executed spoilt the account. Do not use this file.")
