"""MIS-FM's pretext task: tell, voxel by voxel, with which coefficient two volumes were fused.

Wang et al., MIS-FM, arXiv:2306.16925; IEEE TIP 34:6041-6052 (2025). Two recipes: that of the 2023 paper, and the one
the authors published in PyMIC on 2024-09-30. Which of them made the released files is not documented.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.base import Fact
from harness.cards.model import ModelCard
from harness.errors import UserError
from harness.pretraining.cubes import Cubes, CubeSampler
from harness.pretraining.fusion import RandContrast, RandFusionBlocks, RandFusionBoxes, RandZoomedCrop, mix
from harness.pretraining.fusion_loss import class_scores, fusion_loss
from harness.pretraining.randomness import sample_state
from harness.pretraining.task import FileLayout, PretextTask, device_of, evaluating, on_cpu
from harness.pretraining.volumes import Volumes, train_and_held_out

__all__ = ["VolumeFusion", "VolumeFusion2023", "VolumeFusion2023Task", "VolumeFusionTask"]

Ints = tuple[int, int, int]
Positive3 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]
Probability = Annotated[float, Field(ge=0, le=1)]
Pair = tuple[NDArray[np.float32], NDArray[np.uint8]]


class _Fusion(Fact):
    size: Positive3 = Field(default=(64, 128, 128), description="voxels, in the axes of the prepared volumes (z, y, x)")
    batch: int = Field(default=2, gt=0)
    highest: int = Field(default=4, gt=0, le=255, description="K: coefficients are 0, 1/K, ..., 1")
    flip: Probability = 0.5
    evaluation_batches: int = Field(default=4, gt=0, description="batches of held-out volumes that are scored")


class VolumeFusion2023(_Fusion):
    """Settings of the 2023 recipe: overlapping boxes, the partner is another scan. Volumes are in [-1, 1]."""

    name: Literal["volume_fusion_2023"] = "volume_fusion_2023"
    boxes: tuple[int, int] = (10, 40)
    smallest_box: Positive3 = (8, 8, 8)
    largest_box: Positive3 = (40, 80, 80)


class VolumeFusion(_Fusion):
    """Settings of the current recipe: a grid of equal blocks, both sub-volumes from one scan, contrast changed."""

    name: Literal["volume_fusion"] = "volume_fusion"
    zoom: tuple[float, float] = (0.7, 1.5)
    invert: Probability = Field(default=0.25, description="that both sub-volumes become 1 - x")
    smallest_block: Positive3 = (5, 8, 8)
    largest_block: Positive3 = (20, 32, 32)
    block_share: Probability = Field(default=0.7, description="of the blocks that are not background")


class _FusionTask(PretextTask):
    """What the two recipes share: the network, the loss, the scores and the file.

    Parameters
    ----------
    volumes : Volumes
        Of one channel.
    train, held_out : iterable of str
        Ids to draw from in training and in `evaluate`.
    settings : VolumeFusion2023 or VolumeFusion
        The recipe.
    seed : int
        With the step, the only source of randomness of `batch`.

    Raises
    ------
    UserError
        An id is wrong, or there are fewer volumes than the recipe mixes.
    """

    layout = FileLayout(".pt", "torch_zip", "model_state_dict", "", published_head=True)
    fewest: ClassVar[int]

    def __init__(
        self, volumes: Volumes, train: Iterable[str], held_out: Iterable[str], settings: _Fusion, seed: int
    ) -> None:
        super().__init__()
        train, held_out = train_and_held_out(volumes, train, held_out)
        for purpose, ids in (("train on", train), ("hold out", held_out)):
            if len(ids) < self.fewest:
                raise UserError(
                    f"Recipe {self.name} mixes different scans, so it needs at least {self.fewest} volumes to "
                    f"{purpose}; there is {len(ids)}. Give more, or use "
                    "recipe=volume_fusion, which mixes parts of one scan."
                )
        self.chosen = settings
        self._seed = seed
        cubes = Cubes(size=settings.size)
        self._train, self._held_out = CubeSampler(volumes, train, cubes), CubeSampler(volumes, held_out, cubes)
        self._volumes = volumes

    @abc.abstractmethod
    def _pairs(self, sampler: CubeSampler, seed: int, purpose: str, step: int) -> list[Pair]:
        """Return fused volumes with their classes."""

    @property
    def size(self) -> Ints:
        """Size of the fused volumes."""
        return self.chosen.size

    @property
    def samples(self) -> int:
        """Fused volumes of a batch."""
        return self.chosen.batch

    def network(self, card: ModelCard, options: Mapping[str, Any], weights: Path | None = None) -> nn.Module:
        """Return the published network, which has one class per coefficient; see `PretextTask.network`."""
        classes = card.architecture.get("num_classes")
        if classes != self.chosen.highest + 1:
            raise UserError(
                f"{card.id} has {classes} output classes, and highest={self.chosen.highest} makes "
                f"{self.chosen.highest + 1}. Set recipe.highest to one less than the classes of the card."
            )
        return self.keep(build(card, Task("published", patch=self.size), options, weights))

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return ``image`` float32 of shape (batch, 1, a, b, c) and ``label`` int64 of shape (batch, a, b, c)."""
        return _stack(self._pairs(self._train, self._seed, "train", step))

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean of Dice loss and cross entropy over all classes, at every scale the network answers."""
        return fusion_loss(network(batch["image"]), batch["label"], self.chosen.highest + 1, self.over_ranks)

    def evaluate(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Return scores on fused held-out volumes.

        Returns
        -------
        dict of str to float
            ``accuracy`` over voxels and ``dice`` (mean over classes) of the network, ``accuracy_majority`` and
            ``dice_majority`` of answering the most frequent class everywhere.
        """
        num_classes = self.chosen.highest + 1
        confusion = torch.zeros(num_classes, num_classes, dtype=torch.int64)
        with evaluating(network):
            for step in range(self.chosen.evaluation_batches):
                batch = _stack(self._pairs(self._held_out, 0, "evaluate", step))
                answer = network(batch["image"].to(device))
                finest = answer if isinstance(answer, Tensor) else answer[0]
                pairs = batch["label"] * num_classes + finest.argmax(dim=1).cpu()
                confusion += pairs.flatten().bincount(minlength=num_classes**2).view(num_classes, num_classes)
        majority = torch.zeros_like(confusion)
        majority[:, confusion.sum(1).argmax()] = confusion.sum(1)
        accuracy, dice = class_scores(confusion)
        accuracy_majority, dice_majority = class_scores(majority)
        return {
            "accuracy": accuracy,
            "dice": dice,
            "accuracy_majority": accuracy_majority,
            "dice_majority": dice_majority,
        }

    def validate(self, network: nn.Module) -> float:
        """Return the mean Dice over the classes, on fused held-out volumes."""
        return self.evaluate(network, device_of(network))["dice"]

    def contents(self, network: nn.Module, optimizer: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
        """Return what PyMIC writes; ``valid_pred`` is a plain float here, so that the file loads without NumPy."""
        return {
            "iteration": step,
            "valid_pred": self.validate(network),
            "model_state_dict": on_cpu(network.state_dict(), ""),
            "optimizer_state_dict": dict(optimizer or {}),
        }

    def facts(self) -> dict[str, Any]:
        """Return which volumes were used."""
        return {"trained_on": list(self._train.usable), "evaluated_on": list(self._held_out.usable)}


class VolumeFusion2023Task(_FusionTask):
    """Each crop of a batch is fused with the crop before it, which is another scan; see `_FusionTask`."""

    name = "volume_fusion_2023"
    method = "Volume Fusion, recipe of 2023 (overlapping boxes, partner from another volume), no labels"
    fewest = 2

    def _pairs(self, sampler: CubeSampler, seed: int, purpose: str, step: int) -> list[Pair]:
        chosen = self.chosen
        assert isinstance(chosen, VolumeFusion2023)
        order = sample_state(seed, f"{purpose}-order", step).permutation(sampler.usable)
        states = [sample_state(seed, purpose, step, sample) for sample in range(chosen.batch)]
        # with one sample to a batch, the partner is a crop that is not used otherwise
        crops = []
        for place in range(max(chosen.batch, 2)):
            random = states[place] if place < chosen.batch else sample_state(seed, purpose, step, place)
            crop = sampler.draw_from(str(order[place % len(order)]), random)
            axes = [axis for axis in (1, 2, 3) if random.random_sample() < chosen.flip]
            crops.append(np.flip(crop.data, axes))
        pairs = []
        for place, random in enumerate(states):
            boxes = RandFusionBoxes(chosen.highest, chosen.boxes, chosen.smallest_box, chosen.largest_box)
            classes = boxes.set_random_state(state=random)(chosen.size)
            pairs.append((mix(crops[place - 1], crops[place], classes, chosen.highest), classes))
        return pairs


class VolumeFusionTask(_FusionTask):
    """Two crops of one scan, changed in size and contrast, are fused; see `_FusionTask`."""

    name = "volume_fusion"
    method = "Volume Fusion, recipe since 2024-09-30 (grid of blocks, sub-volumes of one scan), no labels"
    fewest = 1

    def _pairs(self, sampler: CubeSampler, seed: int, purpose: str, step: int) -> list[Pair]:
        return [self._pair(sampler, sample_state(seed, purpose, step, sample)) for sample in range(self.chosen.batch)]

    def _pair(self, sampler: CubeSampler, random: np.random.RandomState) -> Pair:
        chosen = self.chosen
        assert isinstance(chosen, VolumeFusion)
        volume = self._volumes[sampler.usable[random.randint(len(sampler.usable))]].image
        crop = RandZoomedCrop(chosen.size, chosen.zoom, chosen.flip).set_random_state(state=random)
        contrast = RandContrast().set_random_state(state=random)
        foreground, background = contrast(crop(volume)), contrast(crop(volume))
        if random.random_sample() < chosen.invert:
            foreground, background = 1 - foreground, 1 - background
        blocks = RandFusionBlocks(chosen.highest, chosen.smallest_block, chosen.largest_block, chosen.block_share)
        classes = blocks.set_random_state(state=random)(chosen.size)
        return mix(foreground, background, classes, chosen.highest), classes


def _stack(pairs: list[Pair]) -> dict[str, Tensor]:
    images, classes = zip(*pairs, strict=True)
    return {"image": torch.from_numpy(np.stack(images)), "label": torch.from_numpy(np.stack(classes)).long()}
