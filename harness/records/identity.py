"""Content addresses: `run_id` of the whole record, `result_id` of its science, and the keys that twins share."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from harness.files import canonical_json, sha256_hex
from harness.records.schema import Record

__all__ = [
    "Keys",
    "cell_key",
    "folds_key",
    "keys",
    "record_path",
    "result_id",
    "run_id",
    "run_id_of_text",
    "sweep_key",
    "twin_key",
]

Json = Mapping[str, Any]
_NOT_IN_RUN_ID = ("run_id", "attestations")
_DIGITS = 16
_OF_FOLD = re.compile(r"_fold\d+$")


def _short(value: Any) -> str:
    return sha256_hex(canonical_json(value))[:_DIGITS]


def run_id(data: Json) -> str:
    """Hash a whole record but for its ``run_id`` and ``attestations``, which come later.

    Parameters
    ----------
    data : mapping
        The record as JSON data, of any schema version.
    """
    return _short({key: value for key, value in data.items() if key not in _NOT_IN_RUN_ID})


def run_id_of_text(data: Json, text: str) -> str:
    """Return the `run_id` of a record whose canonical bytes are known, which saves spelling most of it again.

    Parameters
    ----------
    data : mapping
        The record as JSON data.
    text : str
        `harness.files.canonical_json` of it.
    """
    start = "{" + canonical_json({"attestations": data["attestations"]})[1:-2] + ","
    tail = canonical_json({key: value for key, value in data.items() if key > "run_id"})[1:]
    end = canonical_json({"run_id": data["run_id"]})[1:-2] + "," + tail
    # Keys are sorted, so these two stand at the start and before what is sorted behind them.
    if text.startswith(start) and text.endswith("," + end):
        return sha256_hex("{" + text[len(start) : len(text) - len(end)] + tail)[:_DIGITS]
    return run_id(data)


def result_id(data: Json) -> str:
    """Hash the science of a record: what was done to which data with which weights, and what every case scored.

    Dates, cost, machine, submitter and the number of resumes stay out: a run that was killed and taken up again has
    the `result_id` of one that was not.
    """
    return _short(
        {
            **_cell(data),
            "init": data["model"]["init"],
            "adapter_version": data["model"]["adapter_version"],
            "status": data["status"],
            "weights": _pick(data["weights"], "sha256", "state_sha256", "final_sha256"),
            "label_map": _pick(data["dataset"], "label_map", "regions", "remap", "excluded"),
            "config_sha256": data["config_sha256"],
            "metrics": [_pick(metric, "id", "definition_sha256", "policy", "averaging") for metric in data["metrics"]],
            "scores_sha256": data["cases_file"]["scores_sha256"],
            "predictions_sha256": data["predictions_sha256"],
        }
    )


@dataclass(frozen=True)
class Keys:
    """What a record shares with others.

    Attributes
    ----------
    cell : str
        Model, init, data, split, protocol and seeds.
    twin : str
        The cell without its init: records with one key and different inits are twins.
    sweep : str
        The cell without its seeds: records with one key repeat each other, seed by seed.
    """

    cell: str
    twin: str
    sweep: str


def keys(data: Json) -> Keys:
    """Return the keys of a record's JSON data in the current schema."""
    cell, init = _cell(data), data["model"]["init"]
    return Keys(
        cell=_short({**cell, "init": init}), twin=_short(cell), sweep=_short({**cell, "seeds": None, "init": init})
    )


def cell_key(record: Record) -> str:
    """Identify the cell; see `Keys`."""
    return keys(record.to_json()).cell


def twin_key(record: Record) -> str:
    """Identify the cell without its init; see `Keys`."""
    return keys(record.to_json()).twin


def sweep_key(record: Record) -> str:
    """Identify the cell without its seeds; see `Keys`."""
    return keys(record.to_json()).sweep


def folds_key(record: Record) -> str:
    """Identify the sweep without its fold: records with one key and one seed are a cross-validation.

    Weights that belong to a fold (``ssl_small_fold0``) count as those of the cross-validation.
    """
    cell = _cell(record.to_json())
    family, variant = cell["model"]
    together = {
        "model": [family, _OF_FOLD.sub("", variant)],
        "dataset": cell["dataset"][0],  # the scored cases, and so their fingerprint, are others in every fold
        "split": {**cell["split"], "fold": None},
        "seeds": None,
        "init": record.model.init,
    }
    return _short({**cell, **together})


def record_path(record: Record) -> str:
    """Return the place of a record in a results repository, as a relative POSIX path."""
    model = record.model
    return f"{record.dataset.id}/{record.split.id}/{model.id}/{model.variant}/{model.init}/{record.run_id}"


def _cell(data: Json) -> dict[str, Any]:
    return {
        "kind": data["kind"],
        "model": [data["model"]["id"], data["model"]["variant"]],
        "dataset": [data["dataset"]["id"], data["dataset"]["fingerprint"]["scored"]],
        "split": data["split"],
        "protocol": data["protocol"],
        "seeds": data["seeds"],
    }


def _pick(data: Json, *names: str) -> dict[str, Any]:
    return {name: data[name] for name in names}
