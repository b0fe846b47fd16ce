"""What this machine has and lacks for runs: each finding with the command that mends it. Changes nothing."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from harness.data.cache import IMAGE, SPEC
from harness.data.roots import cache_folder, remembered
from harness.errors import HarnessError

__all__ = ["Finding", "examine", "to_json"]

State = Literal["ok", "warning", "problem"]

_LEAST_SHM = 2 << 30  # workers of torch and NCCL hand tensors over through it
_LEAST_FILES = 4096
_LEAST_DISK = 20 << 30
_SLOW_DISK = 100e6  # bytes a second; a patch of 128^3 float16 with 4 channels is 17 MB
_PROBE = 64 << 20
_EXTRAS = {
    "hub": ("huggingface_hub", "faster downloads from Hugging Face"),
    "slurm": ("submitit", "sweeps on Slurm"),
    "ray": ("ray", "sweeps on Ray"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at.

    Attributes
    ----------
    what : str
        Its name.
    state : {"ok", "warning", "problem"}
        A problem keeps runs from working; a warning makes them slow or takes a feature away.
    found : str
        What there is, with values.
    mend : str or None
        The command or the setting that mends it; None where nothing is wrong.
    """

    what: str
    state: State
    found: str
    mend: str | None = None


def examine(out: Path = Path("runs"), cache: Path | None = None) -> list[Finding]:
    """Look at Python, torch, GPU, driver, memory, disk, caches and extras.

    Parameters
    ----------
    out : Path
        Where runs would lie; its disk is looked at.
    cache : Path, optional
        Folder of prepared volumes; the usual one by default.
    """
    home = cache_folder(cache)
    parts: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _torch,
        _shared_memory,
        _open_files,
        lambda: _disk("disk of runs", out),
        lambda: _disk("disk of the cache", home),
        lambda: _cache(home),
        _data_roots,
        _extras,
    ]
    return [finding for part in parts for finding in part()]


def to_json(findings: list[Finding]) -> dict[str, Any]:
    """Return plain values, with the worst state on top."""
    order = ("ok", "warning", "problem")
    worst = max((finding.state for finding in findings), key=order.index, default="ok")
    return {"state": worst, "findings": [asdict(finding) for finding in findings]}


def _python() -> Iterator[Finding]:
    yield Finding("python", "ok", f"{platform.python_version()} on {platform.system()} {platform.machine()}")
    lacking = [name for name in _required() if not _version(name)]
    if lacking:
        yield Finding("packages", "problem", f"missing: {', '.join(lacking)}", f"pip install {' '.join(lacking)}")
    else:
        yield Finding("packages", "ok", f"monai {_version('monai')}, numpy {_version('numpy')}, all others present")


def _required() -> list[str]:
    """Return the distributions that this one needs in any case."""
    from packaging.requirements import Requirement

    try:
        stated = map(Requirement, importlib.metadata.requires("voxharness") or [])
    except importlib.metadata.PackageNotFoundError:  # run from a source tree that was never installed
        return ["torch", "monai", "numpy"]
    return [one.name for one in stated if one.marker is None or one.marker.evaluate({"extra": ""})]


def _version(name: str) -> str | None:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return None


def _torch() -> Iterator[Finding]:
    try:
        import torch
    except (ImportError, OSError) as error:
        yield Finding("torch", "problem", f"cannot be imported: {error}", "pip install --force-reinstall torch")
        return
    build = f"CUDA {torch.version.cuda}" if torch.version.cuda else "CPU only"
    yield Finding("torch", "ok", f"{torch.__version__}, built for {build}")
    driver = _driver()
    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            yield from _gpu(number, torch)
    elif driver is not None:
        mend = (
            "pip install torch --index-url https://download.pytorch.org/whl/cu126  # a build for CUDA"
            if not torch.version.cuda
            else "nvidia-smi  # is the driver new enough for this CUDA? is CUDA_VISIBLE_DEVICES empty?"
        )
        yield Finding("gpu", "problem", f"driver {driver} is here, but torch sees no device", mend)
    else:
        yield Finding(
            "gpu", "warning", "none: runs use the CPU, which takes days where a GPU takes hours", "nvidia-smi"
        )
    if driver is not None:
        yield Finding("driver", "ok", driver)


def _gpu(number: int, torch: Any) -> Iterator[Finding]:
    about = torch.cuda.get_device_properties(number)
    free, total = torch.cuda.mem_get_info(number)
    found = (
        f"{about.name}, {total / 2**30:.1f} GiB ({free / 2**30:.1f} free), compute {about.major}.{about.minor}, "
        f"bf16 {'yes' if torch.cuda.is_bf16_supported() else 'no'}"
    )
    if free < total / 2:
        yield Finding(f"gpu {number}", "warning", found, "nvidia-smi  # another process holds more than half of it")
    else:
        yield Finding(f"gpu {number}", "ok", found)


