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


Unit = Literal["fraction", "squared_intensity", "intensity", "nats"]


@dataclass(frozen=True, kw_only=True)
class PretextDefinition:
    """One score of a pretext task, in the words of `harness.scoring.definitions.Definition`.

    Attributes
    ----------
    id : str
        The key under which the recipe returns it.
    record_id : str
        The id in records, with its version.
    unit : {"fraction", "squared_intensity", "intensity", "nats"}
        Intensity is that of the network's input, where the recipe maps its window to [0, 1].
    baseline_of : str or None
        Set where this is what a trivial answer scores on the same samples: the id of the network's own score.
    """

    id: str
    record_id: str
    unit: Unit
    higher_is_better: bool
    formula: str
    baseline_of: str | None = None

    @property
    def sha256(self) -> str:
        """SHA-256 of the canonical JSON of the card."""
        return sha256_hex(canonical_json(dataclasses.asdict(self)))


_RESTORED = "mean over voxels of (answer - original)^2 on distorted cubes of held-out volumes; answer: "
_CLASSED = "share of correctly classed items of held-out volumes; answer: "


def _score(
    id: str,  # noqa: A002
    record: str,
    unit: Unit,
    formula: str,
    *,
    higher: bool,
    baseline_of: str | None = None,
    version: int = 1,
) -> PretextDefinition:
    return PretextDefinition(
        id=id,
        record_id=f"{record}.v{version}",
        unit=unit,
        higher_is_better=higher,
        formula=formula,
        baseline_of=baseline_of,
    )


def _mse(id: str, name: str, answer: str, baseline_of: str | None = None) -> PretextDefinition:  # noqa: A002
    formula = _RESTORED + answer
    return _score(id, f"mse.{name}", "squared_intensity", formula, higher=False, baseline_of=baseline_of)


def _accuracy(id: str, name: str, answer: str, baseline_of: str | None = None) -> PretextDefinition:  # noqa: A002
    formula = _CLASSED + answer
    return _score(id, f"accuracy.{name}", "fraction", formula, higher=True, baseline_of=baseline_of)


_DICE = (
    "mean over the occurring coefficients of 2 x hits / (true + answered voxels) on fused held-out volumes; answer: "
)
_TURNS = "share of views of held-out volumes whose quarter turns are told rightly; answer: "
_XENT = "normalised temperature-scaled cross entropy of two views of held-out crops; embeddings: "
_L1 = "mean over voxels of |answer - uncorrupted| on corrupted crops of held-out volumes; answer: "
_PROBE = (
    "balanced accuracy over the classes of held-out cells, those beyond the scan left out, of a class-weighted ridge "
    "regression fitted on features of training volumes, of every encoder stage where the recipe has several; encoder: "
)

PRETEXT_METRICS = {
    card.id: card
    for card in (
        _mse("mse", "restoration", "the network's, after a sigmoid"),
        _mse("mse_identity", "restoration_identity", "the distorted cube itself", "mse"),
        _mse("mse_blur", "restoration_blur", "the distorted cube under the best of some Gaussian filters", "mse"),
        _mse("mse_constant", "restoration_constant", "the mean intensity of the targets everywhere", "mse"),
        _accuracy("accuracy", "pseudo_label", "the network's most probable class"),
        _accuracy("accuracy_majority", "pseudo_label_majority", "the most frequent class", "accuracy"),
        _score("dice", "dice.fusion", "fraction", _DICE + "the network's most probable class", higher=True),
        _score(
            "dice_majority",
            "dice.fusion_majority",
            "fraction",
            _DICE + "the most frequent class",
            higher=True,
            baseline_of="dice",
        ),
        _score("rotation_accuracy", "accuracy.rotation", "fraction", _TURNS + "the network's", higher=True),
        _score(
            "rotation_accuracy_chance",
            "accuracy.rotation_chance",
            "fraction",
            _TURNS + "drawn from four",
            higher=True,
            baseline_of="rotation_accuracy",
        ),
        _score("contrastive", "nt_xent.views", "nats", _XENT + "the network's", higher=False),
        _score(
            "contrastive_chance",
            "nt_xent.views_chance",
            "nats",
            _XENT + "all alike",
            higher=False,
            baseline_of="contrastive",
        ),
        _score("l1", "l1.restoration", "intensity", _L1 + "the network's", higher=False),
        _score(
            "l1_identity",
            "l1.restoration_identity",
            "intensity",
            _L1 + "the corrupted crop itself",
            higher=False,
            baseline_of="l1",
        ),
        _score(
            "l1_constant",
            "l1.restoration_constant",
            "intensity",
            _L1 + "the median of the targets everywhere",
            higher=False,
            baseline_of="l1",
        ),
        # version 1 counted cells beyond the scan as background, and read one stage
        _score("probe", "accuracy.probe", "fraction", _PROBE + "the pretrained one, frozen", higher=True, version=2),
        _score(
            "probe_random",
            "accuracy.probe_random",
            "fraction",
            _PROBE + "one that was never trained, frozen",
            higher=True,
            baseline_of="probe",
            version=2,
        ),
    )
}


def pretext_definition(metric_id: str) -> PretextDefinition:
    """Look up a pretext score by its short id or its record id; an unknown one is a UserError."""
    for card in PRETEXT_METRICS.values():
        if metric_id in (card.id, card.record_id):
            return card
    raise unknown_name("pretext metric", metric_id, PRETEXT_METRICS)
