"""The cache of prepared cases: one folder per case, whole or absent, opened as memory maps when first needed.

Layout, all written by `harness.data.preprocessing`::

    <root>/<key>/settings.json             what the key was made of
    <root>/<key>/<case key>/image.npy      (C, a, b, c) float16 or float32
                            label.npy      (a, b, c) uint8 or uint16 class indices; absent without labels
                            foreground.npy flat voxel indices into (a, b, c), class after class
                            spec.json      geometry, fill values, where the arrays begin, how many indices per class,
                                           which classes nobody drew

Both keys are hashes of content, so a cache is never stale: other data or other settings are other folders.
"""

from __future__ import annotations

import functools
import json
import math
import mmap
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.errors import HarnessError, unknown_name
from harness.grid import GridSpec

__all__ = ["FOREGROUND", "IMAGE", "LABEL", "SPEC", "Cache", "PreparedCase"]

IMAGE, LABEL, FOREGROUND, SPEC = "image.npy", "label.npy", "foreground.npy", "spec.json"
_OPEN_CASES = 32  # opening a case costs as much as reading a patch of it
# Pages that were read count as memory of this process until they are let go, although all processes share them.
_RESIDENT_BYTES = 64 << 20


class PreparedCase:
    """One prepared case.

    Attributes
    ----------
    image : ndarray of shape (C, a, b, c)
        float16 or float32, mapped from the file. Nobody writes to it: what was written would be lost by `let_go`.
    label : ndarray of shape (a, b, c) or None
        Class indices: positions in the card's sorted label values. Mapped, like ``image``.
    foreground : dict of int to ndarray
        Class index to flat voxel indices into (a, b, c); classes that the case lacks are absent.
    fill : tuple of float
        Per channel, what padding is filled with: the value of background.
    undrawn : tuple of int
        Class indices that nobody drew in this case: where the label says background, they may be.
    """

    def __init__(self, folder: Path) -> None:
        content = json.loads((folder / SPEC).read_text(encoding="utf-8"))
        self._maps = {
            name: _map(folder / name) for name, about in content["arrays"].items() if math.prod(about["shape"])
        }
        arrays = {name: _array(self._maps.get(name), **about) for name, about in content["arrays"].items()}
        self.nbytes = sum(map(len, self._maps.values()))
        self._grid = content["grid"]
        self.image: NDArray[Any] = arrays[IMAGE]
        self.label: NDArray[Any] | None = arrays.get(LABEL)
        self.fill: tuple[float, ...] = tuple(content["fill"])
        self.undrawn: tuple[int, ...] = tuple(content["undrawn"])
        self.foreground: dict[int, NDArray[Any]] = {}
        stop = 0
        for label_class, count in content["foreground"]:
            start, stop = stop, stop + count
            self.foreground[label_class] = arrays[FOREGROUND][start:stop]

    @functools.cached_property
    def spec(self) -> GridSpec:
        """The way back to the scan's own grid."""
        return GridSpec.from_json(self._grid)

    def let_go(self) -> None:
        """Give the pages that were read back to the system, which keeps them for whoever reads next.

        Arrays stay as they are, also those that another thread reads at this moment.
        """
        for each in self._maps.values():
            if hasattr(mmap, "MADV_DONTNEED"):
                each.madvise(mmap.MADV_DONTNEED)


def _map(path: Path) -> mmap.mmap:
    """Map a file copy-on-write, because torch warns about read-only arrays; nothing here writes to it."""
    with path.open("rb") as stream:
        return mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)


def _array(source: mmap.mmap | None, dtype: str, shape: list[int], offset: int) -> NDArray[Any]:
    """Return an array whose place is known; `numpy.load` and `numpy.memmap` would take longer than reading a patch."""
    return np.empty(shape, dtype) if source is None else np.ndarray(shape, dtype, source, offset)


class Cache:
    """Prepared cases by id. Safe for threads; memory does not grow with the number of cases.

    Parameters
    ----------
    folders : mapping of str to Path
        Case id to its folder.
    label_values : tuple of int
        The label value that each class index stands for; empty without labels.
    """

    def __init__(self, folders: Mapping[str, Path], label_values: tuple[int, ...] = ()) -> None:
        self._folders = dict(folders)
        self.label_values = label_values
        self._open: OrderedDict[str, PreparedCase] = OrderedDict()
        self._resident: dict[str, PreparedCase] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._folders)

    def __iter__(self) -> Iterator[str]:
        return iter(self._folders)

    def __contains__(self, case: object) -> bool:
        return case in self._folders

    def require(self, case: str) -> Path:
        """Return the folder of a case.

        Raises
        ------
        UserError
            The cache does not hold it.
        """
        if case not in self._folders:
            raise unknown_name("prepared case", case, self._folders)
        return self._folders[case]

    def case(self, case: str) -> PreparedCase:
        """Open a case, or return it where it is still open.

        Raises
        ------
        UserError
            The cache does not hold it.
        HarnessError
            Its files are gone or damaged.
        """
        with self._lock:
            if case in self._open:
                self._open.move_to_end(case)
                return self._read_from(case)
        prepared = _open(self.require(case))
        with self._lock:
            self._open[case] = prepared
            while len(self._open) > _OPEN_CASES:
                closed, _ = self._open.popitem(last=False)
                self._resident.pop(closed, None)
            return self._read_from(case)

    def _read_from(self, case: str) -> PreparedCase:
        """Return an open case; where that is too much to hold, let the pages of the one go that came last.

        Training walks through all cases in turn: whoever lets the oldest go never meets a case that it still holds.
        """
        prepared = self._open[case]
        if self._resident.get(case) is not prepared:
            while (
                self._resident
                and sum(one.nbytes for one in self._resident.values()) + prepared.nbytes > _RESIDENT_BYTES
            ):
                self._resident.popitem()[1].let_go()
            self._resident[case] = prepared
        return prepared


def _open(folder: Path) -> PreparedCase:
    try:
        return PreparedCase(folder)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise HarnessError(
            f"The prepared case in {folder} cannot be read: {error}. Somebody removed or changed its files while they "
            "were in use. Delete that folder and start again; it will be made anew."
        ) from error
