"""The record of one run, version 1.0.0: immutable, typed, units in the schema, no unknown keys, no silent nulls."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    StringConstraints,
    ValidationError,
    model_serializer,
    model_validator,
)

from harness.cards.base import explain
from harness.cards.model import Evidence
from harness.errors import UserError
from harness.records.fields import (
    Contamination,
    Cost,
    Count,
    Dataset,
    Deterministic,
    Env,
    Hardware,
    Harness,
    Known,
    Model,
    Name,
    NeedsReason,
    Part,
    Positive,
    Pretraining,
    Protocol,
    Seeds,
    Sha256,
    Share,
    Split,
    Submitter,
    Text,
    Weights,
    without_new_nulls,
)

__all__ = [
    "RULES_VERSION",
    "SCHEMA_VERSION",
    "Attestation",
    "CasesFile",
    "ClassValue",
    "EmptyRule",
    "Experiment",
    "Interval",
    "Metric",
    "Record",
    "json_schema",
    "null_fields",
    "parse_record",
]

SCHEMA_VERSION = "1.0.0"
RULES_VERSION = "1"  # of the checks and of the rules by which aggregates are made; an unknown one is an error

ShortHash = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{16}$")]
Timestamp = Annotated[str, StringConstraints(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]
Unit = Literal["fraction", "mm", "count", "seconds", "ml", "voxels", "squared_intensity", "intensity", "nats"]


class EmptyRule(Part):
    """What a case costs where a mask is empty: ``skip``, ``diagonal``, ``smoothed``, ``as measured`` or a number."""

    both_empty: Name
    pred_empty: Name
    ref_empty: Name


class ClassValue(Part):
    """One class over all cases. ``value`` is null exactly where no case has a value."""

    value: float | None
    n: Count
    n_undefined: Count
    n_not_annotated: Count = Field(description="cases in which nobody drew the class; they count nowhere else")


class Interval(Part):
    """How an interval was made: BCa bootstrap over cases, or the one value where all cases score the same."""

    name: Literal["bca", "constant"]
    level: Share
    draws: Positive | None
    seed: Count | None


class Metric(Part):
    """One metric over the scored cases, recomputable from the case file."""

    id: Name = Field(description="with grid and version, such as dice.hard.native.v1")
    definition_sha256: Sha256
    unit: Unit
    higher_is_better: bool
    empty_rule: EmptyRule
    policy: Name = Field(description="the named convention that the empty rule belongs to")
    grid: Literal["native", "resampled", "patch"]
    averaging: Literal["class_then_case", "case_then_class", "pooled"]
    value: float | None
    n_cases: Count = Field(description="cases that contribute to the value")
    n_undefined: Count = Field(description="annotated case and class pairs without a value")
    per_class: dict[Name, ClassValue]
    ci95: tuple[float, float] | None = Field(description="bootstrap over cases; null below two cases")
    ci95_method: Interval | None


class CasesFile(Part):
    """The case file beside the record. ``scores_sha256`` leaves out the seconds, which differ between runs."""

    file: Literal["cases.csv"] = "cases.csv"
    sha256: Sha256
    scores_sha256: Sha256
    rows: Count


class Experiment(Part):
    """The experiment file that fixed the margin before the run."""

    id: Name
    sha256: Sha256
    margin: Share = Field(description="in units of a fraction")


class Attestation(Part):
    """Somebody says that they checked something. Shown, never counted: levels of trust are computed."""

    level: Literal[2, 3, 4, 5]
    by: Name
    date: Timestamp
    method: Text
    tool_commit: Name
    signature: Text | None = None


class Record(Part):
    """One run. A null field that must be stated has its reason in ``reasons``, by dotted path."""

    schema_version: Literal["1.0.0"]
    rules_version: Literal["1"]
    result_id: ShortHash = Field(description="hash of the science: see harness.records.identity")
    run_id: ShortHash = Field(description="hash of this record without run_id and attestations")
    status: Literal["complete", "failed", "diverged", "out_of_memory", "timed_out", "partial"]
    status_reason: Text | None = None
    kind: Literal["fine_tune", "probe", "eval_only", "zero_training_baseline", "pretrain"]
    evidence: tuple[Evidence, ...]
    division: Literal["closed", "open"]
    created: Timestamp
    supersedes: ShortHash | None = None
    superseded_by_reason: Text | None = Field(default=None, description="why this record replaces the other")
    model: Model
    weights: Weights
    pretraining: Known[Pretraining]
    contamination: Known[Contamination]
    dataset: Dataset
    split: Split
    protocol: Protocol
    config_sha256: Sha256
    config_overrides: tuple[Text, ...]
    experiment: Experiment | None = None
    seeds: Seeds
    deterministic: Deterministic
    metrics: tuple[Metric, ...]
    cases_file: CasesFile
    predictions_sha256: Known[Sha256] = Field(description="of predictions.txt")
    predictions_location: Known[Text] = Field(description="URL, gated, or not kept")
    # not in the first records: left out where no sums were kept, so that a record keeps its hash
    sums_sha256: Sha256 | None = Field(default=None, description="of sums.json, the sums over probabilities")
    log_sha256: Known[Sha256] = Field(description="of log.jsonl")
    pictures: dict[Name, Sha256] = Field(description="file name in slices/ to hash; a picture may be withheld")
    harness: Harness
    env: Env
    hardware: Hardware
    cost: Cost
    submitter: Submitter
    declarations: tuple[Literal["test_data_not_trained", "adapter_unmodified"], ...]
    attestations: tuple[Attestation, ...]
    reasons: dict[str, Annotated[str, StringConstraints(min_length=1, max_length=4000)]]

    @model_validator(mode="after")
    def _no_silent_nulls(self) -> Record:
        nulls = dict(null_fields(self))
        silent = [path for path, must in nulls.items() if must and path not in self.reasons]
        if silent:
            raise ValueError(f"null without a reason: {', '.join(silent)}; say why in reasons")
        idle = [path for path in self.reasons if path not in nulls]
        if idle:
            raise ValueError(f"reasons for fields that are not null or do not exist: {', '.join(idle)}")
        return self

    @model_validator(mode="after")
    def _fields_agree(self) -> Record:
        if (self.supersedes is None) != (self.superseded_by_reason is None):
            raise ValueError("supersedes and superseded_by_reason come together")
        if (self.status == "complete") != (self.status_reason is None):
            raise ValueError("status_reason says why a run is not complete, and only that")
        if self.status == "complete" and not self.metrics:
            raise ValueError("a complete run has metrics")
        ids = [metric.id for metric in self.metrics]
        if len(set(ids)) < len(ids):
            raise ValueError(f"a metric appears twice: {', '.join(ids)}")
        for metric in self.metrics:
            if (metric.value is None) != (metric.n_cases == 0):
                raise ValueError(f"{metric.id}: value is null exactly where no case has one")
            if (metric.ci95 is None) != (metric.ci95_method is None):
                raise ValueError(f"{metric.id}: an interval names its method")
            for name, one in metric.per_class.items():
                if (one.value is None) != (one.n == 0):
                    raise ValueError(f"{metric.id}, {name}: value is null exactly where no case has one")
        file_facts = (self.weights.source, self.weights.file, self.weights.bytes, self.weights.sha256)
        if self.model.init == "scratch" and any(fact is not None for fact in file_facts):
            raise ValueError("a run from scratch started from no file: weights.source, file, bytes, sha256 are null")
        return self

    @model_serializer(mode="wrap")
    def _leave_out_what_is_new_and_unknown(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return without_new_nulls(handler(self), "sums_sha256")

    def to_json(self) -> dict[str, Any]:
        """Return the record as JSON-ready data, every field present."""
        return self.model_dump(mode="json")


_REQUIRED_OF_A_FILE = ("source", "file", "bytes", "sha256", "licence")


def null_fields(record: Record) -> Iterator[tuple[str, bool]]:
    """Yield the dotted path of every null and whether it must have a reason."""
    loaded = record.model.init in ("pretrained", "released")
    for path, must in _walk(record, "", []):
        name = path.removeprefix("weights.")
        conditional = path.startswith("weights.") and name in _REQUIRED_OF_A_FILE
        yield path, must or (conditional and loaded)


def _walk(part: Part, prefix: str, found: list[tuple[str, bool]]) -> list[tuple[str, bool]]:
    must = _must_be_reasoned(type(part))
    for name, value in part.__dict__.items():
        if value is None:
            found.append((prefix + name, must[name]))
        elif isinstance(value, Part):
            _walk(value, f"{prefix}{name}.", found)
    return found


@functools.cache
def _must_be_reasoned(part: type[Part]) -> dict[str, bool]:
    """Say of every field of a part whether a null in it needs a reason."""
    return {
        name: any(isinstance(item, NeedsReason) for item in field.metadata) for name, field in part.model_fields.items()
    }


def parse_record(text: str, where: object) -> Record:
    """Read a record of the current version strictly: no coercion, no unknown keys, no NaN.

    Raises
    ------
    UserError
        It is not JSON or breaks the schema; every fault is listed.
    """
    try:
        return Record.model_validate_json(text, strict=True)
    except ValidationError as error:
        raise UserError(f"{where} is not a valid record: {explain(error, Record)}") from error


def json_schema() -> str:
    """Return the JSON Schema of the record as text."""
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"https://voxharness.invalid/record-{SCHEMA_VERSION}.json",
        **Record.model_json_schema(),
    }
    return json.dumps(schema, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
