"""A published archive with one checkpoint in it: unpacked without believing what it says of itself."""

from __future__ import annotations

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath

from harness.errors import HarnessError, UserError
from harness.files import atomic_path

__all__ = ["ENDINGS", "suffix_inside", "unpack"]

ENDINGS = (".pt", ".pth", ".safetensors", ".h5", ".model")
"""How the names of checkpoint files end."""

_LARGEST_RATIO = 100
"""Weights hardly compress; what grows a hundredfold is not weights."""

_DAMAGED = (zipfile.BadZipFile, NotImplementedError, EOFError, UnicodeDecodeError)
"""What zipfile raises over changed bytes, in names as well as in lengths."""


def suffix_inside(path: Path) -> str | None:
    """Return how the name of the checkpoint in an archive ends; None where the file is no archive around one.

    A torch file is itself a zip archive, but holds no checkpoint file.
    """
    try:
        found = _member(path) if zipfile.is_zipfile(path) else None
    except _DAMAGED:
        return None
    return PurePosixPath(found.filename).suffix if found else None


def unpack(archive: Path, target: Path) -> None:
    """Write the one checkpoint inside an archive to ``target``, whole or not at all.

    Only its bytes are used: names, folders, links and permissions in the archive mean nothing.

    Raises
    ------
    UserError
        The archive is damaged, holds no checkpoint or several, or the one it holds is encrypted, a link, or grows
        more than a hundredfold.
    HarnessError
        The disk is full or the folder cannot be written to.
    """
    try:
        found = _member(archive)
        if found is None:
            raise UserError(
                f"{archive} holds no file called {', '.join('*' + one for one in ENDINGS)}. Unpack it by hand."
            )
        _refuse_odd(archive, found)
        with (
            zipfile.ZipFile(archive) as opened,
            opened.open(found) as source,
            atomic_path(target) as temporary,
            temporary.open("wb") as sink,
        ):
            shutil.copyfileobj(source, sink, 1 << 20)  # the checksum is compared at the end of the member
    except _DAMAGED as error:
        raise UserError(f"{archive} cannot be unpacked: {error}. Delete it and fetch it again.") from error
    except OSError as error:
        raise HarnessError(
            f"Could not unpack {archive} to {target}: {error.strerror or error}. Nothing was left half-written."
        ) from error


def _member(archive: Path) -> zipfile.ZipInfo | None:
    with zipfile.ZipFile(archive) as opened:
        inside = [one for one in opened.infolist() if not one.is_dir() and not one.filename.startswith("__MACOSX/")]
    found = [one for one in inside if PurePosixPath(one.filename).suffix in ENDINGS]
    if len(found) > 1:
        names = ", ".join(one.filename for one in found[:4])
        raise UserError(
            f"{archive} holds {len(found)} checkpoints ({names}). Unpack it and name one with weights=FILE."
        )
    return found[0] if found else None


def _refuse_odd(archive: Path, found: zipfile.ZipInfo) -> None:
    if found.flag_bits & 1:
        raise UserError(f"{found.filename} in {archive} is encrypted. Unpack it by hand.")
    if stat.S_ISLNK(found.external_attr >> 16):
        raise UserError(f"{found.filename} in {archive} is a link, not a file, and was not followed.")
    if found.file_size > _LARGEST_RATIO * max(found.compress_size, 1):
        raise UserError(
            f"{found.filename} in {archive} claims {found.file_size:,} bytes in {found.compress_size:,}, more than "
            "weights can shrink. Nothing was unpacked."
        )
