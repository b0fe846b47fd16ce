"""The record's folder: written whole with ``record.json`` last, read back strictly, never overwritten by another."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness.errors import HarnessError, UserError
from harness.files import canonical_json, file_sha256, sha256_hex, write_text
from harness.records.build import companions
from harness.records.cases import CaseRow
from harness.records.migrations import migrate
from harness.records.privacy import refuse_leaks
from harness.records.schema import Record, parse_record
from harness.records.sums import FILE as SUMS
from harness.records.sums import Sums

__all__ = ["RECORD", "load", "read_json", "write"]

RECORD = "record.json"


def write(
    folder: Path,
    record: Record,
    cases: Sequence[CaseRow],
    config_yaml: str,
    loading: Mapping[str, Any] | None,
    log_path: Path | None,
    predictions: Mapping[str, str],
    *,
    packages: str | None = None,
    sums: Sums | None = None,
) -> Path:
    """Write a record and the files beside it, the same that `harness.records.build.assemble` was given.

    Parameters
    ----------
    folder : Path
        The record's folder. Pictures that the record names lie in its ``slices/`` already.
    packages : str, optional
        The list of installed distributions (`Environment.packages`), kept as ``packages.txt``.
    sums : mapping of str to mapping, optional
        As for `assemble`.

    Returns
    -------
    Path
        ``record.json``. Writing the same record again does nothing.

    Raises
    ------
    UserError
        Another record lies there, a file differs from the hash in the record, or something private would be published.
    HarnessError
        The folder cannot be written to. ``record.json`` is written last: without it there is no record.
    """
    target = folder / RECORD
    text = canonical_json(record.to_json())
    found = _existing(target)
    if found is not None:
        if found == text.encode():
            return target
        raise UserError(
            f"{folder} holds another record already, and records are never overwritten. Choose another folder; a "
            "correction is a new record with `supersedes`."
        )
    texts = companions(cases, config_yaml, loading, log_path, predictions, sums)
    if packages is not None:
        texts["packages.txt"] = packages
    _check_hashes(folder, record, texts)
    for name, content in texts.items():
        refuse_leaks(content, name)
    for name, content in texts.items():
        write_text(folder / name, content)
    write_text(target, text)
    return target


def _existing(target: Path) -> bytes | None:
    try:
        return target.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise HarnessError(
            f"Cannot look at {target}: {error.strerror}. Choose a folder you may write to, then run the same command "
            "again."
        ) from error


def _check_hashes(folder: Path, record: Record, texts: Mapping[str, str]) -> None:
    stated = {
        "cases.csv": record.cases_file.sha256,
        "loading.json": record.weights.loading_file_sha256,
        "log.jsonl": record.log_sha256,
        "predictions.txt": record.predictions_sha256,
        SUMS: record.sums_sha256,
        "packages.txt": record.env.lock_sha256 if "packages.txt" in texts else None,
    }
    found = {name: sha256_hex(texts[name]) if name in texts else None for name in stated}
    for name in record.pictures:
        stated[name], path = record.pictures[name], folder / "slices" / name
        found[name] = file_sha256(path) if path.is_file() else None
    wrong = [name for name in stated if stated[name] != found[name]]
    if wrong:
        raise UserError(
            f"Files differ from what the record was assembled from: {', '.join(wrong)}. Give write() the same cases, "
            "configuration, load report, log, predictions and sums as assemble()."
        )


def read_json(path: Path) -> tuple[dict[str, Any], str]:
    """Read ``record.json`` as it lies there.

    Returns
    -------
    dict
        The parsed content, of whatever schema version.
    str
        The text itself.

    Raises
    ------
    UserError
        There is no such file, or it is not a JSON object; NaN and repeated keys are refused.
    """
    try:
        text = path.read_bytes().decode("utf-8")
        content = json.loads(text, parse_constant=_refuse_constant, object_pairs_hook=_without_doubles)
    except FileNotFoundError as error:
        raise UserError(f"There is no record at {path}. A run writes it last; see run.json for its state.") from error
    except OSError as error:
        raise HarnessError(f"Cannot read {path}: {error.strerror}. Check its permissions.") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not a record: {error}.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} is not a record: it holds {type(content).__name__} instead of a JSON object.")
    return content, text


def load(folder: Path) -> Record:
    """Read the record in a folder, lifted to the current schema. `harness.records.verify` says whether it is true.

    Raises
    ------
    UserError
        There is none, its schema version is unknown, or it breaks the schema.
    """
    content, text = read_json(folder / RECORD)
    lifted = migrate(content)
    return parse_record(text if lifted is content else canonical_json(lifted), folder / RECORD)


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number; a record says null and gives the reason")


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        doubled = sorted({name for name in names if names.count(name) > 1})
        raise ValueError(f"the key {doubled[0]!r} appears twice")
    return made
