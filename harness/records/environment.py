"""What the result ran on: versions, code, hardware. Facts about the machine, never its name; no torch is imported."""

from __future__ import annotations

import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from types import ModuleType

import harness
from harness.files import sha256_hex
from harness.records.fields import Env, Hardware, Harness

__all__ = ["Environment", "describe", "installed_packages"]

_CPU_ONLY = "run on a CPU"
_GIB = 2.0**30
_PROJECT = Path(harness.__file__).parent.parent


@dataclass(frozen=True)
class Environment:
    """The three parts of a record that describe where it was made, with reasons for what is null in them.

    Attributes
    ----------
    packages : str
        ``name==version`` of every installed distribution, a line each, sorted; its hash is ``env.lock_sha256``.
    """

    harness: Harness
    env: Env
    hardware: Hardware
    reasons: dict[str, str]
    packages: str


def describe(device: str = "cpu") -> Environment:
    """Describe this process's environment.

    Parameters
    ----------
    device : str
        What the run computed on: ``"cpu"``, or a CUDA device such as ``"cuda"`` or ``"cuda:1"``.

    Notes
    -----
    CUDA facts are asked of torch only where the process has imported it already; a process that ran on a GPU has.
    """
    torch = sys.modules.get("torch") if device.startswith("cuda") else None
    packages = installed_packages()
    env = Env(
        python=platform.python_version(),
        torch=_version("torch"),
        cuda=torch.version.cuda if torch else None,
        cudnn=str(torch.backends.cudnn.version()) if torch else None,
        monai=_version("monai"),
        driver=_driver() if torch else None,
        lock_sha256=sha256_hex(packages),
    )
    hardware = _hardware(torch, device)
    why = _CPU_ONLY if torch is None else "the driver does not say"
    reasons = {f"env.{name}": why for name in ("cuda", "cudnn", "driver") if getattr(env, name) is None}
    reasons |= {f"env.{name}": "not installed" for name in ("torch", "monai") if getattr(env, name) is None}
    reasons |= {f"hardware.{n}": why for n in ("gpu", "gpu_count", "gpu_memory") if getattr(hardware, n) is None}
    commit, dirty = _code()
    code = Harness(version=harness.__version__, commit=commit, dirty=dirty)
    return Environment(code, env, hardware, reasons, packages)


def installed_packages() -> str:
    """List every installed distribution as ``name==version``, a line each, sorted and without doubles."""
    found = {f"{dist.metadata['Name'].lower().replace('_', '-')}=={dist.version}" for dist in metadata.distributions()}
    return "".join(f"{line}\n" for line in sorted(found))


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _code() -> tuple[str, bool]:
    """Return the commit of this checkout and whether its code differs from it; unknown outside a checkout."""
    if not (_PROJECT / ".git").exists():
        return "unknown", False
    commit = _git("rev-parse", "HEAD")
    if commit is None or not re.fullmatch(r"[0-9a-f]{40}\n", commit):
        return "unknown", False
    # Only what can change a result: run folders and notes beside the code do not make it dirty.
    changes = _git("status", "--porcelain", "--", "harness", "configs", "datasets", "pyproject.toml")
    return commit.strip(), changes is None or bool(changes.strip())


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603  fixed arguments, no shell
            ["git", "-C", str(_PROJECT), *arguments],  # noqa: S607  whichever git the user has
            capture_output=True,
            encoding="utf-8",
            timeout=20,
            check=True,
            env={**os.environ, "GIT_OPTIONAL_LOCKS": "0"},
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout


def _hardware(torch: ModuleType | None, device: str) -> Hardware:
    name, memory = None, None
    if torch is not None:
        properties = torch.cuda.get_device_properties(device)
        name, memory = str(properties.name), properties.total_memory / _GIB
    return Hardware(
        gpu=name,
        gpu_count=1 if torch is not None else None,
        gpu_memory=None if memory is None else round(memory, 1),
        cpu=_cpu(),
        cpu_count=len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        ram=_ram(),
    )


def _cpu() -> str | None:
    found = re.search(r"^model name\s*:\s*(.+)$", _text("/proc/cpuinfo"), re.MULTILINE)
    return (found.group(1).strip() if found else platform.processor() or platform.machine()) or None


def _ram() -> float | None:
    found = re.search(r"^MemTotal:\s+(\d+) kB", _text("/proc/meminfo"), re.MULTILINE)
    return round(int(found.group(1)) * 1024 / _GIB, 1) if found else None


def _driver() -> str | None:
    found = re.search(r"Kernel Module\s+(?:for \S+\s+)?([\d.]+)", _text("/proc/driver/nvidia/version"))
    return found.group(1) if found else None


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
