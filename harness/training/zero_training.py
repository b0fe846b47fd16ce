"""Predictions without training: rules that look at the training cases once, as a floor under every other number.

A model that does not beat the mean shape of its training labels, or a window of intensities, has learnt nothing.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from harness.adapters.build import Built
from harness.checkpoints.hashing import state_sha256
from harness.data.cache import Cache
from harness.errors import UserError, unknown_name
from harness.inference.native import label_table, restore
from harness.scoring.soft import SoftStatistics
from harness.training.evaluation import Evaluator
from harness.training.session import Outcome

__all__ = ["Rule", "RuleEvaluator", "buffers", "fit_rule", "look"]

_VERSION = "1"  # changes whenever the same training cases would give another rule


class Rule(nn.Module, abc.ABC):
    """A rule for whole scans. Its buffers hold all that it took from the training cases; it has no parameters."""

    decision: str

    @classmethod
    @abc.abstractmethod
    def fit(cls, cache: Cache, train: Sequence[str]) -> Rule:
        """Look at the training cases, one at a time."""

    @abc.abstractmethod
    def label(self, image: NDArray[np.float32]) -> NDArray[np.uint8]:
        """Return the class index of every voxel, shape (a, b, c), of a prepared volume of shape (C, a, b, c)."""


def fit_rule(kind: str, cache: Cache, train: Sequence[str]) -> Rule:
    """Return the rule that a model card names, fitted.

    Parameters
    ----------
    kind : str
        ``mean_shape`` or ``intensity_window``.
    cache : Cache
        Prepared cases; of the others than ``train`` none is opened.
    train : sequence of str
        The training cases.

    Raises
    ------
    UserError
        There is no such rule, no training case, or one without labels.
    """
    from harness.training.intensity_window import IntensityWindow
    from harness.training.mean_shape import MeanShape

    kinds: dict[str, type[Rule]] = {"mean_shape": MeanShape, "intensity_window": IntensityWindow}
    if kind not in kinds:
        raise unknown_name("rule without training", kind, kinds, "A card's architecture names it as zero_training.")
    if not train:
        raise UserError("The split has no training cases, and a rule takes all it knows from them. Use another split.")
    unlabelled = [case for case in train if cache.case(case).label is None]
    if unlabelled:
        raise UserError(f"{len(unlabelled)} training cases have no labels, such as {unlabelled[0]}. Use another split.")
    return kinds[kind].fit(cache, sorted(train))


def look(kind: str, cache: Cache, train: Sequence[str]) -> tuple[Built, Outcome]:
    """Fit a rule, and return it in the place of a network, with the outcome of zero steps; see `fit_rule`."""
    begin = time.perf_counter()
    rule = fit_rule(kind, cache, train)
    seconds = {"train": time.perf_counter() - begin, "validate": 0.0}
    outcome = Outcome(
        steps=0, selected_step=0, best_score=None, seconds=seconds, wait_seconds=0.0, resumed=0, trainable=0
    )
    return Built(rule, _VERSION, state_sha256(rule.state_dict()), None), outcome


@dataclass(frozen=True)
class RuleEvaluator(Evaluator):
    """Predicts with a rule instead of a network; everything else is as with a network."""

    def predict(self, network: nn.Module, case: str) -> NDArray[np.integer[Any]]:
        """Return the label map of one scan, in its own grid and with the data set's label values."""
        assert isinstance(network, Rule)
        prepared = self.cache.case(case)
        found = network.label(np.asarray(prepared.image, dtype=np.float32))
        table = label_table(len(self.cache.label_values), self.cache.label_values)
        return restore(table[found], prepared.spec)

    def predict_with_sums(
        self, network: nn.Module, case: str
    ) -> tuple[NDArray[np.integer[Any]], dict[str, SoftStatistics]]:
        """Refuse: a rule gives labels and no probabilities."""
        del network, case
        raise UserError(
            "A rule without training gives labels and no probabilities, so the sums that soft metrics need do not "
            "exist. Use protocol.scoring.sums=false and metrics of label maps, such as dice."
        )


def buffers(rule: Rule, **arrays: NDArray[np.generic]) -> None:
    """Give a rule what it took from the training cases."""
    for name, array in arrays.items():
        rule.register_buffer(name, torch.from_numpy(np.ascontiguousarray(array)))
