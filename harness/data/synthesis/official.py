"""How each public data set lies on disk as downloaded, written down from its own documentation.

Nothing here is taken from the cards' layouts, and nothing of `harness.data` that reads is used, so that a wrong card is
found. Where the documentation gives no orientation the axes are LPS.
"""

from __future__ import annotations

from harness.data.synthesis.formats import (
    PDDCA_FILES,
    Recipe,
    atlas,
    brats,
    decathlon,
    lits,
    nnunet,
    nnunet_json,
    pair,
    pddca,
)

__all__ = ["RECIPES"]


def _numbered(pattern: str, *spans: tuple[int, int]) -> tuple[str, ...]:
    return tuple(pattern.format(number) for first, last in spans for number in range(first, last + 1))


_BTCV = (
    *("spleen", "right_kidney", "left_kidney", "gallbladder", "esophagus", "liver", "stomach", "aorta"),
    *("inferior_vena_cava", "portal_and_splenic_veins", "pancreas", "right_adrenal_gland", "left_adrenal_gland"),
)
_BTCV_RECIPE = Recipe(
    scene="abdomen",
    numbers={name: value for value, name in enumerate(_BTCV, start=1)},
    channels=("CT",),
    spacing=((0.59, 0.98), (0.59, 0.98), (2.5, 5.0)),
    shape=(48, 48, 36),
    write=pair("RawData/Training/img/img{}.nii.gz", "RawData/Training/label/label{}.nii.gz"),
    ids=_numbered("{:04d}", (1, 10), (21, 40)),
    spread=(0, 0, 4),
    faults=("flipped-label", "swapped-sides"),
)
_ONE_MM = ((1.0, 1.0), (1.0, 1.0), (1.0, 1.0))
_LIVER_SPACING = ((0.56, 1.0), (0.56, 1.0), (0.7, 5.0))

RECIPES: dict[str, Recipe] = {
    "btcv": _BTCV_RECIPE,
    "synapse8": _BTCV_RECIPE,
    "segthor": Recipe(
        scene="chest",
        numbers={"esophagus": 1, "heart": 2, "trachea": 3, "aorta": 4},
        channels=("CT",),
        spacing=((0.9, 1.37), (0.9, 1.37), (2.0, 3.7)),
        shape=(48, 48, 36),
        write=pair("train/{0}/{0}.nii.gz", "train/{0}/GT.nii.gz"),
        ids=_numbered("Patient_{:02d}", (1, 40)),
        spread=(0, 0, 4),
        faults=("moved-heart", "flipped-label"),
    ),
    "pddca": Recipe(
        scene="head",
        numbers={name: value for value, name in enumerate(PDDCA_FILES, start=1)},
        channels=("CT",),
        spacing=((0.76, 1.27), (0.76, 1.27), (1.25, 3.0)),
        shape=(48, 48, 40),
        write=pddca,
        spread=(0, 0, 4),
        faults=("missing-structure", "swapped-sides", "flipped-label"),
    ),
    "brats2021": Recipe(
        scene="tumour_brain",
        numbers={"necrotic_core": 1, "edema": 2, "enhancing_tumour": 4},
        channels=("flair", "t1", "t1ce", "t2"),
        spacing=_ONE_MM,
        shape=(48, 48, 32),
        write=brats,
        origin=(0, 239, 0),
        faults=("brats-2023-labels", "missing-channel"),
    ),
    "atlas_v2": Recipe(
        scene="stroke_brain",
        numbers={"lesion": 1},
        channels=("T1w",),
        spacing=_ONE_MM,
        shape=(40, 48, 38),
        write=atlas,
        ids=tuple(f"sub-r{1 + n // 20:03d}s{1 + n % 20:03d}" for n in range(655)),
        axes=("RAS",),
        origin=(-98, -134, -72),
    ),
    "lits": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "tumour": 2},
        channels=("CT",),
        spacing=_LIVER_SPACING,
        shape=(48, 48, 36),
        write=lits,
        ids=_numbered("{}", (0, 130)),
        axes=("LPS", "LAS", "RAS"),
        spread=(0, 0, 6),
        faults=("identity-affine",),
    ),
    "atriaseg2018": Recipe(
        scene="atrium",
        numbers={"left_atrium": 1},
        channels=("LGE",),
        spacing=((0.625, 0.625), (0.625, 0.625), (0.625, 0.625)),
        shape=(32, 40, 48),
        write=pair("{}.nii.gz", "{}_lab.nii.gz"),
        faults=("raw-label-value",),
    ),
    "msd_task01_brain": Recipe(
        scene="tumour_brain",
        numbers={"edema": 1, "necrotic_core": 2, "enhancing_tumour": 3},
        channels=("flair", "t1w", "t1gd", "t2w"),
        spacing=_ONE_MM,
        shape=(48, 48, 32),
        ids=_numbered("{:03d}", (1, 484)),
        faults=("brats-labels",),
        **decathlon("Task01_BrainTumour", "BRATS"),
    ),
    "msd_task03_liver": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "tumour": 2},
        channels=("CT",),
        spacing=_LIVER_SPACING,
        shape=(48, 48, 36),
        ids=_numbered("{}", (0, 130)),
        spread=(0, 0, 6),
        **decathlon("Task03_Liver", "liver"),
    ),
    "msd_task04_hippocampus": Recipe(
        scene="hippocampus",
        numbers={"anterior_hippocampus": 1, "posterior_hippocampus": 2},
        channels=("T1",),
        spacing=_ONE_MM,
        shape=(36, 50, 36),
        axes=("RAS",),
        spread=(4, 8, 8),
        faults=("swapped-ends",),
        **decathlon("Task04_Hippocampus", "hippocampus"),
    ),
    "msd_task06_lung": Recipe(
        scene="chest",
        numbers={"tumour": 1},
        channels=("CT",),
        spacing=((0.6, 0.98), (0.6, 0.98), (0.63, 2.5)),
        shape=(48, 48, 36),
        ids=_numbered("{:03d}", (1, 63)),
        **decathlon("Task06_Lung", "lung"),
    ),
    "msd_task09_spleen": Recipe(
        scene="abdomen",
        numbers={"spleen": 1},
        channels=("CT",),
        spacing=((0.61, 0.98), (0.61, 0.98), (1.5, 8.0)),
        shape=(48, 48, 36),
        spread=(0, 0, 4),
        **decathlon("Task09_Spleen", "spleen"),
    ),
    "nnunet": Recipe(
        scene="abdomen",
        numbers={"liver": 1, "spleen": 2, "aorta": 3},
        channels=("CT",),
        spacing=((0.6, 1.0), (0.6, 1.0), (2.0, 5.0)),
        shape=(48, 48, 36),
        write=nnunet,
        ids=_numbered("case_{:03d}", (0, 99)),
        finish=nnunet_json,
    ),
}
