"""Preparing every case once: normalise, orient, resample, crop, pad, and store it for reading patch by patch.

Numbers are mapped before they are resampled, so that clipping and statistics see the scanner's values and not
interpolated ones.
"""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data import cache as stored
from harness.data.cache import Cache
from harness.data.inspection import CaseFacts
from harness.data.intensity import map_channel
from harness.data.layouts import Case
from harness.data.reading import read
from harness.data.reference import read_reference
from harness.data.resampling import apply_linear, apply_nearest
from harness.data.settings import Preprocessing
from harness.errors import HarnessError, UserError
from harness.files import canonical_json, sha256_hex, write_json
from harness.grid import Grid, GridSpec
from harness.progress import say, track

__all__ = ["FORMAT", "Prepared", "prepare", "prepare_image", "prepare_label"]

FORMAT = 3  # of the files, and of what this code makes of given settings; a new number is a new cache
_KEY_DIGITS = 20
_TEMPORARY = ".tmp-"


@dataclass(frozen=True)
class Prepared:
    """An image on the grid that the network sees.

    Attributes
    ----------
    image : ndarray of shape (C, a, b, c), float32
        Mapped by the intensity rule.
    spec : GridSpec
        The way back to the scan's own grid.
    fill : tuple of float
        Per channel, the value of background.
    """

    image: NDArray[np.float32]
    spec: GridSpec
    fill: tuple[float, ...]


def prepare(
    card: DatasetCard,
    cases: Mapping[str, Case],
    facts: Mapping[str, CaseFacts],
    settings: Preprocessing,
    root: Path,
    *,
    workers: int = 1,
) -> Cache:
    """Prepare all cases that the cache does not hold yet.

    Interrupted at any moment, it goes on with the next case when it is called again. Of several processes that
    start at once, one prepares and the others wait. A cache that is complete is only read, so it may lie on a
    read-only disk.

    Parameters
    ----------
    card : DatasetCard
        Gives the label values; class indices are positions in their sorted order.
    cases : mapping of str to Case
        The cases to have ready.
    facts : mapping of str to CaseFacts
        From the check, per case; the hashes address the cache.
    settings : Preprocessing
        What to do.
    root : Path
        Folder of all caches.
    workers : int
        Cases prepared at the same time, in threads; each holds its volumes in memory.

    Raises
    ------
    UserError
        A label value is not on the card, or values do not fit the storage type.
    HarnessError
        The disk is full or the folder may not be written; the case at hand leaves nothing behind.
    """
    values = tuple(sorted(card.labels))
    content = {"format": FORMAT, "settings": settings.model_dump(mode="json"), "label_values": list(values)}
    home = root / sha256_hex(canonical_json(content))[:_KEY_DIGITS]
    folders = {case: home / _case_key(facts[case]) for case in cases}
    if all(folder.is_dir() for folder in folders.values()):
        return Cache(folders, values)
    with _sole_preparer(home):
        _remove_leftovers(home)
        write_json(home / "settings.json", content)
        missing = {case: folder for case, folder in folders.items() if not folder.is_dir()}
        if missing:
            _state_size([facts[case] for case in missing], len(card.channels), settings, home)
            _each(missing, workers, lambda case: _make(cases[case], values, settings, folders[case]))
    return Cache(folders, values)


def prepare_image(channels: Sequence[NDArray[Any]], grid: Grid, settings: Preprocessing) -> Prepared:
    """Prepare the channels of one scan, in memory.

    Parameters
    ----------
    channels : sequence of ndarray of shape (a, b, c)
        On ``grid``, in the order of the data set card; the settings bring them into the network's.
    grid : Grid
        The scan's own.
    settings : Preprocessing
        What to do.
    """
    if settings.channels is not None:
        channels = [channels[index] for index in settings.channels]
    crop = _foreground_box(channels, grid, settings) if settings.foreground_crop else None
    spec = GridSpec.plan(
        grid,
        axcodes=settings.axcodes,
        spacing=None if settings.spacing == "native" else settings.spacing,
        crop=crop,
        minimum_shape=settings.minimum_shape,
        divisible_by=settings.divisible_by,
    )
    image = np.empty((len(channels), *spec.target.shape), dtype=np.float32)
    fills = []
    for index, channel in enumerate(channels):
        mapped, fill = map_channel(channel, settings.intensity)
        image[index] = apply_linear(spec, mapped, fill)
        fills.append(fill)
    return Prepared(image, spec, tuple(fills))


