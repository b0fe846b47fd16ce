"""From a finished run to a folder that can be sent in: the record in its place, and what to say about it."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from harness.errors import UserError
from harness.files import write_text
from harness.records.archive import Archive
from harness.records.registry import Registry
from harness.records.schema import Record
from harness.records.store import load
from harness.records.verification import Verification
from harness.records.verify import record_folder, verify

__all__ = ["PULL_REQUEST", "pack"]

PULL_REQUEST = "PULL_REQUEST.md"
_DECLARATIONS = {
    "test_data_not_trained": "No scored case was used to train, to pretrain or to choose anything.",
    "adapter_unmodified": "The model family's adapter is the released one.",
}


def pack(run: Path, out: Path, *, cards: Iterable[Path] = (), rescore: bool = False) -> Path:
    """Put a run's record into a folder for a pull request to a results repository.

    Predictions, checkpoints and run state stay at home; pictures of scans too, unless the terms of the data allow
    them to be passed on.

    Parameters
    ----------
    run : Path
        The run's folder, or the record's.
    out : Path
        New, or a folder that runs were packed into before.
    cards : iterable of Path
        Folders of the user's own cards.
    rescore : bool
        Score the predictions again first.

    Returns
    -------
    Path
        The record's folder below ``out/records``. Beside it lies ``PULL_REQUEST.md`` with the text to send.

    Raises
    ------
    UserError
        The record is not valid, or what a submission needs is not declared. Nothing is written.
    """
    folders = tuple(cards)
    verification = verify(run, full=True, rescore=rescore, cards=folders)
    verification.refuse()
    record = load(record_folder(run))
    _refuse_unready(record, verification)
    card = Registry(folders).dataset(record)
    allowed = card is not None and card.terms.redistribution
    target = Archive(out / "records").add(record_folder(run), pictures=allowed, cards=folders)
    entries = sorted(path for path in (out / "records").glob("*/*/*/*/*/*/record.json"))
    write_text(out / PULL_REQUEST, _text([load(path.parent) for path in entries], verification))
    return target


def _refuse_unready(record: Record, verification: Verification) -> None:
    missing = [str(finding) for finding in verification.findings if finding.check == 12]
    if record.division == "closed":
        missing += [str(f) for f in verification.findings if f.check == 5 and f.level == "warning"]
    if missing:
        raise UserError(
            f"The record is valid but not ready to be sent in. {' '.join(missing)} Run it again with the declarations "
            "made, or in the open division; a record cannot be changed afterwards."
        )


def _text(records: list[Record], verification: Verification) -> str:
    lines = [
        "# New results",
        "",
        "| data set | split | model | start | seed | metric | value | 95 % interval | cases | run |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for record in records:
        metric = record.metrics[0] if record.metrics else None
        value = "failed" if metric is None or metric.value is None else f"{metric.value:.4f}"
        interval = "" if metric is None or metric.ci95 is None else f"{metric.ci95[0]:.4f} to {metric.ci95[1]:.4f}"
        cells = [
            *(record.dataset.id, record.split.id, f"{record.model.id}.{record.model.variant}", record.model.init),
            *(record.seeds.torch, metric.id if metric else "", value, interval, metric.n_cases if metric else ""),
            record.run_id,
        ]
        lines.append(f"| {' | '.join(str(cell).replace('|', '/') for cell in cells)} |")
    lines += ["", f"Checked before packing: {verification.trust_name}.", "", "I declare:", ""]
    declared = {name for record in records for name in record.declarations}
    lines += [f"- [{'x' if name in declared else ' '}] {text}" for name, text in _DECLARATIONS.items()]
    relations = sorted({record.submitter.relation or "not stated" for record in records})
    return "\n".join([*lines, "", f"Relation to the authors of the model: {', '.join(relations)}.", ""])
