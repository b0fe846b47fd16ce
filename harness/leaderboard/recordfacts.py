"""A record as lists of (name, value) for the page. Values are cleaned and escaped by the template."""

from __future__ import annotations

from typing import Any

from harness.leaderboard.text import bytes_size, duration, number
from harness.records.schema import Record

__all__ = ["cost_facts", "data_facts", "identity_facts", "planned_rows", "protocol_facts", "weight_facts"]

Facts = list[tuple[str, Any]]


def code(value: object) -> dict[str, object]:
    """Mark a value as code: a hash, an id."""
    return {"code": value}


def weight_facts(record: Record) -> Facts:
    """Say where the weights came from and what proves that they were live."""
    weights = record.weights
    facts: Facts = [("Start", record.model.init), ("Parameters", _thousands(record.model.parameters.total))]
    if weights.file:
        size = f" ({bytes_size(weights.bytes)})" if weights.bytes else ""
        facts += [("File", f"{weights.file}{size}"), ("Licence", weights.licence)]
        facts += [("File SHA-256", code(weights.sha256))]
    if weights.loaded_fraction is not None:
        facts.append(("Encoder loaded", f"{weights.loaded_fraction:.1%}"))
    facts += [
        ("Live parameters after loading", code(weights.state_sha256)),
        ("Scored weights", code(weights.final_sha256)),
    ]
    if record.pretraining:
        facts.append(("Pretrained on", ", ".join(record.pretraining.datasets) or "nothing"))
    if record.contamination:
        status = record.contamination.status.replace("_", " ")
        facts.append(("Contamination", f"{status}: {record.contamination.evidence}"))
    return facts


def protocol_facts(record: Record) -> Facts:
    """Say how the run was trained and predicted."""
    p = record.protocol
    facts: Facts = [
        ("Protocol", p.id),
        ("Spacing", f"{_by(p.spacing)} mm" if isinstance(p.spacing, tuple) else p.spacing),
        ("Orientation", p.orientation),
        ("Intensity", _intensity(record)),
        ("Patch", f"{_by(p.patch)} voxels" if p.patch else None),
        ("Batch", p.batch),
        ("Optimiser", f"{p.optimizer}, learning rate {p.lr:g}" if p.lr is not None else p.optimizer),
        ("Schedule", p.schedule),
        ("Loss", p.loss),
        ("Steps", _thousands(p.steps)),
        ("Patches seen", _thousands(p.samples_seen)),
    ]
    if p.selection:
        note = f" ({p.selection.note})" if p.selection.note else ""
        facts.append(("Selection", p.selection.rule.replace("_", " ") + note))
    if p.inference:
        i = p.inference
        facts += [
            ("Window overlap and blending", f"{i.overlap}, {i.blending}, {i.window_batch} at a time"),
            ("Test-time augmentation", ", ".join(i.tta) or "none"),
            ("Decision", i.decision),
            ("Post-processing", ", ".join(i.post_processing) or "none"),
        ]
    seeds = record.seeds.model_dump()
    facts.append(("Seeds", ", ".join(f"{name} {value}" for name, value in seeds.items())))
    if record.config_overrides:
        facts.append(("Changed in the protocol", ", ".join(record.config_overrides)))
    return facts


def data_facts(record: Record) -> Facts:
    """Say which data, by content."""
    d, s = record.dataset, record.split
    cases = d.n_cases
    fold = f"{s.fold} of {s.n_folds}" if s.n_folds and s.n_folds > 1 else "none"
    return [
        ("Data set", f"{d.id}, card {d.card_version}"),
        ("Cases", f"{cases.train} train, {cases.val} validation, {cases.test} test"),
        ("Scored", (s.scored_role or "").replace("_", " ") or None),
        ("Split", s.id),
        ("Fold", fold),
        ("Share of labels", f"{s.label_fraction:.0%}" if s.label_fraction is not None else None),
        ("Classes", ", ".join(d.label_map.values()) if d.label_map else None),
        ("Fingerprint, scored cases", code(d.fingerprint.scored)),
        ("Split SHA-256", code(s.sha256)),
    ]


