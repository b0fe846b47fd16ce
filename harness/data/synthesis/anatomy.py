"""Bodies made of ellipsoids and tubes: which structure lies where, what it looks like, and how it is drawn on a grid.

Coordinates run from -1 to 1 across the field of view, towards the patient's right, front and head (R, A, S), so that
one scene fits any number of voxels and any spacing. Later structures are drawn over earlier ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["SCENES", "Blob", "Body", "Coordinates", "Organ", "Tube", "draw"]

Point = tuple[float, float, float]
Coordinates = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]  # R, A, S; they broadcast
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Blob:
    """An ellipsoid."""

    centre: Point
    radii: Point

    def covers(self, at: Coordinates, move: NDArray[np.float64], scale: float) -> Mask:
        """Return the voxels inside, moved and scaled about the centre."""
        terms = [((x - c - m) / (r * scale)) ** 2 for x, c, m, r in zip(at, self.centre, move, self.radii, strict=True)]
        inside: Mask = terms[0] + terms[1] + terms[2] <= 1
        return inside


@dataclass(frozen=True)
class Tube:
    """A tube along straight pieces between points."""

    points: tuple[Point, ...]
    radius: float

    def covers(self, at: Coordinates, move: NDArray[np.float64], scale: float) -> Mask:
        """Return the voxels inside, moved; ``scale`` changes the radius."""
        inside: Mask = np.zeros(np.broadcast_shapes(*(axis.shape for axis in at)), dtype=bool)
        for first, second in zip(self.points, self.points[1:], strict=False):
            start, along = np.array(first) + move, np.subtract(second, first)
            offset = [x - s for x, s in zip(at, start, strict=True)]
            share = sum(o * a for o, a in zip(offset, along, strict=True)) / float(along @ along)
            share = np.clip(share, 0, 1)
            distance = sum((o - share * a) ** 2 for o, a in zip(offset, along, strict=True))
            inside |= distance <= (self.radius * scale) ** 2
        return inside


@dataclass(frozen=True)
class Organ:
    """One structure: its parts, and its mean value per channel (HU in a scene of CT)."""

    name: str
    parts: tuple[Blob | Tube, ...]
    levels: Mapping[str, float]


@dataclass(frozen=True)
class Body:
    """A scene.

    Attributes
    ----------
    outside : float
        Value of air.
    organs : tuple of Organ
        In the order in which they are drawn; the first ones are the body itself, which no data set labels.
    noise : float
        Standard deviation of the noise, where ``noisy_air`` or inside the body.
    noisy_air : bool
        False for skull-stripped scans, whose outside is exactly 0.
    lesions : tuple of str
        Structures that move about and differ in size from case to case, together (one lies in the other).
    """

    outside: float
    organs: tuple[Organ, ...]
    noise: float
    noisy_air: bool = True
    lesions: tuple[str, ...] = ()


def draw(
    body: Body, channels: Sequence[str], numbers: Mapping[str, int], at: Coordinates, rng: np.random.Generator
) -> tuple[dict[str, NDArray[np.int16]], NDArray[np.uint8]]:
    """Draw one case.

    Parameters
    ----------
    body : Body
        The scene.
    channels : sequence of str
        Names of the images.
    numbers : mapping of str to int
        Structure to label value; other structures are drawn into the images only, other lesions not at all.
    at : tuple of 3 ndarray
        R, A and S of the voxel centres; they broadcast to the shape of the volume.
    rng : numpy Generator
        Everything random.

    Returns
    -------
    dict of str to ndarray of shape (a, b, c), int16
        One image per channel.
    ndarray of shape (a, b, c), uint8
        The labels.
    """
    shape = np.broadcast_shapes(*(axis.shape for axis in at))
    labels = np.zeros(shape, dtype=np.uint8)
    images = {channel: np.full(shape, body.outside, dtype=np.float32) for channel in channels}
    inside: Mask = np.zeros(shape, dtype=bool)
    whole = rng.uniform(-0.04, 0.04, 3)
    lesion_move, lesion_scale = rng.uniform(-0.12, 0.12, 3), float(rng.uniform(0.65, 1.3))
    for organ in body.organs:
        if organ.name in body.lesions and organ.name not in numbers:
            continue  # a data set that labels no tumours shows none, or its organs would have holes
        if organ.name in body.lesions:
            move, scale = whole + lesion_move, lesion_scale
        else:
            move, scale = whole + rng.uniform(-0.015, 0.015, 3), float(rng.uniform(0.93, 1.07))
        mask: Mask = np.zeros(shape, dtype=bool)
        for part in organ.parts:
            mask |= part.covers(at, move, scale)
        inside |= mask
        labels[mask] = numbers.get(organ.name, 0)
        for channel, image in images.items():
            level = organ.levels[channel]
            image[mask] = level + rng.normal(0, 0.03 * abs(level) + 2)
    lowest = body.outside if body.outside < 0 else 0.0
    finished = {}
    for channel, image in images.items():
        image += rng.normal(0, body.noise, shape).astype(np.float32) * (1 if body.noisy_air else inside)
        finished[channel] = np.rint(image.clip(lowest, 3071)).astype(np.int16)
    return finished, labels


def _ct(name: str, level: float, *parts: Blob | Tube) -> Organ:
    return Organ(name, parts, {"CT": level})


_TORSO = _ct("body", -60, Tube(((0, 0, -2), (0, 0, 2)), 0.8))

ABDOMEN = Body(
    outside=-1000,
    noise=12,
    lesions=("tumour",),
    organs=(
        _TORSO,
        _ct("liver", 110, Blob((0.4, 0.1, 0.25), (0.36, 0.4, 0.45))),
        _ct("tumour", 55, Blob((0.4, 0.1, 0.25), (0.12, 0.12, 0.14))),
        _ct("spleen", 140, Blob((-0.55, -0.15, 0.3), (0.17, 0.22, 0.3))),
        _ct("stomach", 30, Blob((-0.25, 0.3, 0.3), (0.22, 0.2, 0.26))),
        _ct("right_kidney", 200, Blob((0.38, -0.38, -0.4), (0.14, 0.14, 0.26))),
        _ct("left_kidney", 200, Blob((-0.38, -0.38, -0.35), (0.14, 0.14, 0.26))),
        _ct("pancreas", 85, Blob((-0.08, 0.06, -0.12), (0.25, 0.1, 0.13))),
        _ct("gallbladder", 5, Blob((0.22, 0.3, -0.2), (0.11, 0.11, 0.14))),
        _ct("esophagus", 40, Tube(((0, -0.18, 0.55), (0, -0.22, 1.0)), 0.09)),
        _ct("inferior_vena_cava", 165, Tube(((0.13, -0.3, -0.9), (0.13, -0.28, 0.7)), 0.09)),
        _ct("aorta", 280, Tube(((-0.08, -0.4, -0.9), (-0.06, -0.38, 0.95)), 0.09)),
        _ct("portal_and_splenic_veins", 230, Tube(((0.2, -0.02, 0.12), (-0.1, -0.1, 0.1), (-0.3, -0.12, 0.14)), 0.08)),
        _ct("right_adrenal_gland", 70, Blob((0.28, -0.42, 0.0), (0.09, 0.09, 0.11))),
        _ct("left_adrenal_gland", 70, Blob((-0.28, -0.42, 0.05), (0.09, 0.09, 0.11))),
        _ct("spine", 450, Tube(((0, -0.62, -2), (0, -0.62, 2)), 0.12)),
    ),
)

CHEST = Body(
    outside=-1000,
    noise=12,
    lesions=("tumour",),
    organs=(
        _TORSO,
        _ct("right_lung", -820, Blob((0.42, 0, 0), (0.32, 0.52, 0.95))),
        _ct("left_lung", -820, Blob((-0.42, 0, 0), (0.32, 0.52, 0.95))),
        _ct("tumour", 30, Blob((0.42, -0.05, 0.1), (0.14, 0.14, 0.16))),
        _ct("heart", 120, Blob((-0.1, 0.22, -0.2), (0.3, 0.28, 0.4))),
        _ct("aorta", 190, Tube(((-0.14, -0.36, -0.9), (-0.14, -0.36, 0.6)), 0.11)),
        _ct("esophagus", 40, Tube(((0.04, -0.22, -0.9), (0.04, -0.2, 0.95)), 0.08)),
        _ct("trachea", -950, Tube(((0.02, 0.0, 0.25), (0.02, -0.02, 0.98)), 0.1)),
        _ct("spine", 450, Tube(((0, -0.62, -2), (0, -0.62, 2)), 0.12)),
    ),
)

_JAW = tuple((0.42 * float(np.sin(t)), 0.15 + 0.45 * float(np.cos(t)), -0.62) for t in np.linspace(-1.75, 1.75, 9))

HEAD = Body(
    outside=-1000,
    noise=12,
    organs=(
        _ct("body", 30, Blob((0, 0, 0.1), (0.75, 0.88, 0.85)), Tube(((0, 0, -2), (0, 0, 0)), 0.6)),
        _ct("mandible", 800, Tube(_JAW, 0.1)),
        _ct("left_parotid", -20, Blob((-0.52, -0.15, -0.25), (0.13, 0.2, 0.25))),
        _ct("right_parotid", -20, Blob((0.52, -0.15, -0.25), (0.13, 0.2, 0.25))),
        _ct("left_submandibular", 90, Blob((-0.25, 0.15, -0.42), (0.12, 0.14, 0.13))),
        _ct("right_submandibular", 90, Blob((0.25, 0.15, -0.42), (0.12, 0.14, 0.13))),
        _ct("brainstem", 75, Tube(((0, -0.3, -0.05), (0, -0.2, 0.35)), 0.14)),
        _ct("left_optic_nerve", 130, Tube(((-0.12, 0.16, 0.35), (-0.32, 0.6, 0.3)), 0.07)),
        _ct("right_optic_nerve", 130, Tube(((0.12, 0.16, 0.35), (0.32, 0.6, 0.3)), 0.07)),
        _ct("chiasm", 160, Blob((0, 0.1, 0.36), (0.13, 0.09, 0.09))),
    ),
)


def _mr(name: str, levels: tuple[float, float, float, float], *parts: Blob | Tube) -> Organ:
    flair, t1ce, t1, t2 = levels
    known = {"flair": flair, "t1ce": t1ce, "t1": t1, "t2": t2}
    return Organ(name, parts, {**known, "t1gd": t1ce, "t1w": t1, "T1w": t1, "T1": t1, "t2w": t2, "LGE": t1ce})


TUMOUR_BRAIN = Body(
    outside=0,
    noise=14,
    noisy_air=False,
    lesions=("edema", "enhancing_tumour", "necrotic_core"),
    organs=(
        _mr("brain", (300, 320, 340, 280), Blob((0, 0, 0), (0.72, 0.85, 0.8))),
        _mr("ventricles", (90, 150, 150, 620), Blob((0, 0, 0.1), (0.12, 0.3, 0.2))),
        _mr("edema", (620, 290, 280, 520), Blob((0.28, 0.1, 0.1), (0.32, 0.34, 0.34))),
        _mr("enhancing_tumour", (520, 720, 300, 430), Blob((0.28, 0.1, 0.1), (0.2, 0.22, 0.22))),
        _mr("necrotic_core", (260, 180, 180, 560), Blob((0.28, 0.1, 0.1), (0.12, 0.13, 0.14))),
    ),
)

STROKE_BRAIN = Body(
    outside=0,
    noise=10,
    lesions=("lesion",),
    organs=(
        _mr("head", (120, 120, 200, 100), Blob((0, 0, 0), (0.86, 0.94, 0.92))),
        _mr("brain", (300, 320, 360, 280), Blob((0, 0, 0), (0.75, 0.85, 0.8))),
        _mr("ventricles", (90, 150, 130, 620), Blob((0, 0, 0.1), (0.12, 0.3, 0.2))),
        _mr("lesion", (500, 150, 190, 600), Blob((-0.35, 0.1, 0.1), (0.16, 0.2, 0.18))),
    ),
)

HIPPOCAMPUS = Body(
    outside=200,
    noise=14,
    organs=(
        _mr("white_matter", (300, 300, 460, 300), Blob((0.7, 0, 0.7), (0.6, 1.5, 0.6))),
        _mr("posterior_hippocampus", (300, 300, 340, 300), Tube(((-0.05, -0.05, 0), (0.1, -0.7, 0.15)), 0.26)),
        _mr("anterior_hippocampus", (300, 300, 380, 300), Blob((0, 0.35, -0.1), (0.42, 0.42, 0.36))),
    ),
)

ATRIUM = Body(
    outside=40,
    noise=14,
    organs=(
        _mr("chest", (200, 180, 200, 200), Blob((0, 0, 0), (0.95, 0.9, 2))),
        _mr("right_atrium", (300, 330, 300, 300), Blob((0.42, 0.15, 0), (0.25, 0.28, 0.35))),
        _mr(
            "left_atrium",
            (300, 520, 300, 300),
            Blob((-0.05, -0.15, 0.05), (0.32, 0.26, 0.36)),
            Tube(((0.3, -0.3, 0.2), (-0.4, -0.3, 0.2)), 0.12),
        ),
    ),
)

SCENES: Mapping[str, Body] = {
    "abdomen": ABDOMEN,
    "chest": CHEST,
    "head": HEAD,
    "tumour_brain": TUMOUR_BRAIN,
    "stroke_brain": STROKE_BRAIN,
    "hippocampus": HIPPOCAMPUS,
    "atrium": ATRIUM,
}
