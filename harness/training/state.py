"""Resumable checkpoints: whole or not at all, with a checksum, and the previous one kept.

A file is one line with the SHA-256 of the rest, then a torch zip archive of tensors and plain values.
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch

from harness.errors import HarnessError
from harness.files import atomic_path
from harness.progress import say

__all__ = ["load_latest", "read_state", "save_state"]

_CURRENT, _PREVIOUS = "state.pt", "state.previous.pt"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write the checkpoint of a run; the one before becomes the previous one.

    Raises
    ------
    HarnessError
        The disk is full or the folder cannot be written to. The checkpoints there stay as they were.
    """
    current = folder / _CURRENT
    with atomic_path(folder / f"next-{_CURRENT}") as temporary:
        write_state(temporary, state)
    if current.exists():
        current.replace(folder / _PREVIOUS)
    # a kill between the two renames leaves the new file under its first name, which load_latest also looks at
    (folder / f"next-{_CURRENT}").replace(current)


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Write one state file with its checksum."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    payload = buffer.getbuffer()
    with path.open("wb") as stream:
        stream.write(hashlib.sha256(payload).hexdigest().encode() + b"\n")
        stream.write(payload)


def read_state(path: Path) -> dict[str, Any]:
    """Read one state file.

    Raises
    ------
    HarnessError
        The file is cut off or changed: its checksum does not agree.
    """
    content = path.read_bytes()
    checksum, _, payload = content.partition(b"\n")
    if hashlib.sha256(payload).hexdigest().encode() != checksum:
        raise HarnessError(
            f"{path} is damaged: {len(content)} bytes do not agree with the checksum in its first line. "
            "It was probably cut off. Remove it to start from the checkpoint before it."
        )
    state: dict[str, Any] = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    return state


def load_latest(folder: Path) -> dict[str, Any] | None:
    """Read the newest whole checkpoint of a run, or None where there is none.

    A damaged one is named, and the one before it is used instead.
    """
    for name in (f"next-{_CURRENT}", _CURRENT, _PREVIOUS):
        path = folder / name
        if not path.is_file():
            continue
        try:
            return read_state(path)
        except HarnessError as error:
            say(f"{error} Going on from an older one.")
    return None