def _driver() -> str | None:
    try:
        found = subprocess.run(
            ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"],  # noqa: S607
            capture_output=True,
            check=True,
            encoding="utf-8",
            timeout=30,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.split("\n")[0].strip() or None


def _shared_memory() -> Iterator[Finding]:
    shm = Path("/dev/shm")  # noqa: S108 - the very thing that is looked at
    if not shm.is_dir():
        yield Finding("shared memory", "warning", "there is no /dev/shm", "run on Linux, or with executor.workers=0")
        return
    free = shutil.disk_usage(shm).free
    found = f"{free / 2**30:.1f} GiB free in {shm}"
    if free < _LEAST_SHM:
        mend = "mount -o remount,size=8G /dev/shm  # in a container: docker run --shm-size=8g"
        yield Finding("shared memory", "warning", found, mend)
    else:
        yield Finding("shared memory", "ok", found)


def _open_files() -> Iterator[Finding]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    found = f"{soft} open files at most (hard limit {hard})"
    if soft != resource.RLIM_INFINITY and soft < _LEAST_FILES:
        yield Finding("file descriptors", "warning", found, f"ulimit -n {_LEAST_FILES}")
    else:
        yield Finding("file descriptors", "ok", found)


def _disk(what: str, folder: Path) -> Iterator[Finding]:
    place = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.is_dir())
    if not os.access(place, os.W_OK):
        yield Finding(what, "problem", f"{place} cannot be written to", f"chown -R $USER {place}, or choose another")
        return
    free = shutil.disk_usage(place).free
    try:
        speed = _write_speed(place)
    except OSError as error:
        yield Finding(what, "problem", f"{place}: {error.strerror}", f"df -h {place}  # free space, or choose another")
        return
    found = f"{free / 2**30:.1f} GiB free in {place}, {speed / 1e6:.0f} MB/s written"
    if free < _LEAST_DISK:
        yield Finding(what, "warning", found, f"df -h {place}  # free space, or choose another with out= or cache=")
    elif speed < _SLOW_DISK:
        yield Finding(what, "warning", found, "set HARNESS_CACHE to a folder on a local disk")
    else:
        yield Finding(what, "ok", found)


def _write_speed(place: Path) -> float:
    """Return bytes a second that a file of 64 MiB is written with, to the disk and not to its cache."""
    block = os.urandom(1 << 20)
    with tempfile.TemporaryFile(dir=place) as stream:
        begin = time.perf_counter()
        for _ in range(_PROBE // len(block)):
            stream.write(block)
        stream.flush()
        os.fsync(stream.fileno())
        return _PROBE / (time.perf_counter() - begin)


def _cache(home: Path) -> Iterator[Finding]:
    """Look for prepared cases whose files are gone or cut off, and for what a killed process left."""
    if not home.is_dir():
        yield Finding("cache", "ok", f"{home} is not there yet")
        return
    cases = damaged = size = 0
    broken: list[Path] = []
    for settings in home.glob("*/settings.json"):
        for folder in settings.parent.iterdir():
            if not folder.is_dir() or folder.name.startswith("."):
                continue
            cases += 1
            if fault := _case_fault(folder):
                damaged += 1
                broken.append(fault)
            size += sum(path.stat().st_size for path in folder.iterdir())
    left = list(home.glob("*/.tmp-*"))
    found = f"{cases} prepared cases, {size / 2**30:.2f} GiB in {home}"
    if damaged:
        mend = f"rm -r {' '.join(str(path.parent) for path in broken[:3])}{' …' if damaged > 3 else ''}"
        yield Finding("cache", "problem", f"{found}; {damaged} are damaged", f"{mend}  # they are made anew")
    elif left:
        mend = f"rm -r {home}/*/.tmp-*  # while nothing runs; the next preparation does it too"
        yield Finding("cache", "warning", f"{found}; {len(left)} leftovers of killed processes", mend)
    else:
        yield Finding("cache", "ok", found)


def _case_fault(folder: Path) -> Path | None:
    """Return the first file of a prepared case that is missing or shorter than its description says."""
    try:
        arrays = json.loads((folder / SPEC).read_text(encoding="utf-8"))["arrays"]
    except (OSError, ValueError, KeyError, TypeError):
        return folder / SPEC
    import numpy as np

    for name, about in arrays.items():
        expected = about["offset"] + int(np.prod(about["shape"])) * np.dtype(about["dtype"]).itemsize
        path: Path = folder / str(name)
        if not path.is_file() or path.stat().st_size != expected:
            return path
    return None if IMAGE in arrays else folder / IMAGE


def _data_roots() -> Iterator[Finding]:
    try:
        known = remembered()
    except HarnessError as error:
        yield Finding("data sets", "problem", str(error), "harness data add ID FOLDER")
        return
    gone = {name: path for name, path in known.items() if not path.is_dir()}
    for name, path in gone.items():
        yield Finding(f"data {name}", "warning", f"{path} is gone", f"harness data add {name} FOLDER")
    if not gone:
        yield Finding("data sets", "ok", f"{len(known)} remembered beside the bundled ones")


def _extras() -> Iterator[Finding]:
    for extra, (module, purpose) in _EXTRAS.items():
        if importlib.util.find_spec(module) is None:
            yield Finding(
                f"extra {extra}", "warning", f"not installed: {purpose}", f"pip install 'voxharness[{extra}]'"
            )
        else:
            yield Finding(f"extra {extra}", "ok", f"{module} {_version(module) or ''}".strip())
