"""The pages about things: model families, data sets and metrics, each with its cards, its claims and its cells."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from harness.cards.claim import BriefFact
from harness.cards.dataset import DatasetCard
from harness.cards.library import all_dataset_cards, all_model_cards, claims
from harness.cards.model import ModelCard
from harness.leaderboard.cells import Cell
from harness.leaderboard.folder import put
from harness.leaderboard.ledger import Line
from harness.leaderboard.metricpage import claimed_metrics, families
from harness.leaderboard.openness import openness, retrained
from harness.leaderboard.pretexts import pretext_cards
from harness.leaderboard.render import render
from harness.leaderboard.summary import RunSummary
from harness.leaderboard.text import bytes_size, plural, slug
from harness.records.protocol import family

__all__ = ["write_catalogue"]

_CELLS_PER_PAGE: Final = 200
_MOST_FINGERPRINTS: Final = 50


@dataclass
class Topic:
    """Everything the board knows about one model family or one data set."""

    key: str
    title: str
    lines: list[Line] = field(default_factory=list)
    cells: list[Cell] = field(default_factory=list)
    runs: list[RunSummary] = field(default_factory=list)
    models: list[ModelCard] = field(default_factory=list)
    dataset: DatasetCard | None = None
    brief: list[BriefFact] = field(default_factory=list)
    same: list[Topic] = field(default_factory=list)

    @property
    def page(self) -> str:
        """File name of its page, without folder and suffix."""
        return slug(self.key)

    @property
    def cell_pages(self) -> list[list[Cell]]:
        """The cells as its pages show them; the first is the page of cards and claims."""
        starts = range(0, len(self.cells), _CELLS_PER_PAGE)
        return [self.cells[start : start + _CELLS_PER_PAGE] for start in starts]

    def cells_href(self, number: int) -> str:
        """Return the file of a page of cells, counted from 1, beside its other pages."""
        # A slug has a hyphen only before its hash, so this is no other topic's page.
        return f"{self.page}.html#cells" if number == 1 else f"{self.page}-cells-{number}.html"

    @property
    def said(self) -> str:
        """What there is, in a line."""
        parts = [plural(len(self.models), "weight set")] if self.models else []
        parts += [plural(len(self.lines), "claim")] if self.lines else []
        parts += [plural(len(self.cells), "cell")] if self.cells else []
        return ", ".join(parts) or "no claim and no run yet"

    @property
    def fingerprints(self) -> list[tuple[str, str, str, str, int]]:
        """What the runs read: split and fold, what for, hash of the scored cases, hash of all cases, how many runs."""
        found = Counter(
            (
                run.split if run.fold is None else f"{run.split}, fold {run.fold}",
                "pretraining" if run.kind == "pretrain" else "training and scoring",
                *run.fingerprints,
            )
            for run in self.runs
            if run.fingerprints[0]
        )
        return [(*key, count) for key, count in sorted(found.items())][:_MOST_FINGERPRINTS]

    @property
    def evidence(self) -> list[str]:
        """Every mark that a result shown on the page carries."""
        return sorted({mark for run in self.runs for mark in run.evidence})


def write_catalogue(
    ledger: Sequence[Line],
    runs: Sequence[RunSummary],
    cells: Sequence[Cell],
    folder: Path,
    counts: dict[str, str],
    cards: Sequence[Path] = (),
) -> None:
    """Write ``models/``, ``datasets/`` and ``metrics.html``."""
    models = _topics(
        ledger, runs, cells,
        of_claim=lambda line: (family(line.claim.model), line.claim.model),
        of_run=lambda run: run.family,
    )  # fmt: skip
    for card in all_model_cards(cards):
        models.setdefault(card.family, Topic(card.family, card.family)).models.append(card)
    for fact in claims().brief_facts:
        if family(fact.model) in models:
            models[family(fact.model)].brief.append(fact)
    datasets = _topics(
        ledger, runs, cells,
        of_claim=lambda line: (line.claim.dataset, line.claim.dataset),
        of_run=lambda run: run.dataset,
    )  # fmt: skip
    for dataset in all_dataset_cards(cards):
        topic = datasets.setdefault(dataset.id, Topic(dataset.id, dataset.id))
        topic.dataset, topic.title = dataset, dataset.title
    _join_names(datasets)
    known = {topic.key: topic.dataset for topic in datasets.values() if topic.dataset is not None}
    _write("models", "model.html", models, folder, counts, known)
    _write("datasets", "dataset.html", datasets, folder, counts, known)
    page = render(
        "metrics.html",
        depth=0,
        section="metrics",
        counts=counts,
        families=families(),
        claimed=claimed_metrics(ledger),
        pretexts=pretext_cards(),
    )
    put(folder / "metrics.html", page)


def _topics(
    ledger: Sequence[Line],
    runs: Sequence[RunSummary],
    cells: Sequence[Cell],
    of_claim: Callable[[Line], tuple[str, str]],
    of_run: Callable[[RunSummary], str],
) -> dict[str, Topic]:
    topics: dict[str, Topic] = {}
    for line in ledger:
        key, title = of_claim(line)
        topics.setdefault(key, Topic(key, title)).lines.append(line)
    for run in runs:
        key = of_run(run)
        topics.setdefault(key, Topic(key, key)).runs.append(run)
    for cell in cells:
        topics[of_run(cell.first)].cells.append(cell)
    return topics


def _join_names(topics: dict[str, Topic]) -> None:
    """Lead from the name that a paper uses to the card of the same images, and back."""
    for topic in topics.values():
        kin = topic.dataset.shares_images_with if topic.dataset is not None else ()
        for other in (topics[one.name] for one in kin if one.how == "is" and one.name in topics):
            for here, there in ((topic, other), (other, topic)):
                if all(there is not known for known in here.same):
                    here.same.append(there)


def _write(
    kind: str,
    template: str,
    topics: dict[str, Topic],
    folder: Path,
    counts: dict[str, str],
    known: dict[str, DatasetCard],
) -> None:
    order = sorted(topics.values(), key=lambda topic: (not topic.models and topic.dataset is None, topic.title.lower()))
    for topic in order:
        page = render(
            template,
            depth=1,
            section=kind,
            counts=counts,
            topic=topic,
            facts=[_model_facts(card) for card in topic.models],
            dataset_facts=_dataset_facts(topic.dataset) if topic.dataset else [],
            fingerprints=topic.fingerprints if kind == "datasets" else [],
            brief=_brief(topic.brief),
            open_parts=openness(topic.models, known),
            retrained=retrained(topic.runs),
            failures=[run for run in topic.runs if run.status != "complete"][:50],
        )
        put(folder / kind / f"{topic.page}.html", page)
        for number in range(2, len(topic.cell_pages) + 1):
            page = render("cells.html", depth=1, section=kind, counts=counts, kind=kind, topic=topic, page=number)
            put(folder / kind / topic.cells_href(number), page)
    page = render("topics.html", depth=1, section=kind, counts=counts, kind=kind, topics=order)
    put(folder / kind / "index.html", page)


def _model_facts(card: ModelCard) -> list[tuple[str, Any]]:
    contract = card.contract
    window = contract.intensity.window
    facts: list[tuple[str, Any]] = [
        ("Parameters", f"{card.parameters:,}" if card.parameters else None),
        (
            "Input",
            f"{', '.join(contract.channels)}; axes {contract.axes}; orientation {contract.orientation or 'unknown'}",
        ),
        (
            "Spacing",
            " \N{MULTIPLICATION SIGN} ".join(f"{s:g}" for s in contract.spacing) + " mm"
            if contract.spacing
            else "native",
        ),
        ("Intensity", contract.intensity.rule + (f", {window[0]:g} to {window[1]:g}" if window else "")),
        ("Sizes divisible by", " \N{MULTIPLICATION SIGN} ".join(str(n) for n in contract.divisible_by)),
        ("Licence of the weights", card.licence),
    ]
    if card.pretraining:
        facts += [
            ("Pretrained on", ", ".join(card.pretraining.datasets) or None),
            ("Pretraining", card.pretraining.method),
        ]
    for file in card.checkpoint.files if card.checkpoint else ():
        size = f", {bytes_size(file.bytes)}" if file.bytes else ""
        facts.append(("File", f"{file.name}{size}"))
        if file.sha256:
            facts.append(("SHA-256", {"code": file.sha256}))
    return facts


def _dataset_facts(card: DatasetCard) -> list[tuple[str, Any]]:
    return [
        ("Task", card.task),
        ("Modality", ", ".join(card.modality)),
        ("Body", card.body),
        ("Channels", ", ".join(card.channels)),
        ("Labelled cases", card.num_cases),
        ("Layout", card.layout.kind + ("" if card.layout.verified else " (not tried on the real files)")),
        ("Metric convention", card.metric_convention),
        ("Licence", card.terms.licence),
        ("How to get it", card.terms.how_to_get),
        ("Card version", card.version),
    ]


def _brief(facts: Sequence[BriefFact]) -> list[tuple[str, str]]:
    rows = []
    for fact in facts:
        value = fact.value
        text = ", ".join(str(v) for v in value) if isinstance(value, tuple) else _plain(value)
        unit = {"score_0_100": "of 100"}.get(fact.unit or "", fact.unit or "")
        rows.append((fact.key.replace("_", " "), " ".join(part for part in (text, unit) if part)))
    return rows


def _plain(value: float | str | None) -> str:
    return f"{value:,.0f}" if isinstance(value, float) and value.is_integer() else str(value)