def cost_facts(record: Record) -> Facts:
    """Say what it cost, and on what."""
    c, h, e = record.cost, record.hardware, record.env
    wall = c.wall or {}
    held = "" if c.allocator is None else f" {c.allocator}"
    energy = c.energy and f"{c.energy.kwh:.3g} kWh, {'measured' if c.energy.measured else 'estimated'}"
    return [
        ("Wall time", duration(sum(wall.values())) if wall else None),
        ("By phase", ", ".join(f"{phase} {duration(seconds)}" for phase, seconds in wall.items() if seconds) or None),
        ("GPU hours", number(c.gpu_hours, 3) if c.gpu_hours is not None else "not measured"),
        ("Energy", energy or "not measured"),
        ("Training samples per second", number(c.samples_per_second, 2) if c.samples_per_second else "not measured"),
        ("Time spent waiting for data", "not measured" if c.wait_fraction is None else f"{c.wait_fraction:.1%}"),
        ("Peak GPU memory", f"{c.peak_gpu_memory:.2f} GiB{held}" if c.peak_gpu_memory is not None else "not measured"),
        ("GPU memory reserved", _gib(c.peak_gpu_reserved)),
        ("Peak main memory", _gib(c.peak_resident)),
        ("Seconds per case", duration(c.seconds_per_case)),
        ("Processes that trained", c.ranks or 1),
        ("Taken up again", f"{c.resumed} times"),
        ("GPU", h.gpu),
        ("CPU", f"{h.cpu}, {h.cpu_count} cores" if h.cpu else None),
        ("Software", f"Python {e.python}, torch {e.torch}, MONAI {e.monai}"),
    ]


def planned_rows(record: Record) -> list[tuple[str, str, str]]:
    """Put what was predicted of the run beside what it took: name, planned, measured. Empty where nothing was."""
    plan, cost, protocol = record.cost.planned, record.cost, record.protocol
    if plan is None:
        return []
    return [
        ("Parameters", f"{plan.parameters:,}", _thousands(record.model.parameters.total) or "not recorded"),
        ("Steps", f"{plan.steps:,}", _thousands(protocol.steps) or "not recorded"),
        ("Training patches", f"{plan.samples:,}", _thousands(protocol.samples_seen) or "not recorded"),
        ("Operations per step", f"{plan.flops_per_step:.3g} FLOP", "not measured"),
        ("Memory of a training step", _gib(plan.train_memory), _gib(cost.peak_gpu_memory)),
        ("Memory of a prediction", _gib(plan.predict_memory), "not measured apart"),
    ]


def _gib(amount: float | None) -> str:
    return "not measured" if amount is None else f"{amount:.2f} GiB"


def identity_facts(record: Record) -> Facts:
    """Say what this record is called, and what it was made with."""
    dirty = " with local changes" if record.harness.dirty else ""
    return [
        ("Run", code(record.run_id)),
        ("Result", code(record.result_id)),
        ("Made", record.created),
        ("Config SHA-256", code(record.config_sha256)),
        ("harness", f"{record.harness.version}{dirty}"),
        ("Commit", code(record.harness.commit)),
        ("Record schema", record.schema_version),
        ("Replaces", code(record.supersedes) if record.supersedes else "no other record"),
        (
            "Submitted by",
            f"{record.submitter.handle}; relation to the authors: {record.submitter.relation or 'not stated'}",
        ),
        ("Declarations", ", ".join(word.replace("_", " ") for word in record.declarations) or "none"),
    ]


def _by(sizes: tuple[float, ...]) -> str:
    return " \N{MULTIPLICATION SIGN} ".join(f"{size:g}" for size in sizes)


def _thousands(count: int | None) -> str | None:
    return f"{count:,}" if count is not None else None


def _intensity(record: Record) -> str | None:
    rule = record.protocol.intensity
    if rule is None:
        return None
    window = f", window {rule.window[0]:g} to {rule.window[1]:g}" if rule.window else ""
    percentiles = f", percentiles {rule.percentiles[0]:g} to {rule.percentiles[1]:g}" if rule.percentiles else ""
    to = f", mapped to {rule.to[0]:g} to {rule.to[1]:g}" if rule.to else ""
    return f"{rule.method}{window}{percentiles}{to}"
