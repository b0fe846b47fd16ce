"""NiiVue, the viewer that a board may carry: one pinned package of the npm registry, fetched once, checked, and cached.

It is asked for through npm, which knows the registry and the proxy of the machine, or directly where there is no npm.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from typing import Final

from harness.checkpoints.fetch import download
from harness.checkpoints.fetch_check import Expected
from harness.checkpoints.fetch_http import Source
from harness.errors import HarnessError
from harness.progress import say

__all__ = ["FOLDER", "LIBRARY", "VERSION", "fetch", "package_path", "put_library"]

VERSION: Final = "0.69.0"
FOLDER: Final = "static/niivue"  # where it lies on a board
LIBRARY: Final = f"{FOLDER}/niivue.umd.js"
_PACKAGE: Final = "@niivue/niivue"
_BYTES: Final = 6809390
_SHA512: Final = "YMjQvJgD1W2b7DuoxkwlC4VxbrgIePRJ5qyQzXKxi2v2MBVg285P/CIQyg46oDDGDIcaNlbd+MhtO/edMbXJkA=="  # npm's own
_SECONDS: Final = 120
# What of the package a board needs: the library, and the list of its authors and of the libraries built into it.
_PARTS: Final = {"package/dist/niivue.umd.js": "niivue.umd.js", "package/package.json": "package.json"}
_LICENCE: Final = Path(__file__).with_name("niivue_licence.txt")  # the package names its licence without its text


def package_path() -> Path:
    """Return where the package is kept: ``voxharness/viewer`` in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "voxharness" / "viewer" / f"niivue-{VERSION}.tgz"


def fetch() -> Path:
    """Return the checked package, fetched where it is not in the cache.

    Raises
    ------
    HarnessError
        It cannot be fetched, or what came (or lies in the cache) is not the pinned package.
    """
    path = package_path()
    if not path.is_file():
        say(f"fetching {_PACKAGE} {VERSION} ({_BYTES:,} bytes) into {path.parent}")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            _through_npm(path) if shutil.which("npm") else _directly(path)
        except OSError as error:
            raise HarnessError(f"Cannot write to {path.parent}: {error.strerror or error}.") from error
    found = base64.b64encode(hashlib.sha512(path.read_bytes()).digest()).decode()
    if found != _SHA512:
        path.unlink()
        raise HarnessError(
            f"{path} was not {_PACKAGE} {VERSION}: its SHA-512 is {found[:16]}…, the published one {_SHA512[:16]}…. "
            "It was deleted; the same command fetches it again."
        )
    return path


def put_library(package: Path, board: Path) -> None:
    """Lay the library with its licence into ``static/niivue`` of a board.

    Raises
    ------
    HarnessError
        The package lacks a part.
    """
    home = board / FOLDER
    home.mkdir(parents=True, exist_ok=True)
    with tarfile.open(package, "r:gz") as archive:
        for inside, name in _PARTS.items():
            try:
                part = archive.extractfile(inside)
            except KeyError:
                part = None
            if part is None:
                raise HarnessError(f"{package} has no {inside}.")
            (home / name).write_bytes(part.read())
    shutil.copyfile(_LICENCE, home / "LICENSE.txt")


def _through_npm(path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        command = ["npm", "pack", "--silent", "--ignore-scripts", "--pack-destination", folder, f"{_PACKAGE}@{VERSION}"]
        try:
            done = subprocess.run(  # noqa: S603 - every word is ours
                command, cwd=folder, capture_output=True, encoding="utf-8", timeout=_SECONDS, check=False
            )
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"npm did not give {_PACKAGE} {VERSION} within {_SECONDS} seconds.") from error
        got = list(Path(folder).glob("*.tgz"))
        if done.returncode or not got:
            said = " ".join(done.stderr.split())[-200:] or f"exit {done.returncode}"
            raise HarnessError(f"npm does not give {_PACKAGE} {VERSION}: {said}.")
        got[0].replace(path)


def _directly(path: Path) -> None:
    given = os.environ.get("npm_config_registry")  # noqa: SIM112 - npm spells it so
    registry = given or "https://registry.npmjs.org"
    url = f"{registry.rstrip('/')}/{_PACKAGE}/-/niivue-{VERSION}.tgz"
    download(Source(url), path, Expected(bytes=_BYTES))
