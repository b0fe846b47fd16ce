"""BrainSegFounder's pretraining: undo a rotation, tell views apart, restore what was dropped; in two stages.

Cox et al., doi:10.1016/j.media.2024.103301. Stage 1 sees a large unlabelled set; stage 2 goes on, from its weights,
with the images of the target's training folds. Both are this task; stage 2 has a parent.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional as F

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.base import Fact
from harness.cards.model import ModelCard
from harness.errors import UserError
from harness.networks.swin_unetr import DIVISOR, SwinSSL
from harness.pretraining.contrastive import grouped_nt_xent
from harness.pretraining.corruption import RandBlockDrop, two_views
from harness.pretraining.cubes import Cubes, CubeSampler
from harness.pretraining.probe import labelled_cells, linear_probe, on_grid_of, untrained
from harness.pretraining.randomness import sample_state
from harness.pretraining.stages import from_parent
from harness.pretraining.task import FileLayout, PretextTask, device_of, evaluating, on_cpu
from harness.pretraining.volumes import Volumes, train_and_held_out

__all__ = ["BrainSegFounder", "BrainSegFounderStage2Task", "BrainSegFounderTask"]

_STAGES = tuple(f"hidden{stage}" for stage in range(5))
_GRID = "hidden2"  # 1/8: a probe of every stage has enough cells there
Share = Annotated[float, Field(gt=0, le=1)]


class BrainSegFounder(Fact):
    """Settings of the task; the defaults are the published ones."""

    name: Literal["brainsegfounder", "brainsegfounder_stage2"] = "brainsegfounder"
    cubes: Cubes = Cubes(size=(96, 96, 96))
    batch: int = Field(default=2, gt=0, description="scans")
    crops: int = Field(default=2, gt=0, description="crops of each scan; every crop gives two views")
    most_dropped: Share = Field(default=0.3, description="of a view, by noise; and as much again by another crop")
    smallest_block: Share = 0.05
    largest_block: Share = 0.25
    temperature: float = Field(default=0.5, gt=0)
    contrasted: int | None = Field(
        default=None,
        gt=0,
        description="most scans whose crops are told apart; null: all of a batch. Published: those of one GPU, 2",
    )
    rotation_weight: float = Field(default=1.0, ge=0)
    contrastive_weight: float = Field(default=1.0, ge=0)
    reconstruction_weight: float = Field(default=1.0, ge=0)
    evaluation_batches: int = Field(default=4, gt=0)


class BrainSegFounderTask(PretextTask):
    """Masked volume inpainting, rotation and contrastive coding.

    Parameters
    ----------
    volumes : Volumes
        With as many channels as the network; labels, where there are some, serve the probe of `evaluate` alone.
    train, held_out : iterable of str
        Ids to learn from and to evaluate on.
    settings : BrainSegFounder
        The recipe.
    seed : int
        With the step, the only source of randomness of `batch`.

    Raises
    ------
    UserError
        An id is wrong, no volume holds a crop, or the crop's shape cannot be computed or turned.
    """

    name = "brainsegfounder"
    method = "masked volume inpainting, rotation and contrastive coding, no labels"
    layout = FileLayout(".pt", "torch_zip", "state_dict", "module.", published_head=False)
    multichannel = True

    def __init__(
        self, volumes: Volumes, train: Iterable[str], held_out: Iterable[str], settings: BrainSegFounder, seed: int
    ) -> None:
        size = settings.cubes.size
        if size[1] != size[2] or any(side % DIVISOR for side in size) or max(size) == DIVISOR:
            raise UserError(
                f"Crops of {size} do not serve: the last two sides must be equal (they are turned), every side a "
                f"multiple of {DIVISOR}, and one more than {DIVISOR}. The published size is (96, 96, 96)."
            )
        together = min(settings.contrasted or settings.batch, settings.batch)
        if together * settings.crops < 2:
            raise UserError(
                "Contrastive coding needs at least two crops to tell apart. Raise batch, contrasted or crops."
            )
        if settings.batch % together:
            raise UserError(
                f"A batch of {settings.batch} scans cannot be told apart in groups of {together}. Choose a batch that "
                "is a multiple of recipe.contrasted."
            )
        self._views = 2 * together * settings.crops
        super().__init__()
        train, held_out = train_and_held_out(volumes, train, held_out)
        self.settings, self._volumes, self._seed = settings, volumes, seed
        self._train = CubeSampler(volumes, train, settings.cubes)
        self._held_out = CubeSampler(volumes, held_out, settings.cubes)
        self._fresh: Callable[[], nn.Module] | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Size of the crops."""
        return self.settings.cubes.size

    @property
    def samples(self) -> int:
        """Views in a batch: two of every crop."""
        return 2 * self.settings.batch * self.settings.crops

    def network(self, card: ModelCard, options: Mapping[str, Any], weights: Path | None = None) -> nn.Module:
        """Return the published pretext network; a parent may have other channels: see `stages.from_parent`."""
        self._fresh = lambda: build(card, Task("published"), options, None).network
        if weights is None:
            network = self._fresh()
        else:
            network, self.inherited = from_parent(card, options, weights)
        if not isinstance(network, SwinSSL):
            raise UserError(f"{card.id} is not a Swin pretext network. Use a card with layout: pretext.")
        return network

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return the two views of every crop, one after the other, so that equal parts of a batch keep them together.

        Returns
        -------
        dict of Tensor
            ``image`` (corrupted) and ``target`` (rotated only), both float32 of shape (2 batch x crops, channel, a, b,
            b), and ``rotation``, the quarter turns of each.
        """
        return self._batch(self._train, self._seed, "train", step)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the weighted sum of cross entropy, contrastive loss and mean absolute error."""
        rotation, contrastive, reconstruction = self._losses(network(batch["image"]), batch)
        chosen = self.settings
        return (
            chosen.rotation_weight * rotation
            + chosen.contrastive_weight * contrastive
            + chosen.reconstruction_weight * reconstruction
        )

    def _losses(
        self, answer: tuple[Tensor, Tensor, Tensor], batch: Mapping[str, Tensor]
    ) -> tuple[Tensor, Tensor, Tensor]:
        turns, embeddings, restored = answer
        return (
            F.cross_entropy(turns.float(), batch["rotation"]),
            grouped_nt_xent(embeddings, self._views, self.settings.temperature),
            F.l1_loss(restored.float(), batch["target"]),
        )

    def evaluate(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Return scores on held-out volumes.

        Returns
        -------
        dict of str to float
            ``rotation_accuracy`` (``rotation_accuracy_chance`` is 1/4); ``contrastive`` loss, and
            ``contrastive_chance`` of embeddings that are all alike; ``l1`` of the reconstruction, ``l1_identity`` of
            the corrupted crop, ``l1_constant`` of the median everywhere. Where the volumes have labels: ``probe`` and
            ``probe_random``, balanced accuracy of a linear classifier on the frozen features of all five encoder stages
            at 1/8 of the grid, of this network and of one that was never trained; cells beyond the scan do not count.
        """
        batches = [self._batch(self._held_out, 0, "evaluate", step) for step in range(self.settings.evaluation_batches)]
        hits, losses = [], []
        with evaluating(network):
            for batch in batches:
                moved = {name: value.to(device) for name, value in batch.items()}
                answer = network(moved["image"])
                losses.append([loss.item() for loss in self._losses(answer, moved)])
                hits.append((answer[0].argmax(1) == moved["rotation"]).double().mean().item())
        image, target = (torch.cat([batch[name] for batch in batches]) for name in ("image", "target"))
        _, contrastive, restored = np.mean(losses, axis=0)
        scores = {
            "rotation_accuracy": float(np.mean(hits)),
            "rotation_accuracy_chance": 0.25,
            "contrastive": float(contrastive),
            "contrastive_chance": math.log(self._views - 1),
            "l1": float(restored),
            "l1_identity": (image - target).abs().mean().item(),
            "l1_constant": (target - target.median()).abs().mean().item(),
        }
        return scores | self._probe(network, device)

    def validate(self, network: nn.Module) -> float:
        """Return the negative mean absolute error, by which the authors select (their file says RMSE)."""
        return -self.evaluate(network, device_of(network))["l1"]

    def contents(self, network: nn.Module, optimizer: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
        """Return the four entries of the released files; their ``epoch`` is not counted here and 0."""
        state = on_cpu(network.state_dict(), "module.")
        return {"global_step": step, "epoch": 0, "state_dict": state, "optimizer": dict(optimizer or {})}

    def facts(self) -> dict[str, Any]:
        """Return which volumes were drawn from and which were skipped, and why."""
        return {
            "trained_on": list(self._train.usable),
            "evaluated_on": list(self._held_out.usable),
            "skipped": {**self._train.skipped, **self._held_out.skipped},
        }

    def _batch(self, sampler: CubeSampler, seed: int, purpose: str, step: int) -> dict[str, Tensor]:
        chosen = self.settings
        crops: list[NDArray[np.float32]] = []
        for scan in range(chosen.batch):
            random = sample_state(seed, purpose, step, scan)
            case = sampler.usable[random.randint(len(sampler.usable))]
            crops += [sampler.draw_from(case, random).data for _ in range(chosen.crops)]
        drop = RandBlockDrop(chosen.most_dropped, chosen.smallest_block, chosen.largest_block)
        images, targets, turns = two_views(crops, drop, sample_state(seed, f"{purpose}-views", step))
        pairs = [row for crop in range(len(crops)) for row in (crop, crop + len(crops))]
        return {
            "image": torch.from_numpy(np.stack([images[row] for row in pairs])),
            "target": torch.from_numpy(np.stack([targets[row] for row in pairs])),
            "rotation": torch.tensor([turns[row] for row in pairs]),
        }

    def _probe(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        samplers = (self._train, self._held_out)
        parts = [[case for case in each.usable if self._volumes[case].label is not None] for each in samplers]
        if not all(parts) or self._fresh is None:
            return {}
        random = untrained(self._fresh).to(device)
        scores = {}
        with evaluating(network), evaluating(random):
            for key, judged in (("probe", network), ("probe_random", random)):
                assert isinstance(judged, SwinSSL)

                def encode(image: Tensor, judged: SwinSSL = judged) -> Tensor:
                    maps = judged.named_outputs(image.to(device))
                    return on_grid_of(maps[_GRID], [maps[name] for name in _STAGES])

                train, test = (
                    labelled_cells(encode, sampler, self._volumes, cases, self.settings.evaluation_batches)
                    for sampler, cases in zip(samplers, parts, strict=True)
                )
                scores[key] = linear_probe(train, test)
        return scores


class BrainSegFounderStage2Task(BrainSegFounderTask):
    """The same task, from the weights of stage 1, on the training cases of one fold of the target."""

    name = "brainsegfounder_stage2"
    method = "masked volume inpainting, rotation and contrastive coding, no labels; second stage, on one fold"
    second_stage = True
