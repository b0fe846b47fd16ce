"""Reading a checkpoint without executing it: tensors and plain values only, anything else is refused.

Torch files are opened with ``weights_only=True``. A few harmless classes that the published files are known to
hold are allowed by name; whatever else a pickle asks for is named in the refusal.
"""

from __future__ import annotations

import argparse
import pickle
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness.checkpoints.archive import suffix_inside
from harness.errors import UserError

__all__ = ["RawCheckpoint", "read"]

# what torch raises depends on the byte at which a file ends or is changed
_DAMAGED = (
    AssertionError,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    struct.error,
    zipfile.BadZipFile,
)


@dataclass(frozen=True)
class RawCheckpoint:
    """What a file holds: the tensors under their names on disk, and the plain values beside them."""

    path: Path
    tensors: Mapping[str, Tensor]
    top_level: tuple[str, ...] = ()
    extras: Mapping[str, Any] = field(default_factory=dict)


def read(path: Path, weights_key: str | None = None, prefix: str = "", *, mapped: bool = True) -> RawCheckpoint:
    """Read the tensors of a checkpoint file.

    Parameters
    ----------
    path : Path
        A ``.pt``, ``.pth``, ``.model``, ``.safetensors`` or ``.h5`` file. What it is, is told from its first
        bytes, not from its name.
    weights_key : str, optional
        The top-level entry that holds the tensors (torch files); None where they lie at the top.
    prefix : str
        What every tensor name must start with on disk; it is stripped.
    mapped : bool
        Map zip-format torch files into memory, so that only what is looked at is read; false: read them whole, into
        tensors that a network may keep.

    Returns
    -------
    RawCheckpoint
        Tensors on the CPU.

    Raises
    ------
    UserError
        The file is missing, cut off, no checkpoint at all, would execute code, has another top level than
        expected, or holds a tensor without the prefix.
    """
    if not path.is_file():
        raise UserError(f"There is no checkpoint file at {path}. `harness weights fetch MODEL` says where to get it.")
    with path.open("rb") as stream:
        head = stream.read(64)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5(path)
    if head[8:10] == b'{"' and not head.startswith((b"PK", b"\x80")):
        return _read_safetensors(path)
    if head.lstrip().lower().startswith((b"<!doctype", b"<html")):
        raise UserError(
            f"{path} is a web page, not a checkpoint: the download was answered with a form or a notice. "
            "Open the link in a browser, save the file itself and put it in the same place."
        )
    content = _read_torch(path, mapped)
    tensors, top_level, extras = _select(content, weights_key, path)
    return RawCheckpoint(path, _strip(tensors, prefix, path), top_level, extras)


def _harmless_globals() -> list[Any]:
    """List the classes that published files are known to hold beside tensors, under old and new module paths."""
    numpy_scalar = np.float32(0).__reduce__()[0]
    dtypes = [type(np.dtype(name)) for name in ("float32", "float64", "int32", "int64", "bool")]
    return [
        argparse.Namespace,
        np.dtype,
        *dtypes,
        (numpy_scalar, "numpy.core.multiarray.scalar"),
        (numpy_scalar, "numpy._core.multiarray.scalar"),
    ]


def _read_torch(path: Path, mapped: bool) -> Any:
    try:
        with torch.serialization.safe_globals(_harmless_globals()):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped and zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        detail = str(error).splitlines()
        named = [line.strip() for line in detail if "GLOBAL" in line or "Unsupported" in line]
        what = named[0] if named else detail[0]
        raise UserError(
            f"{path} is not a file of tensors and plain values, so it was refused and nothing in it was executed "
            f"({what[:200]}). If you trust where it comes from, `harness weights convert {path} OUT.safetensors` reads "
            "it in a process without network and keeps its tensors."
        ) from error
    except _DAMAGED as error:
        if suffix_inside(path) is not None:
            raise UserError(
                f"{path} is an archive around a checkpoint. Unpack it, or give it to `harness weights add MODEL FILE` "
                "or weights=FILE, which do so."
            ) from error
        what = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise UserError(
            f"{path} ({path.stat().st_size} bytes) cannot be read as a checkpoint: {what}. "
            "It is probably cut off or not a torch file. Download it again and compare its size with the model card."
        ) from error


def _select(
    content: Any, weights_key: str | None, path: Path
) -> tuple[dict[str, Tensor], tuple[str, ...], dict[str, Any]]:
    if not isinstance(content, Mapping):
        raise UserError(f"{path} holds a {type(content).__name__}, not a dictionary of tensors. Check the file.")
    top_level = tuple(str(key) for key in content)
    weights = content if weights_key is None else content.get(weights_key)
    if not isinstance(weights, Mapping):
        raise UserError(
            f"{path} has no entry {weights_key!r} with the weights; its top level is {', '.join(top_level[:8])}. "
            "This is another layout than the model card describes: check that file and model belong together."
        )
    tensors = {str(name): value for name, value in weights.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} holds no tensors under {weights_key or 'its top level'}. Check the file.")
    extras = {
        str(key): value for key, value in content.items() if isinstance(value, str | int | float | bool | np.generic)
    }
    return tensors, top_level, extras


def _strip(tensors: dict[str, Tensor], prefix: str, path: Path) -> dict[str, Tensor]:
    without = [name for name in tensors if not name.startswith(prefix)]
    if without:
        raise UserError(
            f"{path}: {len(without)} of {len(tensors)} tensor names do not start with {prefix!r}, the first is "
            f"{without[0]!r}. The file was saved in another layout than the model card describes."
        )
    return {name.removeprefix(prefix): value for name, value in tensors.items()}


def _read_safetensors(path: Path) -> RawCheckpoint:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return RawCheckpoint(path, load_file(path))
    except SafetensorError as error:
        raise UserError(f"{path} is not a readable safetensors file: {error}. Download it again.") from error


def _read_hdf5(path: Path) -> RawCheckpoint:
    """Read every array of an HDF5 file under its full path, as a torch tensor."""
    import h5py

    tensors: dict[str, Tensor] = {}

    def collect(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.shape is not None and node.dtype.kind in "fiu":
            tensors[name] = torch.from_numpy(np.array(node))

    try:
        with h5py.File(path, "r") as file:
            file.visititems(collect)
            return RawCheckpoint(path, tensors, tuple(file))
    except OSError as error:
        raise UserError(f"{path} is not a readable HDF5 file: {error}. Download it again.") from error
