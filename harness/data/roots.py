"""Where a data set lies on this machine: given now, in the environment, remembered for the user, or beside its card."""

from __future__ import annotations

import json
import os
from pathlib import Path

from harness.cards.dataset import DatasetCard
from harness.errors import UserError
from harness.files import write_json

__all__ = ["SYNTHETIC_MARK", "cache_folder", "data_root", "environment_name", "marked", "remember", "remembered"]

SYNTHETIC_MARK = "harness-synthetic.json"  # a folder with this file, and all below it, holds made-up data


def data_root(card: DatasetCard, card_folder: Path, given: Path | None = None) -> Path:
    """Return the folder of a data set.

    Parameters
    ----------
    card : DatasetCard
        The data set.
    card_folder : Path
        The folder the card lies in; a bundled data set lies there too.
    given : Path, optional
        What the user said for this command; it goes before ``$HARNESS_DATA_<ID>``, which goes before what `remember`
        stored, which goes before the bundled volumes.

    Raises
    ------
    UserError
        None of them is set, or the one that counts is no folder. A wrong path is never skipped for the next one.
    """
    variable = environment_name(card.id)
    for path, said in (
        (given, "data_root="),
        (Path(os.environ[variable]) if os.environ.get(variable) else None, f"${variable}"),
        (remembered().get(card.id), f"the file {_user_file()}"),
        (card_folder if card.bundled else None, "the data set card"),
    ):
        if path is None:
            continue
        if not path.expanduser().is_dir():
            raise UserError(
                f"The data set {card.id!r} should lie in {path}, says {said}, but there is no such folder. "
                f"Correct it, or get the data first: {card.terms.how_to_get}"
            )
        return path.expanduser().resolve()
    raise UserError(
        f"Nobody said where the data set {card.id!r} lies. How to get it: {card.terms.how_to_get} Then run "
        f"`harness data add {card.id} PATH`, set {variable}=PATH, or give data_root=PATH."
    )


def marked(card: DatasetCard, root: Path) -> DatasetCard:
    """Return the card, with the mark ``synthetic_data`` where the folder holds made-up volumes in its layout.

    The mark follows every result, so that a try on synthetic volumes never passes for one on the real data set.
    """
    made_up = any((folder / SYNTHETIC_MARK).is_file() for folder in (root, *root.parents))
    if not made_up or "synthetic_data" in card.evidence:
        return card
    return card.model_copy(update={"evidence": (*card.evidence, "synthetic_data")})


def cache_folder(given: Path | None = None) -> Path:
    """Return where prepared volumes are kept: as given, ``$HARNESS_CACHE``, or the user's cache."""
    if given is not None:
        return given
    if os.environ.get("HARNESS_CACHE"):
        return Path(os.environ["HARNESS_CACHE"])
    home = os.environ.get("XDG_CACHE_HOME")
    return (Path(home) if home else Path.home() / ".cache") / "voxharness" / "prepared"


def environment_name(dataset: str) -> str:
    """Return the environment variable that says where a data set lies.

    >>> environment_name("btcv")
    'HARNESS_DATA_BTCV'
    """
    return f"HARNESS_DATA_{dataset.upper()}"


def remember(dataset: str, path: Path) -> Path:
    """Store for this user where a data set lies; returns the file that remembers it.

    Raises
    ------
    UserError
        ``path`` is no folder.
    HarnessError
        The user's file cannot be written.
    """
    if not path.expanduser().is_dir():
        raise UserError(f"{path} is no folder, so no data set can lie there. Give the folder its archive unpacks to.")
    known = {name: str(where) for name, where in remembered().items()}
    write_json(_user_file(), {**known, dataset: str(path.expanduser().resolve())})
    return _user_file()


def remembered() -> dict[str, Path]:
    """Return every data set that `remember` stored for this user; UserError where the file is damaged."""
    file = _user_file()
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        return {str(name): Path(path) for name, path in content.items()}
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError, AttributeError, TypeError) as error:
        raise UserError(
            f"{file}, which remembers where data sets lie, cannot be read: {error}. Mend or delete it."
        ) from error


def _user_file() -> Path:
    home = os.environ.get("XDG_CONFIG_HOME")
    return (Path(home) if home else Path.home() / ".config") / "harness" / "data_roots.json"
