"""The viewer page of a run: image, reference, prediction and what differs, as volumes that travel in scripts.

Only for data whose card says that they may be passed on. The volumes of a record are a stranger's files: they are read
within bounds and written anew, so that a browser gets nothing but voxels on a grid.
"""

from __future__ import annotations

import base64
import gzip
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from harness.data.reading import read
from harness.data.volume import Volume
from harness.errors import UserError
from harness.leaderboard.folder import put
from harness.leaderboard.niivue import LIBRARY
from harness.leaderboard.reading import RunData
from harness.leaderboard.render import VIEWER_CSP, render
from harness.leaderboard.summary import RunSummary
from harness.leaderboard.text import slug
from harness.records.registry import Registry
from harness.records.volumes import PARTS

__all__ = ["difference", "may_be_shown", "write_viewer"]

_MOST_VOXELS: Final = 1 << 21
_MOST_BYTES: Final = 3 * _MOST_VOXELS
_VIEWS: Final = (("multi", "all three planes"), ("axial", "axial"), ("coronal", "coronal"), ("sagittal", "sagittal"))


@dataclass(frozen=True)
class Case:
    """One case that the page offers: its script, its words, and the still picture of the same case, if any."""

    key: str
    caption: str
    script: str
    detail: str
    still: dict[str, Any] | None


def may_be_shown(data: RunData, cards: Iterable[Path]) -> bool:
    """Whether the card of the record's data set says that its images may be passed on."""
    card = Registry(tuple(cards)).dataset(data.record)
    return card is not None and card.terms.redistribution


def write_viewer(
    data: RunData, summary: RunSummary, home: Path, counts: dict[str, str], stills: list[dict[str, Any]]
) -> bool:
    """Write ``viewer.html`` and one script per case below ``home``.

    Parameters
    ----------
    data, summary
        The run; see `harness.leaderboard.runpage`.
    home : Path
        The run's folder on the board.
    counts : dict of str to str
        For the foot of the page.
    stills : list of dict
        The pictures on the run page, shown where a browser cannot draw volumes.

    Returns
    -------
    bool
        Whether there is such a page: False where the record holds no volumes that can be shown.
    """
    cases = []
    for name, files in data.volumes.items():
        try:
            image, reference, prediction = (_bounded(data.opened.folder / "slices" / file) for file in files)
            parts = _parts(image, reference, prediction)
        except UserError:
            continue  # the record holds it, and it is no volume that could be shown
        key = slug(name)
        script = f"volumes/{key}.js"
        # A classic script works from a folder too, where a page may not fetch files.
        put(home / script, f"(window.__volumes = window.__volumes || {{}})[{json.dumps(key)}] = {json.dumps(parts)};\n")
        still = next((still for still in stills if still["name"] == f"{slug(name)}.png"), None)
        which, _, case = name.partition("_")
        cases.append(Case(key, f"{which}: {case}" if case else which, script, _detail(image), still))
    if not cases:
        return False
    labels = data.record.dataset.label_map or {}
    page = render(
        "viewer.html",
        depth=2,
        section="runs",
        counts=counts,
        csp=VIEWER_CSP,
        run=data,
        summary=summary,
        crumbs=[("Runs", "runs.html"), (f"Run {summary.run_id}", summary.href), ("Viewer", None)],
        cases=cases,
        views=_VIEWS,
        labels=[(int(value), name) for value, name in labels.items() if value != "0"],
        library=LIBRARY,
    )
    put(home / "viewer.html", page)
    return True


def difference(reference: NDArray[Any], prediction: NDArray[Any]) -> NDArray[np.uint8]:
    """Say of every voxel in what two label maps differ: 0 not, 1 missed, 2 added, 3 another class.

    >>> difference(np.array([0, 1, 1, 0, 2]), np.array([0, 1, 0, 1, 1])).tolist()
    [0, 0, 1, 2, 3]
    """
    differs = reference != prediction
    kind = np.where(prediction == 0, 1, np.where(reference == 0, 2, 3))
    return np.asarray(differs * kind, np.uint8)


def _bounded(path: Path) -> Volume:
    """Read a volume of a stranger's record; UserError where it is none, or unpacks to more than one of ours could."""
    unpacker = zlib.decompressobj(wbits=31)
    try:
        unpacker.decompress(path.read_bytes(), _MOST_BYTES)
    except zlib.error as error:
        raise UserError(f"{path.name} is not compressed with gzip: {error}.") from error
    if unpacker.unconsumed_tail or unpacker.unused_data:
        raise UserError(f"{path.name} unpacks to more than {_MOST_BYTES:,} bytes.")
    volume = read(path)
    if volume.data.ndim != 3 or volume.data.size > _MOST_VOXELS or volume.data.dtype not in (np.uint8, np.uint16):
        raise UserError(f"{path.name} is no small volume of grey levels or labels.")
    return volume


def _parts(image: Volume, reference: Volume, prediction: Volume) -> dict[str, str]:
    if not image.grid == reference.grid == prediction.grid:
        raise UserError("The volumes of a case lie on different grids.")
    held = dict(zip(PARTS, (image.data, reference.data, prediction.data), strict=True))
    held["difference"] = difference(reference.data, prediction.data)
    return {part: _packed(voxels, image.grid.matrix) for part, voxels in held.items()}


def _packed(voxels: NDArray[Any], affine: NDArray[np.float64]) -> str:
    import nibabel

    content = nibabel.Nifti1Image(voxels, affine).to_bytes()
    return base64.b64encode(gzip.compress(content, mtime=0)).decode()


def _detail(image: Volume) -> str:
    times = " \N{MULTIPLICATION SIGN} "
    size = times.join(str(length) for length in image.grid.shape)
    return f"{size} voxels of {times.join(f'{step:.3g}' for step in image.grid.spacing)} mm"