def prepare_label(label: NDArray[Any], values: Sequence[int], spec: GridSpec, where: Path | str) -> NDArray[Any]:
    """Bring a label map to the prepared grid, as class indices.

    Parameters
    ----------
    label : ndarray of shape (a, b, c)
        Label values on the scan's own grid.
    values : sequence of int
        Sorted; a value's position is its class index.
    spec : GridSpec
        From `prepare_image`.
    where : Path or str
        Names the file in the error.

    Returns
    -------
    ndarray of shape spec.target.shape
        uint8 up to 256 classes, else uint16.

    Raises
    ------
    UserError
        A voxel has a value that is not among ``values``.
    """
    known = np.asarray(values)
    moved = apply_nearest(spec, label, 0)
    indices = np.searchsorted(known, moved)
    wrong = known[np.minimum(indices, len(known) - 1)] != moved
    if wrong.any():
        found = ", ".join(f"{value:g}" for value in np.unique(moved[wrong])[:5])
        raise UserError(
            f"{where} has label values that the data set card does not list: {found}; it lists "
            f"{', '.join(map(str, values))}. Correct the file, or add the value to `labels` of the card."
        )
    return indices.astype(np.uint8 if len(values) <= 256 else np.uint16)


def _case_key(facts: CaseFacts) -> str:
    return sha256_hex(f"{facts.image_sha256} {facts.label_sha256}")[:_KEY_DIGITS]


def _foreground_box(
    channels: Sequence[NDArray[Any]], grid: Grid, settings: Preprocessing
) -> tuple[tuple[int, int], ...] | None:
    """Return the box of everything above the lowest value, in the oriented and resampled volume."""
    inside = np.zeros(grid.shape, dtype=bool)
    for channel in channels:
        inside |= channel > channel.min()
    if not inside.any():
        return None
    uncropped = GridSpec.plan(
        grid, axcodes=settings.axcodes, spacing=None if settings.spacing == "native" else settings.spacing
    )
    oriented = GridSpec.plan(grid, axcodes=settings.axcodes).apply(inside, order="nearest", fill=0)
    box = []
    for axis in range(3):
        used = np.flatnonzero(oriented.any(axis=tuple(other for other in range(3) if other != axis)))
        scale = uncropped.target.shape[axis] / oriented.shape[axis]
        stop = min(math.ceil((int(used[-1]) + 1) * scale), uncropped.target.shape[axis])
        box.append((min(math.floor(int(used[0]) * scale), stop - 1), stop))
    return tuple(box)


def _make(case: Case, values: tuple[int, ...], settings: Preprocessing, folder: Path) -> None:
    """Prepare one case and publish its folder by one rename."""
    volumes = [read(path) for path in case.images]
    channels = [part for volume in volumes for part in _split_channels(volume.data)]
    prepared = prepare_image(channels, volumes[0].grid, settings)
    _refuse_overflow(prepared.image, settings, case)
    arrays: dict[str, NDArray[Any]] = {stored.IMAGE: prepared.image.astype(settings.dtype)}
    counts: list[tuple[int, int]] = []
    undrawn: list[int] = []
    if case.label is not None:
        reference = read_reference(case)
        undrawn = sorted(values.index(value) for value in reference.not_annotated)
        label = prepare_label(reference.labels, values, prepared.spec, case.label)
        arrays[stored.LABEL] = label
        arrays[stored.FOREGROUND], counts = _index_foreground(label, settings.foreground_voxels)
    facts = {
        "grid": prepared.spec.to_json(),
        "fill": list(prepared.fill),
        "foreground": counts,
        "undrawn": undrawn,
    }
    _publish(folder, arrays, facts)


def _split_channels(data: NDArray[Any]) -> list[NDArray[Any]]:
    return [data] if data.ndim == 3 else [data[..., index] for index in range(data.shape[3])]


def _refuse_overflow(image: NDArray[np.float32], settings: Preprocessing, case: Case) -> None:
    limit = float(np.finfo(settings.dtype).max)
    highest = float(max(image.max(), -image.min()))
    if not highest <= limit:
        raise UserError(
            f"Case {case.id!r} has the value {highest:g} after preprocessing; {settings.dtype} ends at {limit:g}. "
            "Choose an intensity rule that maps values to a small range, or store the cache as float32."
        )


