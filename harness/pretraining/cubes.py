"""Drawing cubes from prepared volumes: uniform corners with padding, or the rule of Models Genesis' authors."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from harness.cards.base import Fact
from harness.errors import UserError
from harness.pretraining.volumes import Prepared, Volumes, cut

__all__ = ["AUTHORS_RULE", "Cube", "CubeSampler", "Cubes", "LungContent"]

Ints = tuple[int, int, int]
Positive3 = tuple[Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)], Annotated[int, Field(gt=0)]]


class LungContent(Fact):
    """Refuse cubes with much tissue in them, so that what is left is lung and air.

    A voxel counts 1 where it reaches ``threshold``, a half where only the next slice does, else 0; a cube whose mean
    exceeds ``largest_mean`` is drawn again.
    """

    threshold: float = Field(default=0.425, description="-150 HU in a window of -1000..1000 HU mapped to 0..1")
    largest_mean: float = Field(default=0.15, ge=0, le=1)


class Cubes(Fact):
    """Which cubes may be drawn. The defaults are uniform corners anywhere, volumes padded up to the cube."""

    size: Positive3 = Field(default=(64, 64, 32), description="voxels, in the axes of the prepared volumes")
    border: tuple[int, int, int] = Field(default=(0, 0, 0), description="voxels next to each face that are never used")
    minimum_slices: int = Field(default=0, ge=0, description="volumes with fewer along the last axis are skipped")
    padding: bool = Field(default=True, description="whether a volume smaller than the cube is padded or skipped")
    content: LungContent | None = None
    tries: int = Field(default=1600, gt=0, description="cubes drawn from a volume before it is given up")


AUTHORS_RULE = Cubes(border=(100, 100, 30), minimum_slices=96, padding=False, content=LungContent())
"""How the authors cut the cubes for Genesis Chest CT: 64x64x32 at native spacing, mostly lung."""


@dataclass(frozen=True)
class Cube:
    """A cube and where it came from.

    Attributes
    ----------
    case : str
        Id of the volume.
    start : tuple of 3 int
        First voxel; negative where the volume was padded.
    data : ndarray of shape (channel, *size), float32
    """

    case: str
    start: Ints
    data: NDArray[np.float32]


class CubeSampler:
    """Draws cubes; the volume first, uniformly, then the corner.

    Parameters
    ----------
    volumes : Volumes
        Where to look.
    ids : iterable of str
        Which of them.
    settings : Cubes
        The rule.

    Attributes
    ----------
    usable : tuple of str
        Ids that a cube can be drawn from, as far as their shape tells.
    skipped : dict of str to str
        The other ids, and why.

    Raises
    ------
    UserError
        No volume is usable.
    """

    def __init__(self, volumes: Volumes, ids: Iterable[str], settings: Cubes) -> None:
        self._volumes = volumes
        self.settings = settings
        self.skipped: dict[str, str] = {}
        for case in sorted(ids):
            reason = self._refusal(volumes[case].image.shape[1:])
            if reason:
                self.skipped[case] = reason
        self.usable = tuple(case for case in sorted(ids) if case not in self.skipped)
        if not self.usable:
            example = next(iter(self.skipped.items()), ("none", "no volumes were given"))
            raise UserError(
                f"No volume holds a cube of {'x'.join(map(str, settings.size))} voxels by this rule (border "
                f"{settings.border}, at least {settings.minimum_slices} slices); {example[0]}, for one: {example[1]}. "
                "Use border [0, 0, 0], minimum_slices 0 and padding true for small volumes; the record will say so."
            )

    def _refusal(self, shape: tuple[int, ...]) -> str | None:
        if shape[2] < self.settings.minimum_slices:
            return f"{shape[2]} slices, the rule asks for {self.settings.minimum_slices}"
        room = [
            n - 2 * edge - side for n, edge, side in zip(shape, self.settings.border, self.settings.size, strict=True)
        ]
        if self.settings.padding or min(room) >= 0:
            return None
        return f"shape {'x'.join(map(str, shape))} leaves no room inside the border"

    def draw(self, random: np.random.RandomState) -> Cube:
        """Draw one cube.

        Raises
        ------
        UserError
            The content rule accepted none of the tries in any volume that was tried.
        """
        for _ in range(len(self.usable)):
            case = self.usable[random.randint(len(self.usable))]
            volume = self._volumes[case]
            for _ in range(self.settings.tries if self.settings.content else 1):
                start = self._corner(volume.image.shape[1:], random)
                if self.settings.content is None or _accepted(volume, start, self.settings.size, self.settings.content):
                    return Cube(case, start, cut(volume.image, start, self.settings.size, volume.fill))
        raise UserError(
            f"The content rule accepted no cube: {len(self.usable)} times a volume was given up after "
            f"{self.settings.tries} tries. Raise content.largest_mean or set content to null; the record will say so."
        )

    def draw_from(self, case: str, random: np.random.RandomState) -> Cube:
        """Draw one cube of a given volume, without asking for its content."""
        volume = self._volumes[case]
        start = self._corner(volume.image.shape[1:], random)
        return Cube(case, start, cut(volume.image, start, self.settings.size, volume.fill))

    def _corner(self, shape: tuple[int, ...], random: np.random.RandomState) -> Ints:
        corner = []
        for n, edge, side in zip(shape, self.settings.border, self.settings.size, strict=True):
            room = n - 2 * edge - side
            # A volume that is too small gets its padding evenly on both sides.
            corner.append(edge + int(random.randint(room + 1)) if room >= 0 else (n - side) // 2)
        return corner[0], corner[1], corner[2]


def _accepted(volume: Prepared, start: Ints, size: Ints, rule: LungContent) -> bool:
    deeper = cut(volume.image[:1], start, (size[0], size[1], size[2] + 1), volume.fill)[0]
    dense: NDArray[Any] = deeper >= rule.threshold
    here, following = dense[..., :-1], dense[..., 1:]
    mean = (here.mean() + (here | following).mean()) / 2
    return bool(mean <= rule.largest_mean)
