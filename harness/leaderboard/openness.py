"""What is public of a model family, each with its evidence, and whether it was trained again here, at what scale.

Only what cards and records say. What no card says is unknown; nobody guesses it from what is usual.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.cards.dataset import DatasetCard
from harness.cards.model import Disclosure, ModelCard
from harness.leaderboard.summary import RunSummary
from harness.leaderboard.text import duration, plural

__all__ = ["Openness", "openness", "retrained"]

_STATES: Final = {
    "public": ("disc", "good"),
    "partly": ("half", "plain"),
    "on request": ("half", "plain"),
    "not published": ("cross", "mute"),
    "described": ("half", "plain"),
    "unknown": ("ring", "mute"),
}


@dataclass(frozen=True)
class Openness:
    """One part of a model: ``state`` in words, with a drawn shape and a tone, and what shows it."""

    part: str
    state: str
    evidence: str

    @property
    def look(self) -> tuple[str, str]:
        """Shape and tone of the state."""
        return _STATES[self.state]


def openness(cards: Sequence[ModelCard], datasets: Mapping[str, DatasetCard]) -> list[Openness]:
    """Say of weights, code, data, recipe, split and logs of a family whether they are public.

    Parameters
    ----------
    cards : sequence of ModelCard
        Of one family; those of weights that were pretrained here say nothing about what the authors published.
    datasets : mapping of str to DatasetCard
        By id, for the terms of the pretraining data.
    """
    published = [card for card in cards if "self_pretrained" not in card.evidence and card.checkpoint is not None]
    if not published:
        return []
    return [
        _weights(published),
        _code(published),
        _data(published, datasets),
        _recipe(published),
        _disclosed(
            "Split",
            [card.pretraining.split if card.pretraining else None for card in published],
            "no card says which cases the pretraining saw and held out",
        ),
        _disclosed(
            "Logs", [card.pretraining.logs if card.pretraining else None for card in published], "no card names any"
        ),
    ]


def _disclosed(part: str, stated: Sequence[Disclosure | None], otherwise: str) -> Openness:
    """Join what the cards of a family state; where only some do, the rest stays unknown and is counted."""
    known = [one for one in stated if one is not None]
    if not known:
        return Openness(part, "unknown", otherwise)
    evidence = "; ".join(dict.fromkeys(one.evidence for one in known))
    silent = len(stated) - len(known)
    states = {one.state for one in known}
    state: str = "partly" if silent or len(states) > 1 else known[0].state
    if silent and states == {"not published"}:
        state = "unknown"  # nothing is known to be public, and of some weight sets nothing is known at all
    rest = f"; unknown for {silent} of {plural(len(stated), 'weight set')}" if silent else ""
    return Openness(part, state, evidence + rest)


def _weights(cards: Sequence[ModelCard]) -> Openness:
    files = [(card, file) for card in cards if card.checkpoint for file in card.checkpoint.files]
    free = {card.id for card, file in files if any(place.kind != "form" for place in file.places)}
    asked = {card.id for card, file in files if file.places} - free
    hashed = sum(file.sha256 is not None for _, file in files)
    kinds = sorted({place.kind.replace("_", " ") for _, file in files for place in file.places if place.kind != "form"})
    unofficial = sum(any(not place.official for place in file.places) for _, file in files)
    said = f"{len(free)} of {plural(len(cards), 'weight set')} can be downloaded ({', '.join(kinds) or 'nowhere'})"
    said += f"; {len(asked)} after a form" if asked else ""
    said += f"; the hash of {hashed} of {plural(len(files), 'file')} is on the card"
    said += f"; {unofficial} of them also at a place that is not the authors'" if unofficial else ""
    state = "public" if len(free) == len(cards) else "partly" if free else "on request" if asked else "not published"
    return Openness("Weights", state, said)


def _code(cards: Sequence[ModelCard]) -> Openness:
    sources = list(dict.fromkeys(card.source for card in cards if card.source.startswith("https://")))
    if not sources:
        return Openness("Code", "unknown", "no card names where it is")
    return Openness("Code", "public", ", ".join(sources))


def _data(cards: Sequence[ModelCard], datasets: Mapping[str, DatasetCard]) -> Openness:
    names = list(dict.fromkeys(name for card in cards if card.pretraining for name in card.pretraining.datasets))
    if not names:
        return Openness("Pretraining data", "unknown", "no card lists them")
    said = []
    for name in names:
        card = datasets.get(name)
        said.append(f"{name} ({card.terms.licence})" if card else f"{name} (no card here, terms unknown)")
    known = sum(name in datasets for name in names)
    return Openness("Pretraining data", "described" if known == len(names) else "partly" if known else "unknown",
                    "; ".join(said))  # fmt: skip


def _recipe(cards: Sequence[ModelCard]) -> Openness:
    methods = list(dict.fromkeys(card.pretraining.method for card in cards if card.pretraining))
    if not methods:
        return Openness("Recipe", "unknown", "no card describes it")
    withheld = [method for method in methods if "not published" in method]
    state = "not published" if len(withheld) == len(methods) else "partly" if withheld else "described"
    return Openness("Recipe", state, "; ".join(methods))


def retrained(runs: Iterable[RunSummary]) -> tuple[str, list[RunSummary]]:
    """Say whether a family was pretrained here and at what scale, with the records that show it."""
    held = [run for run in runs if run.kind == "pretrain"]
    done = [run for run in held if run.status == "complete" and run.standing != "withdrawn" and not run.superseded]
    if not done:
        failed = f"; {plural(len(held), 'pretraining run')} did not end well" if held else ""
        return f"no: this board has no record of it{failed}.", []
    largest = max(done, key=lambda run: (run.steps or 0, run.run_id))
    time = duration(largest.seconds)
    gpu = f", {largest.gpu_hours:.2f} GPU-hours" if largest.gpu_hours is not None else ", GPU-hours not measured"
    said = (
        f"yes, {plural(len(done), 'run')}; the longest took {largest.steps or 0:,} steps on {largest.dataset} "
        f"({time}{gpu}). That is the recipe at this scale, not the published weights."
    )
    return said, sorted(done, key=lambda run: (-(run.steps or 0), run.run_id))[:20]
