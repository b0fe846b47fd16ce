"""Training patches: a pure function of seed and step, so that resume and workers never change the data."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from harness.data.ahead import ahead
from harness.data.augmentation import Augmenter
from harness.data.cache import Cache, PreparedCase
from harness.data.on_device import augment, draw
from harness.data.settings import Augmentation, Patches
from harness.data.spatial import read_image, read_label
from harness.errors import UserError
from harness.files import sha256_hex

__all__ = ["PatchSource", "Place"]

Ints = tuple[int, int, int]


@dataclass(frozen=True)
class Place:
    """Where a patch was cut.

    Attributes
    ----------
    case : str
        Id of the case.
    start : tuple of 3 int
        First voxel in the prepared volume; negative where a volume smaller than the patch was padded.
    centre_class : int or None
        The class whose voxel the patch was centred on; None where the place was drawn uniformly.
    """

    case: str
    start: Ints
    centre_class: int | None


class PatchSource:
    """Batches of patches for training.

    Every sample has its own counter-based generator, keyed by the seed and the sample's number. Cases come in a new
    seeded order every time all of them were used; ``per_case`` consecutive samples share one. With probability
    ``positive_fraction`` a patch is centred on a foreground voxel: a class is drawn uniformly among those present in
    the case, then a stored voxel of it uniformly, and the patch is shifted to lie inside the volume. Otherwise its
    corner is uniform. A volume smaller than the patch is padded evenly on both sides with the case's fill value.

    Parameters
    ----------
    cache : Cache
        Prepared cases.
    ids : sequence of str
        The cases to draw from; their order does not matter.
    settings : Patches
        Size, batch and sampling.
    augmentation : Augmentation
        Random transforms, applied to each patch.
    seed : int
        With the step, the only source of randomness.
    pin_memory : bool, optional
        Whether tensors lie in page-locked memory; by default where CUDA is present.

    Raises
    ------
    UserError
        No ids, or one that the cache does not hold.
    """

    def __init__(
        self,
        cache: Cache,
        ids: Sequence[str],
        settings: Patches,
        augmentation: Augmentation,
        seed: int,
        *,
        pin_memory: bool | None = None,
    ) -> None:
        if not ids:
            raise UserError("There are no cases to draw training patches from: the train part of this split is empty.")
        self._cache = cache
        self._ids = sorted(ids)
        for case in self._ids:
            cache.require(case)
        self._settings = settings
        self._augmentation = augmentation
        self._key = int(sha256_hex(f"patches {seed}")[:32], 16)
        self._pin = torch.cuda.is_available() if pin_memory is None else pin_memory
        self._local = threading.local()
        self._augmenter()  # a wrong dotted path fails here, not in the first step

    def batch(self, step: int, part: tuple[int, int] = (0, 1)) -> dict[str, Tensor]:
        """Return the batch of one step, or one of the equal parts it is worked through in by several processes.

        Parameters
        ----------
        step : int
            The step, from 0.
        part : tuple of 2 int
            Number of the part, and how many there are; their samples follow each other.

        Returns
        -------
        dict of Tensor
            ``image`` float32 of shape (B, C, a, b, c) and, where the cases have labels, ``label`` int64 of shape
            (B, 1, a, b, c) with class indices. Where nobody drew some class in the case of a patch, also ``drawn``,
            bool of shape (B, classes): False for the classes that the loss must leave out of that patch. Where batches
            are augmented on the device, also ``augment`` float64, which `harness.data.on_device.augment` takes.
        """
        each = self._settings.batch // part[1]
        first = step * self._settings.batch + part[0] * each
        numbers = range(first, first + each)
        size, pin = self._settings.size, self._pin
        generators = [self._generator(number) for number in numbers]
        drawn = [self._place(number, rng) for number, rng in zip(numbers, generators, strict=True)]
        channels = drawn[0][1].image.shape[0]
        batch = {"image": torch.empty((len(drawn), channels, *size), dtype=torch.float32, pin_memory=pin)}
        if drawn[0][1].label is not None:
            batch["label"] = torch.empty((len(drawn), 1, *size), dtype=torch.int64, pin_memory=pin)
        if any(case.undrawn for _, case in drawn):
            batch["drawn"] = torch.ones((len(drawn), len(self._cache.label_values)), dtype=torch.bool, pin_memory=pin)
            for row, (_, case) in zip(batch["drawn"], drawn, strict=True):
                row[list(case.undrawn)] = False
        images = batch["image"].numpy()
        labels = batch["label"].numpy()[:, 0] if "label" in batch else [None] * len(drawn)
        augmenter = self._augmenter()
        for (place, case), rng, image, label in zip(drawn, generators, images, labels, strict=True):
            motion = augmenter.motion(rng)
            read_image(case.image, case.fill, place.start, motion, image)
            if label is not None and case.label is not None:
                read_label(case.label, place.start, motion, label)
            augmenter.change(image, label, case.fill, rng)
        if self._augmentation.device:
            rows = [draw(self._augmentation.device, self._generator(number, stream=2)) for number in numbers]
            batch["augment"] = torch.tensor(rows, dtype=torch.float64)
        return batch

    def augment(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Apply the transforms that wait for the device; the batch may be one of this source or a part of it."""
        return augment(self._augmentation.device, batch)

    def places(self, step: int) -> tuple[Place, ...]:
        """Return where the patches of one step are cut, without reading them."""
        numbers = range(step * self._settings.batch, (step + 1) * self._settings.batch)
        return tuple(self._place(number, self._generator(number))[0] for number in numbers)

    def loader(
        self, start_step: int, stop_step: int, workers: int = 0, part: tuple[int, int] = (0, 1)
    ) -> Iterator[dict[str, Tensor]]:
        """Yield the batches of the steps in order.

        Parameters
        ----------
        start_step, stop_step : int
            First step, and one past the last.
        workers : int
            Threads that prepare batches ahead (NumPy and torch release the lock while they copy and transform);
            0 prepares each batch when it is asked for. The batches are the same.
        part : tuple of 2 int
            As for `batch`.

        Raises
        ------
        UserError
            The batch cannot be cut into so many equal parts.
        """
        if self._settings.batch % part[1]:
            raise UserError(
                f"patches.batch is {self._settings.batch} and {part[1]} processes share it: their parts would not be "
                f"equal. Choose a multiple of {part[1]}, or another number of processes."
            )
        return ahead(lambda step: self.batch(step, part), start_step, stop_step, workers)

    def _augmenter(self) -> Augmenter:
        augmenter: Augmenter | None = getattr(self._local, "augmenter", None)
        if augmenter is None:
            augmenter = self._local.augmenter = Augmenter(self._augmentation)
        return augmenter

    def _generator(self, number: int, stream: int = 0) -> np.random.Generator:
        return np.random.Generator(np.random.Philox(key=self._key, counter=(0, 0, number, stream)))

    def _place(self, number: int, rng: np.random.Generator) -> tuple[Place, PreparedCase]:
        identifier = self._case_of(number // self._settings.per_case)
        case = self._cache.case(identifier)
        size, shape = self._settings.size, case.image.shape[1:]
        present = sorted(case.foreground)
        if present and rng.random() < self._settings.positive_fraction:
            chosen = present[int(rng.integers(len(present)))]
            voxels = case.foreground[chosen]
            centre = np.unravel_index(int(voxels[int(rng.integers(len(voxels)))]), shape)
            wanted = [int(at) - extent // 2 for at, extent in zip(centre, size, strict=True)]
        else:
            chosen = None
            wanted = [int(rng.integers(max(n - extent, 0) + 1)) for n, extent in zip(shape, size, strict=True)]
        inside = [
            min(max(at, 0), n - extent) if n >= extent else -((extent - n) // 2)
            for at, n, extent in zip(wanted, shape, size, strict=True)
        ]
        return Place(identifier, (inside[0], inside[1], inside[2]), chosen), case

    def _case_of(self, turn: int) -> str:
        """Return the case of the ``turn``-th draw: each round is a permutation of all cases, keyed by its number."""
        round_number, position = divmod(turn, len(self._ids))
        memo: tuple[int, list[int]] | None = getattr(self._local, "order", None)
        if memo is None or memo[0] != round_number:
            rng = np.random.Generator(np.random.Philox(key=self._key, counter=(0, 0, round_number, 1)))
            memo = self._local.order = (round_number, rng.permutation(len(self._ids)).tolist())
        return self._ids[memo[1][position]]
