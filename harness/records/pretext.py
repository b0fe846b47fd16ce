"""What pretraining records measure: definition cards of scores on held-out volumes, network beside trivial answers.

They have no label maps, no classes and no empty masks, so that they live here and not in `harness.scoring`.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from harness.errors import unknown_name
from harness.files import canonical_json, sha256_hex

__all__ = ["PRETEXT_METRICS", "PretextDefinition", "pretext_definition"]


@dataclass(frozen=True, kw_only=True)
class PretextDefinition:
    """One score of a pretext task, in the words of `harness.scoring.definitions.Definition`.

    Attributes
    ----------
    id : str
        The key under which the recipe returns it.
    record_id : str
        The id in records, with its version.
    unit : {"fraction", "squared_intensity"}
        Squared intensity is that of the network's input, where the recipe maps its window to [0, 1].
    baseline_of : str or None
        Set where this is what a trivial answer scores on the same samples: the id of the network's own score.
    """

    id: str
    record_id: str
    unit: Literal["fraction", "squared_intensity"]
    higher_is_better: bool
    formula: str
    baseline_of: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of the card."""
        return sha256_hex(canonical_json(dataclasses.asdict(self)))


_RESTORED = "mean over voxels of (answer - original)^2 on distorted cubes of held-out volumes; answer: "


def _mse(id: str, name: str, answer: str, baseline_of: str | None = None) -> PretextDefinition:  # noqa: A002
    return PretextDefinition(
        id=id,
        record_id=f"mse.{name}.v1",
        unit="squared_intensity",
        higher_is_better=False,
        formula=_RESTORED + answer,
        baseline_of=baseline_of,
    )


def _accuracy(id: str, name: str, answer: str, baseline_of: str | None = None) -> PretextDefinition:  # noqa: A002
    return PretextDefinition(
        id=id,
        record_id=f"accuracy.{name}.v1",
        unit="fraction",
        higher_is_better=True,
        formula="share of correctly classed items of held-out volumes; answer: " + answer,
        baseline_of=baseline_of,
    )


PRETEXT_METRICS = {
    card.id: card
    for card in (
        _mse("mse", "restoration", "the network's, after a sigmoid"),
        _mse("mse_identity", "restoration_identity", "the distorted cube itself", "mse"),
        _mse("mse_blur", "restoration_blur", "the distorted cube under the best of some Gaussian filters", "mse"),
        _accuracy("accuracy", "pseudo_label", "the network's most probable class"),
        _accuracy("accuracy_majority", "pseudo_label_majority", "the most frequent class", "accuracy"),
    )
}


def pretext_definition(metric_id: str) -> PretextDefinition:
    """Look up a pretext score by its short id or its record id; an unknown one is a UserError."""
    for card in PRETEXT_METRICS.values():
        if metric_id in (card.id, card.record_id):
            return card
    raise unknown_name("pretext metric", metric_id, PRETEXT_METRICS)
