"""Predicting again from a run's recorded weights: the same line as the run, without a training step, beside its record.

The kept checkpoint goes into a folder of its own, and the run's configuration is executed there: the loop finds itself
at its last step, the weights are put in place as they were chosen, and every scored case is predicted and scored anew.
"""

from __future__ import annotations

import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from harness.config import RunConfig, parse_run
from harness.errors import UserError
from harness.records.cases import CaseRow
from harness.records.opened import Opened, open_record
from harness.records.runfolder import RunFolder
from harness.records.verification import Finding, Verification
from harness.records.verify import record_folder, verify
from harness.run import run

__all__ = ["Reinference", "reinfer"]

# Another machine's floating point may turn single voxels at a boundary. A share that differs by more is another answer.
SHARE_TOLERANCE = 1e-3


@dataclass(frozen=True)
class Reinference:
    """What predicting again gave, and what it cost.

    Attributes
    ----------
    verification : Verification
        Of the record, with what was found here; its trust is at most re-inferred, and that only on other hardware.
    cases, same : int
        Scored cases, and those whose label map came out voxel for voxel.
    largest : float
        Largest difference of a score that is a share.
    seconds, seconds_then : float
        Inference of all cases, now and when the record was made.
    prepare_seconds : float
        Preparing the volumes now; nothing where they were in the cache.
    """

    verification: Verification
    cases: int = 0
    same: int = 0
    largest: float = 0.0
    seconds: float = 0.0
    seconds_then: float = 0.0
    prepare_seconds: float = 0.0

    @property
    def cost(self) -> str:
        """The cost and the outcome in a line."""
        if not self.cases:
            return "nothing was predicted again"
        return (
            f"{self.same} of {self.cases} cases came out voxel for voxel, the largest difference of a share is "
            f"{self.largest:.2g}; inference took {self.seconds:.1f} s (then {self.seconds_then:.1f} s), preparing "
            f"{self.prepare_seconds:.1f} s, training nothing"
        )


def reinfer(
    path: Path,
    *,
    cards: Sequence[Path] = (),
    data_root: Path | None = None,
    cache: Path | None = None,
    weights: Path | None = None,
    device: str = "auto",
) -> Reinference:
    """Predict every scored case of a run again with its recorded weights, and compare.

    Parameters
    ----------
    path : Path
        The run's folder, with ``record/`` and ``checkpoints/`` in it.
    cards, data_root, cache, weights, device
        Where cards, volumes, prepared volumes and the published file lie, and what to compute on; as for `run`.

    Raises
    ------
    UserError
        The record is not valid, is of a kind that is not predicted from, or its weights or configuration are not here.
    HarnessError
        The machine is at fault.
    """
    folder = record_folder(path)
    verdict = verify(folder, cards=cards, data_root=data_root)
    verdict.refuse()
    opened = open_record(folder)
    kept = RunFolder(folder.parent).checkpoints
    released = opened.record.model.init == "released"
    if opened.record.kind not in ("fine_tune", "eval_only") or opened.record.status != "complete":
        raise UserError(
            f"The record in {folder} is {opened.record.status}, of kind {opened.record.kind}. Only complete runs that "
            "scored cases can be predicted from again."
        )
    if not released and not kept.is_dir():
        raise UserError(
            f"There is no {kept}, so the recorded weights are not here. Name the run's own folder; a record that was "
            "sent in holds no weights."
        )
    where = {"cards": tuple(cards), "data_root": data_root, "cache": cache, "weights": weights, "device": device}
    with tempfile.TemporaryDirectory(prefix="harness-reinfer-") as place:
        config = _config(opened).model_copy(update={**where, "out": Path(place)})
        if not released:
            shutil.copytree(kept, RunFolder(config.out / config.cell).checkpoints)
        again = open_record(run(config))
    return _compare(verdict, opened, again)


def _config(opened: Opened) -> RunConfig:
    """Return the run's configuration; paths and machine are not part of it."""
    if not isinstance(opened.config, dict):
        raise UserError(f"{opened.folder / 'config.yaml'} is no configuration of a run.")
    known = RunConfig.model_fields
    return parse_run({name: value for name, value in opened.config.items() if name in known})


def _compare(verdict: Verification, then: Opened, now: Opened) -> Reinference:
    findings = list(verdict.findings)
    if now.record.weights.final_sha256 != then.record.weights.final_sha256:
        message = "is not the hash of the weights in checkpoints/; other weights were scored, or they were trained on"
        findings.append(Finding(6, "error", "weights.final_sha256", message))
    before, after = _by_case(then.rows), _by_case(now.rows)
    shares = {metric.id for metric in then.record.metrics if metric.unit == "fraction"}
    same, largest = 0, 0.0
    for case, rows in before.items():
        others = {(row.class_id, row.metric_id): row for row in after.get(case, ())}
        same += bool(others) and next(iter(others.values())).prediction_sha256 == rows[0].prediction_sha256
        for row in rows:
            other = others.get((row.class_id, row.metric_id))
            apart = _apart(row, other)
            if other is not None and row.metric_id in shares and apart is not None:
                largest = max(largest, apart)
            if other is None or apart is None or (row.metric_id in shares and apart > SHARE_TOLERANCE):
                found = "nothing" if other is None else other.value
                message = f"predicting again gives {found}, not {row.value}"
                findings.append(Finding(6, "error", f"{case}, {row.class_name}, {row.metric_id}", message))
    wrong = any(finding.level == "error" for finding in findings)
    if not wrong and same < len(before):
        message = f"{len(before) - same} label maps differ in single voxels; no share by more than {SHARE_TOLERANCE}"
        findings.append(Finding(6, "note", "predictions", message))
    elsewhere = then.record.hardware != now.record.hardware
    if not wrong and not elsewhere:
        findings.append(Finding(6, "note", "hardware", "the same hardware as then; re-inferred asks for another"))
    trust = 0 if wrong else verdict.trust if verdict.trust < 2 else 4 if elsewhere else 3
    return Reinference(
        replace(verdict, findings=tuple(sorted(findings, key=lambda f: f.level != "error")), trust=trust),
        cases=len(before),
        same=same,
        largest=largest,
        seconds=_seconds(now, "infer"),
        seconds_then=_seconds(then, "infer"),
        prepare_seconds=_seconds(now, "prepare"),
    )


def _by_case(rows: Sequence[CaseRow]) -> dict[str, list[CaseRow]]:
    found: dict[str, list[CaseRow]] = defaultdict(list)
    for row in rows:
        found[row.case_id].append(row)
    return found


def _apart(one: CaseRow, other: CaseRow | None) -> float | None:
    """Return how far two scores are apart; None where only one of them has a value."""
    if other is None or (one.value is None) != (other.value is None):
        return None
    return 0.0 if one.value is None or other.value is None else abs(one.value - other.value)


def _seconds(opened: Opened, phase: Literal["infer", "prepare"]) -> float:
    return (opened.record.cost.wall or {}).get(phase, 0.0)
