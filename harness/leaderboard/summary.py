"""What the board keeps of a run once its page is written: small, so that memory does not grow with classes or files."""

from __future__ import annotations

from dataclasses import dataclass

from harness.files import canonical_json, sha256_hex
from harness.leaderboard.reading import RunData
from harness.leaderboard.text import duration, number, utc_day
from harness.leaderboard.words import STATUS, Word, word
from harness.records.schema import Metric, Record

__all__ = ["Headline", "RunSummary", "cell_key", "metric_name", "summarise", "unit_text"]


@dataclass(frozen=True, slots=True)
class Headline:
    """The first metric of a run."""

    id: str
    unit: str
    higher_is_better: bool
    value: float | None
    ci95: tuple[float, float] | None
    n_cases: int


@dataclass(frozen=True, slots=True)
class RunSummary:
    """One run in the lists of the board.

    Attributes
    ----------
    cell : str
        Name of the cell's page: equal for twins and for seeds of one cell.
    scores : dict of str to float
        Case id to score in the first metric: the mean over the classes that have a value.
    classes : dict of str to float
        Class name to its mean over cases in the first metric.
    standing : str or None
        What a confirmed objection made of the record: flagged, demoted, withdrawn.
    """

    run_id: str
    place: str
    family: str
    variant: str
    init: str
    dataset: str
    split: str
    fold: int | None
    label_fraction: float | None
    protocol: str
    seed: int | None
    kind: str
    status: str
    status_reason: str
    evidence: tuple[str, ...]
    created: str
    cell: str
    metric: Headline | None
    scores: dict[str, float]
    classes: dict[str, float]
    seconds: float | None
    gpu_hours: float | None
    steps: int | None
    trust: int
    supersedes: str | None = None
    superseded: bool = False
    standing: str | None = None
    fingerprints: tuple[str, str] = ("", "")  # of the scored cases, of all cases

    @property
    def model(self) -> str:
        """The weight set, ``family.variant``."""
        return f"{self.family}.{self.variant}"

    @property
    def href(self) -> str:
        """The run's page, from the root of the board."""
        return f"runs/{self.run_id}/index.html"

    @property
    def counts(self) -> bool:
        """Whether the run speaks for its cell: complete, scored, neither replaced nor withdrawn."""
        scored = self.status == "complete" and self.kind != "pretrain" and self.metric is not None
        return scored and not self.superseded and self.standing != "withdrawn"

    @property
    def status_word(self) -> Word:
        """How the status looks; what became of a record later goes before how the run ended."""
        return word(STATUS, self.standing or ("superseded" if self.superseded else self.status))

    @property
    def score(self) -> str:
        """The headline number with its unit."""
        return "—" if self.metric is None else f"{number(self.metric.value)}{unit_text(self.metric)}"

    @property
    def time(self) -> str:
        """Wall time of all phases."""
        return duration(self.seconds)

    @property
    def day(self) -> str:
        """The day the record was made."""
        return utc_day(self.created)


def summarise(data: RunData, place: str) -> RunSummary:
    """Reduce a run to what lists, cells and twins need."""
    record = data.record
    metric = data.primary
    return RunSummary(
        run_id=record.run_id,
        place=place,
        family=record.model.id,
        variant=record.model.variant,
        init=record.model.init,
        dataset=record.dataset.id,
        split=record.split.id,
        fold=record.split.fold if (record.split.n_folds or 1) > 1 else None,
        label_fraction=record.split.label_fraction,
        protocol=record.protocol.id,
        seed=record.seeds.torch,
        kind=record.kind,
        status=record.status,
        status_reason=record.status_reason or "",
        evidence=record.evidence,
        created=record.created,
        cell=cell_key(record),
        metric=_headline(metric) if metric else None,
        scores=_case_scores(data, metric) if metric else {},
        classes=_class_means(data, metric) if metric else {},
        seconds=sum(record.cost.wall.values()) if record.cost.wall else None,
        gpu_hours=record.cost.gpu_hours,
        steps=record.protocol.steps,
        trust=data.verification.trust,
        supersedes=record.supersedes,
        fingerprints=(record.dataset.fingerprint.scored or "", record.dataset.fingerprint.all or ""),
    )


def cell_key(record: Record) -> str:
    """Return the name of the cell that a run, its twin and its other seeds share: 12 hexadecimal digits."""
    parts = {
        "model": [record.model.id, record.model.variant],
        "dataset": [record.dataset.id, record.dataset.fingerprint.scored],
        "split": record.split.model_dump(mode="json"),
        "protocol": record.protocol.model_dump(mode="json"),
        "kind": record.kind,
    }
    return sha256_hex(canonical_json(parts))[:12]


def _headline(metric: Metric) -> Headline:
    return Headline(metric.id, metric.unit, metric.higher_is_better, metric.value, metric.ci95, metric.n_cases)


def _case_scores(data: RunData, metric: Metric) -> dict[str, float]:
    """Return case id to the mean over classes with a value; cases without any are left out (and counted elsewhere)."""
    return {case: mean for case, mean in data.means.get(metric.id, {}).items() if mean is not None}


def _class_means(data: RunData, metric: Metric) -> dict[str, float]:
    means = {name: metric.per_class[name].value for name in data.classes if name in metric.per_class}
    return {name: value for name, value in means.items() if value is not None}


def metric_name(record_id: str) -> str:
    """Return a record's metric id in words.

    >>> metric_name("dice.hard.native.v1"), metric_name("hd95.native.v1"), metric_name("nsd@2.native.v1")
    ('Dice', 'HD95', 'NSD@2')
    >>> metric_name("mse.restoration_identity.v1")
    'MSE (restoration identity)'
    """
    stem, *rest = record_id.split(".")
    known = {"dice": "Dice", "iou": "IoU"}
    name = known.get(stem, stem.upper() if len(stem) <= 6 else stem)
    kind = rest[0].replace("_", " ") if rest else ""
    return name if kind in {"hard", "native", "resampled", "patch", ""} else f"{name} ({kind})"


def unit_text(metric: Headline | Metric) -> str:
    """Return the unit as it follows a number; a fraction has none."""
    return {"fraction": "", "squared_intensity": "", "intensity": ""}.get(metric.unit, f" {metric.unit}")
