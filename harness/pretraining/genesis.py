"""Models Genesis' pretext task: restore a cube that was shuffled, remapped, painted over and flipped.

Zhou et al., Models Genesis, Medical Image Analysis 67:101840 (2021), arXiv:2004.07882. The distortions themselves are
in `harness.pretraining.restorations`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional as F

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.base import Fact
from harness.cards.model import ModelCard
from harness.errors import UserError
from harness.pretraining.cubes import Cubes, CubeSampler
from harness.pretraining.randomness import sample_state
from harness.pretraining.restorations import (
    SMALLEST_SIDE,
    RandBezierIntensity,
    RandLocalShuffle,
    RandPainting,
    RandRepeatedFlip,
)
from harness.pretraining.task import FileLayout, PretextTask, device_of, evaluating, on_cpu
from harness.pretraining.volumes import Volumes, train_and_held_out

__all__ = ["Genesis", "GenesisTask"]

Probability = Annotated[float, Field(ge=0, le=1)]
_BLUR_SIGMAS = (0.5, 1.0, 2.0, 4.0)


class Genesis(Fact):
    """Settings of the task. The defaults are the published ones, but for the cubes: see `cubes.AUTHORS_RULE`."""

    name: Literal["models_genesis"] = "models_genesis"
    cubes: Cubes = Cubes()
    batch: int = Field(default=6, gt=0)
    flip: Probability = Field(default=0.4, description="of each further flip, at most three")
    flip_axes: tuple[int, ...] = Field(
        default=(0, 1, 2), description="of (channel, a, b, c); as published, 0 does nothing and the last never flips"
    )
    shuffle: Probability = 0.5
    shuffle_windows: int = Field(default=10_000, ge=0)
    nonlinear: Probability = 0.9
    painting: Probability = 0.9
    inside: Probability = Field(default=0.2, description="share of in-painting among painted cubes")
    evaluation_batches: int = Field(default=4, gt=0, description="batches of held-out cubes that are scored")


class GenesisTask(PretextTask):
    """Restoration of distorted cubes.

    Parameters
    ----------
    volumes : Volumes
        Of one channel, in [0, 1].
    train, held_out : iterable of str
        Ids to draw cubes from in training and in `evaluate`.
    settings : Genesis
        The recipe.
    seed : int
        With the step, the only source of randomness of `batch`.

    Raises
    ------
    UserError
        An id is wrong, no volume holds a cube, or the cube has a side under ten voxels.
    """

    name = "models_genesis"
    method = "restoration of distorted cubes (flip, local shuffling, non-linear intensity, in- and out-painting)"
    layout = FileLayout(".pt", "torch_legacy", "state_dict", "module.", published_head=True)

    def __init__(
        self, volumes: Volumes, train: Iterable[str], held_out: Iterable[str], settings: Genesis, seed: int
    ) -> None:
        if min(settings.cubes.size) < SMALLEST_SIDE:
            raise UserError(
                f"Cubes of {settings.cubes.size} voxels are too small: shuffling windows measure up to a tenth of a "
                f"side, so every side needs at least {SMALLEST_SIDE} voxels. Choose a larger cubes.size."
            )
        super().__init__()
        train, held_out = train_and_held_out(volumes, train, held_out)
        self.settings = settings
        self._seed = seed
        self._train = CubeSampler(volumes, train, settings.cubes)
        self._held_out = CubeSampler(volumes, held_out, settings.cubes)
        self._baselines: dict[str, float] | None = None

    @property
    def size(self) -> tuple[int, int, int]:
        """Size of the cubes."""
        return self.settings.cubes.size

    @property
    def samples(self) -> int:
        """Cubes of a batch."""
        return self.settings.batch

    def network(self, card: ModelCard, options: Mapping[str, Any], weights: Path | None = None) -> nn.Module:
        """Return the published U-Net with its one output channel; see `PretextTask.network`."""
        return self.keep(build(card, Task("published"), options, weights))

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return ``image`` (distorted) and ``target``, both float32 of shape (batch, 1, a, b, c)."""
        return self._batch(self._train, self._seed, "train", step)

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the mean squared error over the whole cubes, after a sigmoid."""
        return F.mse_loss(torch.sigmoid(network(batch["image"]).float()), batch["target"])

    def evaluate(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Return mean squared errors on held-out cubes.

        Returns
        -------
        dict of str to float
            ``mse`` of the network; ``mse_identity`` of the distorted cube itself; ``mse_blur`` of the distorted cube
            under the best of the Gaussian filters tried, ``blur_sigma`` of that filter in voxels; ``mse_constant`` of
            the mean intensity of the targets everywhere, which beats both on cubes of mostly air.
        """
        errors = []
        with evaluating(network):
            for step in range(self.settings.evaluation_batches):
                batch = {name: value.to(device) for name, value in self._evaluation_batch(step).items()}
                errors.append(self.loss(network, batch).item())
        if self._baselines is None:
            self._baselines = self._score_baselines()
        return {"mse": float(np.mean(errors)), **self._baselines}

    def validate(self, network: nn.Module) -> float:
        """Return the negative mean squared error on the held-out cubes."""
        return -self.evaluate(network, device_of(network))["mse"]

    def contents(self, network: nn.Module, optimizer: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
        """Return ``epoch`` (here: steps), ``state_dict`` with its ``module.`` prefix, ``optimizer_state_dict``."""
        state = on_cpu(network.state_dict(), "module.")
        return {"epoch": step, "state_dict": state, "optimizer_state_dict": dict(optimizer or {})}

    def facts(self) -> dict[str, Any]:
        """Return which volumes were drawn from and which were skipped, and why."""
        return {
            "trained_on": list(self._train.usable),
            "evaluated_on": list(self._held_out.usable),
            "skipped": {**self._train.skipped, **self._held_out.skipped},
            "cube_rule": self.settings.cubes.model_dump(mode="json"),
        }

    def _evaluation_batch(self, step: int) -> dict[str, Tensor]:
        return self._batch(self._held_out, 0, "evaluate", step)

    def _batch(self, sampler: CubeSampler, seed: int, purpose: str, step: int) -> dict[str, Tensor]:
        pairs = [
            self._pair(sampler, sample_state(seed, purpose, step, sample)) for sample in range(self.settings.batch)
        ]
        images, targets = zip(*pairs, strict=True)
        return {"image": torch.from_numpy(np.stack(images)), "target": torch.from_numpy(np.stack(targets))}

    def _pair(
        self, sampler: CubeSampler, random: np.random.RandomState
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Draw a cube and distort it. Transforms hold state, and samples run in any thread, so each has its own."""
        chosen = self.settings
        target = sampler.draw(random).data
        flip = RandRepeatedFlip(chosen.flip, chosen.flip_axes).set_random_state(state=random)
        target = flip(target)
        image = target
        for distortion in (
            RandLocalShuffle(chosen.shuffle, chosen.shuffle_windows),
            RandBezierIntensity(chosen.nonlinear),
            RandPainting(chosen.painting, chosen.inside),
        ):
            image = distortion.set_random_state(state=random)(image)
        return image, target

    def _score_baselines(self) -> dict[str, float]:
        batches = [self._evaluation_batch(step) for step in range(self.settings.evaluation_batches)]
        image = torch.cat([batch["image"] for batch in batches]).numpy()
        target = torch.cat([batch["target"] for batch in batches]).numpy()
        blurred = {
            sigma: _mse(ndimage.gaussian_filter(image, (0, 0, sigma, sigma, sigma)), target) for sigma in _BLUR_SIGMAS
        }
        best = min(blurred, key=blurred.__getitem__)
        return {
            "mse_identity": _mse(image, target),
            "mse_blur": blurred[best],
            "blur_sigma": best,
            "mse_constant": _mse(np.full_like(target, target.mean()), target),
        }


def _mse(answer: NDArray[np.float32], target: NDArray[np.float32]) -> float:
    return float(np.mean((answer - target) ** 2, dtype=np.float64))
