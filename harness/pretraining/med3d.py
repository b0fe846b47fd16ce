"""Med3D's co-training: one encoder for several labelled data sets, one decoder branch for each.

Chen, Ma, Zheng: Med3D, arXiv:1904.00625. The authors' pretraining code was never released; spatial and intensity
normalisation, the branches and that only its own data set updates a branch are the paper's, the patches are ours.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
from pydantic import Field
from torch import Tensor, nn

from harness.adapters.build import build
from harness.adapters.interface import Task
from harness.cards.base import Fact
from harness.cards.dataset import DatasetCard
from harness.cards.model import ModelCard
from harness.data.check import CaseFacts
from harness.data.contract import InputChoice
from harness.errors import UserError
from harness.networks.med3d_resnet import Med3DResNet
from harness.pretraining.co_training import NOT_ANNOTATED, CoTraining, co_training_loss
from harness.pretraining.med3d_data import labelled_patch, median_spacing
from harness.pretraining.probe import cells, linear_probe, untrained
from harness.pretraining.randomness import sample_state
from harness.pretraining.task import FileLayout, PretextTask, device_of, evaluating, on_cpu
from harness.pretraining.volumes import Volumes, train_and_held_out

__all__ = ["Med3D", "Med3DTask"]

Positive3 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class Med3D(Fact):
    """Settings of the task. Size, batch and sampling are ours; the paper does not say them."""

    name: Literal["med3d"] = "med3d"
    size: Positive3 = Field(default=(48, 96, 96), description="voxels, in the axes of the prepared volumes (z, y, x)")
    batch: int = Field(default=4, gt=0, description="data sets take turns from sample to sample")
    classes: dict[str, int] = Field(
        default_factory=dict,
        description="data set id to its number of classes with background; cases are named dataset/case",
    )
    ignored: int | None = Field(default=None, description="label index of voxels that nobody annotated")
    positive_fraction: float = Field(default=0.5, ge=0, le=1, description="of patches centred on foreground")
    evaluation_patches: int = Field(default=8, gt=0, description="per data set, for the scores and for the probe")


class Med3DTask(PretextTask):
    """Supervised segmentation of several data sets at once.

    A class that one data set does not annotate is background only there: every data set has its own branch, and only
    its own samples update it. Cases without a label are left out; voxels marked as not annotated do not count.

    Parameters
    ----------
    volumes : Volumes
        Of one channel, ids ``dataset/case``; see `volumes.Together`.
    train, held_out : iterable of str
        Ids to learn from and to evaluate on.
    settings : Med3D
        The recipe.
    seed : int
        With the step, the only source of randomness of `batch`.

    Raises
    ------
    UserError
        An id is wrong, a data set has no class count, or none of its cases has a label.
    """

    name = "med3d"
    method = "supervised co-training: a shared encoder, one branch (1x1x1 convolution, up-sampling) per data set"
    layout = FileLayout(".pth", "torch_legacy", "state_dict", "module.", published_head=False)
    labelled = True

    def __init__(
        self, volumes: Volumes, train: Iterable[str], held_out: Iterable[str], settings: Med3D, seed: int
    ) -> None:
        super().__init__()
        train, held_out = train_and_held_out(volumes, train, held_out)
        self.settings = settings
        self._volumes, self._seed = volumes, seed
        self._fresh: Callable[[], nn.Module] | None = None
        self._skipped = sorted(case for case in (*train, *held_out) if volumes[case].label is None)
        self._train = self._by_dataset(train, "train on")
        self._held_out = self._by_dataset(held_out, "hold out")
        if set(self._train) != set(self._held_out):
            odd = ", ".join(sorted(set(self._train) ^ set(self._held_out)))
            raise UserError(
                f"Every data set needs labelled cases to train on and to hold out; {odd} has only one kind."
            )
        self.datasets = tuple(sorted(self._train))

    def _by_dataset(self, cases: Iterable[str], purpose: str) -> dict[str, list[str]]:
        found: dict[str, list[str]] = {}
        for case in cases:
            dataset = case.partition("/")[0]
            if dataset not in self.settings.classes:
                raise UserError(
                    f"Case {case!r} belongs to data set {dataset!r}, whose number of classes is not given. Add it to "
                    "recipe.classes."
                )
            if case not in self._skipped:
                found.setdefault(dataset, []).append(case)
        if not found:
            raise UserError(f"None of the cases to {purpose} has a label, and this recipe learns from labels.")
        return found

    @staticmethod
    def completed(content: Mapping[str, Any], datasets: Sequence[DatasetCard]) -> dict[str, Any]:
        """Count the classes on the cards of the data sets, where the configuration does not say them."""
        known = {card.id: len(card.labels) for card in datasets}
        return {**content, "classes": {**known, **content.get("classes", {})}}

    @staticmethod
    def input_choice(choice: InputChoice, cases: Sequence[CaseFacts]) -> InputChoice:
        """Resample to the median spacing of the data set, as the paper; a spacing that was chosen stays."""
        if choice.spacing != "contract":
            return choice
        x, y, z = (round(step, 4) for step in median_spacing(cases))  # headers hold float32
        return choice.model_copy(update={"spacing": (x, y, z)})

    @property
    def size(self) -> tuple[int, int, int]:
        """Size of the patches."""
        return self.settings.size

    @property
    def samples(self) -> int:
        """Patches of a batch."""
        return self.settings.batch

    def network(self, card: ModelCard, options: Mapping[str, Any], weights: Path | None = None) -> nn.Module:
        """Return the published encoder with fresh branches; see `PretextTask.network`."""
        self._fresh = lambda: build(card, Task("published"), options, None).network
        encoder = self.keep(build(card, Task("published"), options, weights))
        if not isinstance(encoder, Med3DResNet):
            raise UserError(f"{card.id} is not a Med3D encoder. Use a card of that family, such as med3d.resnet10.")
        return CoTraining(encoder, [self.settings.classes[name] for name in self.datasets])

    def batch(self, step: int) -> dict[str, Tensor]:
        """Return ``image`` (batch, 1, a, b, c), ``label`` (batch, a, b, c; -1: not annotated), ``dataset`` (batch,)."""
        first = step * self.settings.batch
        return self._stack(self._train, self._seed, "train", range(first, first + self.settings.batch))

    def loss(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """Return the cross entropy over annotated voxels, averaged over the samples."""
        return co_training_loss(network(batch["image"], batch["dataset"]), batch["label"])

    def rehearse(self, network: nn.Module, batch: Mapping[str, Tensor]) -> Tensor:
        """See `PretextTask.rehearse`: the turns of the data sets are known without looking at values."""
        assert isinstance(network, CoTraining)
        rows, count = torch.arange(len(batch["image"])), len(self.datasets)
        answers = network.answer(batch["image"], [rows[number::count] for number in range(count)])
        return co_training_loss(answers, batch["label"])

    def evaluate(self, network: nn.Module, device: torch.device | str) -> dict[str, float]:
        """Return scores on patches of held-out volumes.

        Returns
        -------
        dict of str to float
            ``accuracy`` over annotated voxels, and ``accuracy_majority`` of the most frequent class of each data set;
            ``probe`` and ``probe_random``: balanced accuracy of a linear classifier on the frozen encoder's features,
            fitted on training volumes, and of the same on an encoder that was never trained. All averaged over the
            data sets.
        """
        assert isinstance(network, CoTraining)
        assert self._fresh is not None, "evaluate what `network` built"
        random = untrained(self._fresh).to(device)
        scores: dict[str, list[float]] = {"accuracy": [], "accuracy_majority": [], "probe": [], "probe_random": []}
        for number in range(len(self.datasets)):
            known = self._patches(self._train, number, "probe")
            asked = self._patches(self._held_out, number, "evaluate")
            with evaluating(network), evaluating(random):
                hits = [
                    (logits.argmax(1).cpu() == patch["label"])[patch["label"] != NOT_ANNOTATED]
                    for patch in asked
                    for _, logits in network(patch["image"].to(device), patch["dataset"].to(device))
                ]
                for key, encoder in (("probe", network.encoder), ("probe_random", random)):
                    pairs = [_cells(encoder, patches, device) for patches in (known, asked)]
                    scores[key].append(linear_probe(pairs[0], pairs[1]))
            truth = torch.cat([patch["label"].flatten() for patch in asked])
            truth = truth[truth != NOT_ANNOTATED]
            scores["accuracy"].append(torch.cat(hits).double().mean().item())
            scores["accuracy_majority"].append((truth == truth.mode().values).double().mean().item())
        return {key: float(np.mean(values)) for key, values in scores.items()}

    def validate(self, network: nn.Module) -> float:
        """Return the accuracy over annotated voxels of held-out patches."""
        return self.evaluate(network, device_of(network))["accuracy"]

    def published(self, network: nn.Module) -> nn.Module:
        """Return the encoder."""
        assert isinstance(network, CoTraining)
        return network.encoder

    def contents(self, network: nn.Module, optimizer: Mapping[str, Any] | None, step: int) -> dict[str, Any]:
        """Return the encoder under ``state_dict``, as the released files hold it: branches and optimiser left out."""
        del optimizer, step
        return {"state_dict": on_cpu(self.published(network).state_dict(), "module.")}

    def facts(self) -> dict[str, Any]:
        """Return which cases of which data set were used, and which had no label."""
        return {"trained_on": self._train, "evaluated_on": self._held_out, "without_label": self._skipped}

    def _patches(self, cases: Mapping[str, list[str]], dataset: int, purpose: str) -> list[dict[str, Tensor]]:
        count = len(self.datasets)
        numbers = [dataset + count * turn for turn in range(self.settings.evaluation_patches)]
        return [self._stack(cases, 0, purpose, [number]) for number in numbers]

    def _stack(
        self, cases: Mapping[str, list[str]], seed: int, purpose: str, numbers: Iterable[int]
    ) -> dict[str, Tensor]:
        samples = [self._sample(cases, seed, purpose, number) for number in numbers]
        return {name: torch.stack([sample[name] for sample in samples]) for name in samples[0]}

    def _sample(self, cases: Mapping[str, list[str]], seed: int, purpose: str, number: int) -> dict[str, Tensor]:
        """Draw the patch of one sample; its number says the data set, so that all take part equally often."""
        dataset = number % len(self.datasets)
        among = cases[self.datasets[dataset]]
        random = sample_state(seed, purpose, number)
        volume = self._volumes[among[random.randint(len(among))]]
        chosen = self.settings
        patch = labelled_patch(volume, chosen.size, chosen.positive_fraction, chosen.ignored, random)
        return {**patch, "dataset": torch.tensor(dataset)}


def _cells(
    encoder: nn.Module, patches: Iterable[Mapping[str, Tensor]], device: torch.device | str
) -> tuple[Tensor, Tensor]:
    """Return features and labels of all cells of some patches."""
    parts = [cells(encoder(patch["image"].to(device)), patch["label"]) for patch in patches]
    return torch.cat([features for features, _ in parts]), torch.cat([labels for _, labels in parts])
