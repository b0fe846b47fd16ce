"""Making a record: aggregates, hashes and content addresses are computed here and can be passed in by nobody."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from harness.cards.base import explain
from harness.cards.model import Evidence
from harness.errors import UserError
from harness.files import sha256_hex
from harness.records import identity
from harness.records.aggregate import aggregate
from harness.records.cases import CaseRow, scores_sha256, to_csv
from harness.records.configuration import config_sha256, parse_config
from harness.records.environment import Environment
from harness.records.fields import (
    Contamination,
    Cost,
    Dataset,
    Deterministic,
    Model,
    Pretraining,
    Protocol,
    Seeds,
    Split,
    Submitter,
    Weights,
)
from harness.records.predictions import predictions_text
from harness.records.privacy import redact, refuse_leaks
from harness.records.schema import RULES_VERSION, SCHEMA_VERSION, CasesFile, Experiment, Record, null_fields
from harness.records.sums import FILE as SUMS
from harness.records.sums import Sums, sums_text
from harness.scoring.definitions import Averaging

__all__ = ["assemble", "companions", "config_sha256", "parse_config"]

Status = Literal["complete", "failed", "diverged", "out_of_memory", "timed_out", "partial"]
Kind = Literal["fine_tune", "probe", "eval_only", "zero_training_baseline", "pretrain"]


def assemble(
    *,
    kind: Kind,
    model: Model,
    weights: Weights,
    dataset: Dataset,
    split: Split,
    protocol: Protocol,
    seeds: Seeds,
    deterministic: Deterministic,
    environment: Environment,
    cost: Cost,
    submitter: Submitter,
    cases: Sequence[CaseRow],
    config_yaml: str,
    loading: Mapping[str, Any] | None,
    log_path: Path | None,
    predictions: Mapping[str, str],
    sums: Sums | None = None,
    status: Status = "complete",
    status_reason: str | None = None,
    evidence: Iterable[Evidence] = (),
    division: Literal["closed", "open"] = "open",
    pretraining: Pretraining | None = None,
    contamination: Contamination | None = None,
    config_overrides: Iterable[str] = (),
    experiment: Experiment | None = None,
    policy: str = "adopted",
    averaging: Mapping[str, Averaging] | None = None,
    metric_order: Sequence[str] = (),
    predictions_location: str | None = None,
    pictures: Mapping[str, str] | None = None,
    declarations: Iterable[Literal["test_data_not_trained", "adapter_unmodified"]] = (),
    supersedes: str | None = None,
    superseded_by_reason: str | None = None,
    created: datetime | None = None,
    reasons: Mapping[str, str] | None = None,
) -> Record:
    """Put a record together from what a run knows.

    Parameters
    ----------
    weights : Weights
        ``loading_file_sha256`` is filled in from ``loading``.
    cases : sequence of CaseRow
        Every scored case, class and metric exactly once; empty where nothing was scored (not a complete run).
    config_yaml : str
        The resolved configuration without paths, as it will lie beside the record.
    loading : mapping, optional
        The load report (`harness.checkpoints.report.LoadReport.to_json`); None where nothing was loaded.
    log_path : Path, optional
        The finished ``log.jsonl``.
    predictions : mapping of str to str
        Case id to the hash of its label map (`harness.records.predictions.label_map_sha256`).
    sums : mapping of str to mapping, optional
        Case id to class name to the sums over probabilities, where they were kept.
    status_reason : str, optional
        Why the run is not complete; paths and names in it are replaced, since it often quotes an error.
    averaging : mapping of str to str, optional
        Record id of a metric to how it is averaged, where that differs from its definition.
    metric_order : sequence of str
        Record ids in the order wanted; the first one is the headline.
    pictures : mapping of str to str, optional
        File name in ``slices/`` to its hash (`harness.records.pictures.hash_pictures`).
    reasons : mapping of str to str, optional
        Dotted path of a field to why it is null. Those that follow from the rest are added: from scratch, on a CPU,
        not complete, nothing predicted.

    Raises
    ------
    UserError
        A field is missing, wrong or null without a reason; rows are missing or doubled; something private would be
        published.
    """
    if not cases and status == "complete":
        raise UserError("A complete run has scores, but no case row was given. Give the rows or another status.")
    texts = companions(cases, config_yaml, loading, log_path, predictions, sums)
    hashes = {name: sha256_hex(text) for name, text in texts.items()}
    metrics = aggregate(cases, policy=policy, averaging=averaging, order=metric_order, sums=sums) if cases else ()
    fields: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "rules_version": RULES_VERSION,
        "result_id": "0" * 16,
        "run_id": "0" * 16,
        "status": status,
        "status_reason": None if status_reason is None else redact(status_reason)[:4000],
        "kind": kind,
        "evidence": tuple(sorted(set(evidence))),
        "division": division,
        "created": _timestamp(created),
        "supersedes": supersedes,
        "superseded_by_reason": superseded_by_reason,
        "model": model,
        "weights": weights.model_copy(update={"loading_file_sha256": hashes.get("loading.json")}),
        "pretraining": pretraining,
        "contamination": contamination,
        "dataset": dataset,
        "split": split,
        "protocol": protocol,
        "config_sha256": config_sha256(config_yaml),
        "config_overrides": tuple(config_overrides),
        "experiment": experiment,
        "seeds": seeds,
        "deterministic": deterministic,
        "metrics": metrics,
        "cases_file": CasesFile(sha256=hashes["cases.csv"], scores_sha256=scores_sha256(cases), rows=len(cases)),
        "predictions_sha256": hashes.get("predictions.txt"),
        "predictions_location": predictions_location,
        "sums_sha256": hashes.get(SUMS),
        "log_sha256": hashes.get("log.jsonl"),
        "pictures": dict(pictures or {}),
        "harness": environment.harness,
        "env": environment.env,
        "hardware": environment.hardware,
        "cost": cost,
        "submitter": submitter,
        "declarations": tuple(declarations),
        "attestations": (),
    }
    known = {**_implied(fields, environment), **{path: redact(why) for path, why in (reasons or {}).items()}}
    nulls = dict(null_fields(Record.model_construct(**fields, reasons={})))
    fields["reasons"] = {path: why for path, why in known.items() if path in nulls or path in (reasons or {})}
    record = _sealed(fields)
    refuse_leaks(record.to_json())
    return record


def companions(
    cases: Sequence[CaseRow],
    config_yaml: str,
    loading: Mapping[str, Any] | None,
    log_path: Path | None,
    predictions: Mapping[str, str],
    sums: Sums | None = None,
) -> dict[str, str]:
    """Return the content of every file beside the record, by name. Files that have nothing to say are left out."""
    texts = {"cases.csv": to_csv(cases), "config.yaml": config_yaml}
    if loading is not None:
        texts["loading.json"] = json.dumps(loading, indent=1, sort_keys=True, allow_nan=False) + "\n"
    if log_path is not None and log_path.is_file():
        texts["log.jsonl"] = log_path.read_text(encoding="utf-8")
    if predictions:
        texts["predictions.txt"] = predictions_text(predictions)
    if sums:
        texts[SUMS] = sums_text(sums)
    return texts


def _sealed(fields: dict[str, Any]) -> Record:
    try:
        data = Record.model_validate(fields).to_json()
    except ValidationError as error:
        raise UserError(f"The record cannot be made: {explain(error, Record)}") from error
    data["result_id"] = identity.result_id(data)
    data["run_id"] = identity.run_id(data)
    return Record.model_validate(data)


def _implied(fields: Mapping[str, Any], environment: Environment) -> dict[str, str]:
    """Give the reasons that follow from the rest, weakest first."""
    why = dict(environment.reasons)
    if environment.hardware.gpu is None:
        why |= dict.fromkeys(("cost.gpu_hours", "cost.peak_gpu_memory", "cost.allocator"), "run on a CPU")
    if not fields["predictions_sha256"]:
        why |= dict.fromkeys(("predictions_sha256", "predictions_location"), "no label map was predicted")
    else:
        why["predictions_location"] = "not published"
    why["log_sha256"] = "there is no training curve"
    why["weights.loading_file_sha256"] = "nothing was loaded"
    if fields["model"].init == "scratch":
        why |= dict.fromkeys(("pretraining", "contamination"), "from scratch")
    if fields["status"] != "complete":
        undone = ("weights.final_sha256", "weights.state_sha256", "cost.seconds_per_case")
        why |= dict.fromkeys(undone, f"the run ended as {fields['status']}")
    return why


def _timestamp(moment: datetime | None) -> str:
    return (moment or datetime.now(UTC)).astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
