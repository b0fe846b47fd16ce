"""From a place as a card names it to an address: Hugging Face, Google Drive, Zenodo.

Tokens and mirrors come from the variables that the hosts' own tools read: ``HF_TOKEN``, ``HF_ENDPOINT``.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import shutil
from pathlib import Path
from urllib.parse import quote

from harness.checkpoints.fetch import alone
from harness.checkpoints.fetch_check import Expected, mismatch
from harness.checkpoints.fetch_http import Source, UnavailableError

__all__ = ["download_with_hub", "google_drive", "has_hub", "huggingface", "zenodo"]


def huggingface(repository: str, path: str, revision: str | None = None) -> Source:
    """Return the address of a file in a Hugging Face repository; ``revision`` None means its main branch."""
    host = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    url = f"{host.rstrip('/')}/{quote(repository)}/resolve/{quote(revision or 'main', safe='')}/{quote(path)}"
    return Source(url, token=_token())


def google_drive(identifier: str) -> Source:
    """Return the address of one file (not a folder) on Google Drive, which asks to confirm files it cannot scan."""
    url = f"https://drive.usercontent.google.com/download?id={quote(identifier, safe='')}&export=download"
    return Source(url, confirm=True)


def zenodo(where: str, path: str | None) -> Source:
    """Return the address of a file of a Zenodo record, given the record's number or the whole address."""
    if where.startswith(("http://", "https://")) or path is None:
        return Source(where)
    return Source(f"https://zenodo.org/records/{quote(where, safe='')}/files/{quote(path)}?download=1")


def has_hub() -> bool:
    """Tell whether ``huggingface_hub`` is installed (the extra ``[hub]``)."""
    return importlib.util.find_spec("huggingface_hub") is not None


def download_with_hub(repository: str, path: str, revision: str | None, target: Path, expected: Expected) -> bool:
    """Download from Hugging Face with its own library, which knows its faster transfers; as `download` otherwise."""
    hub = importlib.import_module("huggingface_hub")
    with alone(target):
        if target.exists():
            return False
        folder = target.with_name(f".{target.name}.hub")  # stays after a cut: the library goes on from it
        try:
            got = Path(hub.hf_hub_download(repository, path, revision=revision, local_dir=folder, token=_token()))
        except Exception as error:
            # the library raises its own classes and those of whichever HTTP client it is built on
            reason = " ".join(str(error).split())[:300]
            raise UnavailableError(f"Hugging Face does not give {path} of {repository}: {reason}.") from error
        try:
            if wrong := mismatch(got, expected):
                raise UnavailableError(f"{repository} gave another file than expected: it {wrong}. It was deleted.")
            got.replace(target)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return True


def _token() -> str | None:
    return os.environ.get("HF_TOKEN") or os.environ.get("HUGGING_FACE_HUB_TOKEN") or None
