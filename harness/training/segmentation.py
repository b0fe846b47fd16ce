"""Fine-tuning for segmentation: patches in, logits out, and a validation on whole scans in their own grid."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from torch import Tensor, nn

from harness.data.patches import PatchSource
from harness.training.distributed import World
from harness.training.objective import SegmentationLoss
from harness.training.regions import Regions

__all__ = ["SegmentationTask"]


class SegmentationTask:
    """What `harness.training.loop.fit` trains when a model is fine-tuned.

    Parameters
    ----------
    source : PatchSource
        Batches as a function of the step.
    loss : SegmentationLoss
        On logits and labels.
    score : callable
        Takes the network, returns the mean Dice over the validation cases; called only by ``best_val`` selection.
    workers : int
        Threads that prepare batches ahead.
    regions : Regions, optional
        The overlapping targets of a network that answers with sigmoids; None: one class per voxel.
    """

    def __init__(
        self,
        source: PatchSource,
        loss: SegmentationLoss,
        score: Callable[[nn.Module], float],
        workers: int,
        regions: Regions | None = None,
    ) -> None:
        self._source, self._loss, self._score, self._workers = source, loss, score, workers
        self._regions = regions

    def batches(self, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield the batches of the steps ``start`` to ``stop`` (exclusive)."""
        return self._source.loader(start, stop, self._workers)

    def batches_of(self, world: World, start: int, stop: int) -> Iterator[Mapping[str, Tensor]]:
        """Yield one rank's part of these batches; the other parts are not read."""
        return self._source.loader(start, stop, self._workers, part=(world.rank, world.size))

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the loss of one batch."""
        if "augment" in batch:
            batch = self._source.augment(batch)
        label, drawn = batch["label"], batch.get("drawn")
        if self._regions is not None:
            label = self._regions.target(label)
            drawn = None if drawn is None else self._regions.drawn(drawn)
        loss: Tensor = self._loss(network(batch["image"]), label, drawn)
        return loss

    def validate(self, network: nn.Module) -> float:
        """Return the mean Dice over the validation cases."""
        return self._score(network)
