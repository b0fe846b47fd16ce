"""Checks 5, 7, 8, 11 and 12: identity against the cards, loading, separation, privacy, declarations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.cards.overlap import contamination_of
from harness.records.opened import Opened
from harness.records.privacy import leaks, may_leak
from harness.records.registry import Registry
from harness.records.verification import Finding, Level, differ

__all__ = ["check_config", "check_declarations", "check_identity", "check_loading", "check_privacy", "check_separation"]


def check_config(opened: Opened, registry: Registry) -> Iterator[Finding]:
    """Check 1: where the configuration names the cell, it names the record's."""
    if not isinstance(opened.config, dict):
        return
    record, config = opened.record, opened.config
    seeds = {seed for _, seed in record.seeds if seed is not None}
    protocol = config.get("protocol")
    name = protocol.get("name") if isinstance(protocol, dict) else protocol
    agrees = {
        "model": registry.is_model(str(config.get("model")), record),
        "dataset": config.get("dataset") == record.dataset.id,
        "init": config.get("init") == record.model.init,
        "fold": config.get("fold") == (record.split.fold or 0),
        "seed": not seeds or seeds == {config.get("seed")},
        "protocol": name is None or name == record.protocol.id,
    }
    skipped = {"model", "init", "fold", "protocol"} if record.kind == "pretrain" else set()
    for key in sorted(agrees.keys() - skipped):
        if config.get(key) is not None and not agrees[key]:
            said = name if key == "protocol" else config[key]
            yield Finding(1, "error", "config.yaml", f"says {key} {said!r}, which is not what the record says")


def check_identity(opened: Opened, registry: Registry) -> Iterator[Finding]:
    """Check 5: split, weights and marks are those of the cards.

    What no card here knows is no error: the cards may lie elsewhere. To be accepted as `closed` it must be known.
    """
    record = opened.record
    unknown: Level = "warning" if record.division == "closed" else "note"
    data, model, split = registry.dataset(record), registry.model(record), registry.split(record)
    sources = registry.sources(record)
    for name in (name for name, card in sources.items() if card is None):
        yield Finding(5, unknown, "dataset.id", f"no card is called {name!r}; splits cannot be compared")
    if data is not None and split is None and record.kind != "pretrain":
        message = f"the card of {data.id!r} has no split {record.split.id!r} with fold {record.split.fold}"
        yield Finding(5, unknown, "split.id", message)
    elif split is not None and record.split.sha256 not in (None, split.sha256):
        message = f"is not the hash of the split {split.id!r}, so other cases may have been used"
        yield Finding(5, "error", "split.sha256", message)
    marks = {mark for card in sources.values() if card is not None for mark in card.evidence}
    if not marks <= set(record.evidence):
        message = f"lacks the marks {sorted(marks - set(record.evidence))} of the data set"
        yield Finding(5, "error", "evidence", message)
    if model is None:
        name = f"{record.model.id}.{record.model.variant}"
        yield Finding(5, unknown, "model", f"no card is called {name!r}; its weights cannot be compared")
    elif record.model.init in ("pretrained", "released"):
        yield from _check_weights(opened, model, data)


def _check_weights(opened: Opened, card: ModelCard, data: DatasetCard | None) -> Iterator[Finding]:
    record = opened.record
    other: Level = "error" if record.division == "closed" else "warning"
    known = {file.sha256 for file in card.checkpoint.files} - {None} if card.checkpoint else set()
    if record.weights.sha256 is not None and known and record.weights.sha256 not in known:
        message = f"is the hash of no file on the card of {card.id}; other weights under the same name"
        yield Finding(5, other, "weights.sha256", message)
    if not set(card.evidence) <= set(record.evidence):
        message = f"lacks the marks {sorted(set(card.evidence) - set(record.evidence))} of the weights"
        yield Finding(5, "error", "evidence", message)
    overlap = contamination_of(card, data) if data is not None else None
    stated = record.contamination.status if record.contamination is not None else None
    if overlap is not None and overlap.status not in ("none", "unknown") and stated in (None, "none", "unknown"):
        message = f"says {stated}, but the card of {card.id} says {overlap.status}: {overlap.evidence}"
        yield Finding(5, "error", "contamination.status", message)