def _index_foreground(label: NDArray[Any], most: int) -> tuple[NDArray[np.uint32], list[tuple[int, int]]]:
    """Return flat voxel indices, class after class, and how many belong to each class."""
    flat = label.reshape(-1)
    voxels = np.flatnonzero(flat).astype(np.uint32)
    classes = flat[voxels]
    rng = np.random.default_rng(0)  # which voxels stand for a large class must not change between two runs
    parts, counts = [], []
    for label_class in np.unique(classes).tolist():
        found = voxels[classes == label_class]
        kept = np.sort(rng.choice(found, most, replace=False)) if len(found) > most else found
        parts.append(kept)
        counts.append((int(label_class), len(kept)))
    return np.concatenate(parts) if parts else np.empty(0, np.uint32), counts


def _publish(folder: Path, arrays: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
    temporary = folder.with_name(f"{_TEMPORARY}{folder.name}")
    try:
        temporary.mkdir()
        about = {name: _write_array(temporary / name, array) for name, array in arrays.items()}
        write_json(temporary / stored.SPEC, {**facts, "arrays": about})
        temporary.rename(folder)
    except OSError as error:
        raise _cannot_prepare(folder, error) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_array(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Write an .npy file, wait for the disk, and say where in it the values are.

    The rename that follows must not overtake the bytes.

    `numpy.save` reports a full disk without the system's reason, and writing through a memory map would end in SIGBUS.
    """
    array = np.ascontiguousarray(array)
    header = np.lib.format.header_data_from_array_1_0(array)  # type: ignore[no-untyped-call]
    with path.open("wb") as stream:
        np.lib.format.write_array_header_1_0(stream, header)  # type: ignore[no-untyped-call]
        offset = stream.tell()
        stream.write(array.reshape(-1).view(np.uint8).data)
        stream.flush()
        os.fsync(stream.fileno())
    return {"dtype": array.dtype.str, "shape": list(array.shape), "offset": offset}


def _cannot_prepare(folder: Path, error: OSError) -> HarnessError:
    return HarnessError(
        f"Could not write prepared data to {folder}: {error.strerror or error}. Nothing was left half-written and the "
        "cases finished so far stay. Free some space or choose another cache folder, then run the same command again."
    )


class _sole_preparer:  # noqa: N801 -- reads as a statement: with _sole_preparer(home)
    """Holds the lock of one cache folder; the system frees it when the process ends, however it ends."""

    def __init__(self, home: Path) -> None:
        self._home = home
        try:
            home.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _cannot_prepare(home, error) from error
        self._lock = FileLock(home / ".lock")

    def __enter__(self) -> None:
        try:
            try:
                self._lock.acquire(timeout=0)
            except Timeout:
                say(f"Another process prepares {self._home}; waiting until it is done.")
                self._lock.acquire(poll_interval=0.1)
        except OSError as error:
            raise _cannot_prepare(self._home, error) from error

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def _remove_leftovers(home: Path) -> None:
    """Remove what a killed process left; only called by the one that holds the lock."""
    for path in home.glob(f"{_TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _state_size(facts: Sequence[CaseFacts], channels: int, settings: Preprocessing, home: Path) -> None:
    """Say what the cache will take before anything is written; padding and cropping are not counted."""
    total = sum(_bytes_of(case, channels, settings) for case in facts)
    free = shutil.disk_usage(home).free
    say(f"Preparing {len(facts)} cases into {home}: about {total / 1e6:.0f} MB ({free / 1e9:.1f} GB free).")
    if total > free:
        say(
            "That is more than the disk has room for, unless cropping makes it smaller; preparing stops cleanly if not."
        )


def _bytes_of(facts: CaseFacts, channels: int, settings: Preprocessing) -> float:
    voxels: float = math.prod(facts.shape)
    if settings.spacing != "native":
        voxels *= math.prod(facts.spacing) / math.prod(settings.spacing)
    return voxels * (channels * np.dtype(settings.dtype).itemsize + (facts.label_sha256 is not None))


def _each(missing: Mapping[str, Path], workers: int, make: Any) -> None:
    if workers <= 1:
        for case in track(list(missing), "preparing"):
            make(case)
        return
    with ThreadPoolExecutor(workers, "prepare") as pool:
        futures = [pool.submit(make, case) for case in missing]
        try:
            for future in track(futures, "preparing"):
                future.result()
        finally:
            pool.shutdown(cancel_futures=True)
