"""Did the pretraining of a weight set see the images that it may be scored on? From the facts on the cards alone."""

from __future__ import annotations

from collections.abc import Iterable

from harness.cards.dataset import DatasetCard
from harness.cards.model import Contamination, ModelCard

__all__ = ["contamination_of", "overlaps"]

_WORST_FIRST = ("train_overlap", "test_overlap", "unlabeled_overlap", "unknown", "none")


def contamination_of(model: ModelCard, data: DatasetCard) -> Contamination | None:
    """Return the gravest thing that a model card says about a data set, under any name its images go by.

    Parameters
    ----------
    model : ModelCard
        Its ``contamination`` speaks of data sets by the names that papers use.
    data : DatasetCard
        Its ``shares_images_with`` names the sets that hold the same images, or some of them.

    Returns
    -------
    Contamination or None
        For the card's own id, with the other name in the evidence; None where the card says nothing.
    """
    names = {data.id: "", **{kin.name: kin.how for kin in data.shares_images_with}}
    said = [_through(entry, names[entry.dataset]) for entry in model.contamination if entry.dataset in names]
    if not said:
        return None
    worst = min(said, key=lambda entry: (_WORST_FIRST.index(entry.status), entry.dataset != data.id))
    how = names[worst.dataset]
    evidence = f"{worst.evidence} ({data.id} {how} {worst.dataset})" if how else worst.evidence
    return Contamination(dataset=data.id, status=worst.status, evidence=evidence)


def _through(entry: Contamination, how: str) -> Contamination:
    """Weaken what is said of a set that may, or may not, hold some of the same images: it is unknown then."""
    weak = how == "may share cases with" and entry.status != "none"
    return entry.model_copy(update={"status": "unknown"}) if weak else entry


def overlaps(models: Iterable[ModelCard], datasets: Iterable[DatasetCard]) -> list[tuple[str, Contamination]]:
    """Return every pair of weight set and data set that a card speaks of: the id of the weights, and what is said."""
    held = list(datasets)
    pairs = ((model.id, contamination_of(model, data)) for model in models for data in held)
    return [(name, found) for name, found in pairs if found is not None]