def check_loading(opened: Opened, registry: Registry) -> Iterator[Finding]:
    """Check 7: as much was loaded as the load report says, and no less than the adapter's floor."""
    record = opened.record
    fraction = record.weights.loaded_fraction
    if record.model.init == "scratch":
        if fraction not in (None, 0.0):
            yield Finding(7, "error", "weights.loaded_fraction", f"is {fraction} although the run is from scratch")
        return
    if record.model.init not in ("pretrained", "released") or fraction is None:
        return
    card, report = registry.model(record), _report(opened)
    floors = [card.floor] if card is not None else []
    if report is not None:
        encoder, floor = report.get("encoder"), report.get("floor")
        found = encoder.get("fraction") if isinstance(encoder, dict) else None
        if isinstance(floor, int | float):
            floors.append(float(floor))
        if not isinstance(found, int | float) or differ(float(found), fraction):
            yield Finding(7, "error", "weights.loaded_fraction", f"says {fraction}, but loading.json says {found}")
    elif record.weights.loading_file_sha256 is None:
        yield Finding(7, "warning", "loading.json", "there is no load report, so nothing proves what was loaded")
    if floors and fraction < max(floors):
        message = f"is {fraction}, below the floor of {max(floors)}: the pretrained weights did not reach the network"
        yield Finding(7, "error", "weights.loaded_fraction", message)


def _report(opened: Opened) -> dict[str, Any] | None:
    try:
        content = json.loads(opened.files["loading.json"])
    except (KeyError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def check_separation(opened: Opened, registry: Registry) -> Iterator[Finding]:
    """Check 8: the scored cases played the role that the record says, and no other."""
    record = opened.record
    role, selection = record.split.scored_role, record.protocol.selection
    if role == "val_independent" and selection is not None and selection.rule == "best_val":
        message = "says val_independent, but the weights were selected by the validation cases"
        yield Finding(8, "error", "split.scored_role", message)
    split, cases = registry.split(record), opened.layout.cases
    if split is None or record.kind == "pretrain":
        return
    seen = sorted(cases & set(split.train))
    if seen:
        yield Finding(8, "error", "cases.csv", f"{len(seen)} scored cases were trained on, such as {seen[0]}")
    if role == "test" and split.scored_role != "test":
        yield Finding(8, "error", "split.scored_role", f"says test, but the split {split.id!r} has no test cases")
    if role == "test" and cases & set(split.val):
        yield Finding(8, "error", "split.scored_role", "says test, but validation cases were scored")
    if record.status == "complete" and cases != set(split.scored):
        missing, extra = sorted(set(split.scored) - cases), sorted(cases - set(split.scored))
        message = f"the split has {len(split.scored)} scored cases; missing: {missing[:4]}, not of it: {extra[:4]}"
        yield Finding(2, "error", "cases.csv", message)


def check_privacy(opened: Opened) -> Iterator[Finding]:
    """Check 11: no absolute paths, no names of machines or their users."""
    texts: dict[str, Any] = {"record": opened.raw} if may_leak(opened.text) else {}
    for name, content in opened.files.items():
        # A list of predictions with the cases of the case file holds nothing else to look at than their ids.
        if name != "cases.csv" and not (name == "predictions.txt" and opened.predictions is not None):
            texts[name] = content.decode("utf-8", errors="replace")
    # Of the case file only the free texts, each once: the rest are numbers and hashes.
    names = opened.layout.texts
    if may_leak("\n".join(names)):
        texts["cases.csv"] = names
        texts["predictions.txt"] = opened.files.get("predictions.txt", b"").decode("utf-8", errors="replace")
    for name, value in texts.items():
        for leak in leaks(value):
            place = leak.place if name == "record" else name
            yield Finding(11, "error", place, f"gives away {leak.what}: {leak.text[:120]!r}")


def check_declarations(opened: Opened) -> Iterator[Finding]:
    """Check 12: the submitter declares what nobody can check, and how they stand to the authors.

    Missing declarations are warnings here, since a run at home has nobody to declare to; submitting needs them all.
    """
    record = opened.record
    for declaration in ("test_data_not_trained", "adapter_unmodified"):
        if declaration not in record.declarations and record.kind != "pretrain":
            yield Finding(12, "warning", "declarations", f"{declaration} is not declared")
    if record.submitter.relation is None:
        yield Finding(
            12, "warning", "submitter.relation", "how the submitter stands to the model's authors is not stated"
        )
