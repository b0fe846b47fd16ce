"""Forged checkpoints: published names, shapes and types with made-up values that depend on name and salt alone.

The golden outputs beside this file are the authors' own implementation on exactly these values, so the rule must not
change: NumPy's PCG64 seeded with the first eight bytes of SHA-256 of "salt:name".
"""

from __future__ import annotations

import hashlib
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

PARITY = Path(__file__).parent


def _numbers(name: str, salt: int) -> np.random.Generator:
    seed = hashlib.sha256(f"{salt}:{name}".encode()).digest()[:8]
    return np.random.Generator(np.random.PCG64(int.from_bytes(seed, "little")))


def fill(name: str, shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """Give one entry float32 values of a scale at which a deep network neither dies nor explodes."""
    numbers = _numbers(name, salt)
    if name.endswith("running_var"):
        values = 0.5 + numbers.random(shape)
    elif name.endswith(("running_mean", "bias")):
        values = 0.1 * numbers.standard_normal(shape)
    elif len(shape) < 2:
        values = 1.0 + 0.1 * numbers.standard_normal(shape)
    else:
        values = math.sqrt(2.0 / math.prod(shape[1:])) * numbers.standard_normal(shape)
    return np.asarray(values).astype(np.float32)


def input_volume(shape: tuple[int, ...], salt: int = 0) -> np.ndarray:
    """Make the network input that belongs to ``salt``."""
    return _numbers("input", salt).standard_normal(shape).astype(np.float32)


def manifest(model: str, kind: str = "manifest") -> dict[str, Any]:
    """Read the manifest of one parity id; ``kind`` may be ``manifest_full``."""
    content: dict[str, Any] = json.loads((PARITY / model / f"{kind}.json").read_text(encoding="utf-8"))
    return content


def checkpoint(content: dict[str, Any], salt: int = 0) -> dict[str, np.ndarray]:
    """Fill the entries of a manifest; those that the architecture computes itself are left out, counters are zero."""
    filled = {}
    for entry in content["entries"]:
        if entry.get("values") == "architecture":
            continue
        shape = tuple(entry["shape"])
        is_counter = entry["dtype"].startswith("int")
        filled[entry["name"]] = np.zeros(shape, entry["dtype"]) if is_counter else fill(entry["name"], shape, salt)
    return filled


def golden(model: str, name: str = "golden") -> dict[str, np.ndarray]:
    """Read the stored outputs of the authors' implementation."""
    with np.load(PARITY / model / f"{name}.npz") as stored:
        return {key: stored[key] for key in stored.files}


def compare(stored: dict[str, np.ndarray], name: str, array: np.ndarray, tolerance: dict[str, Any]) -> None:
    """Assert that ``array`` is the stored output ``name``, whole or sampled, within the manifest's tolerance."""
    if name in stored:
        wanted = stored[name]
        assert array.shape == wanted.shape, f"{name}: shape {array.shape}, the authors' is {wanted.shape}"
        found, std = array, float(wanted.std(dtype=np.float64))
    else:
        wanted = stored[f"{name}__sample"]
        shape = tuple(int(side) for side in stored[f"{name}__shape"])
        assert array.shape == shape, f"{name}: shape {array.shape}, the authors' is {shape}"
        found, std = array.reshape(-1)[:: int(stored[f"{name}__stride"])], float(stored[f"{name}__std"])
    limit = max(float(tolerance["atol"]), float(tolerance["rtol_std"]) * std)
    worst = float(np.abs(found.astype(np.float64) - wanted).max())
    assert worst <= limit, f"{name}: largest difference {worst:.3g} exceeds {limit:.3g} (std {std:.3g})"


def output_names(stored: dict[str, np.ndarray]) -> set[str]:
    """List the outputs that a golden file holds."""
    about = {"input_shape", "salt", "torch_version", "source", "num_classes"}
    return {key.split("__")[0] for key in stored if key.split("__")[0] not in about}
