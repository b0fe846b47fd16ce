"""Finding the file of a weight set on this machine, and saying exactly where to get it when it is not here."""

from __future__ import annotations

import os
from pathlib import Path

from harness.cards.model import ModelCard, Place, WeightFile
from harness.errors import UserError
from harness.files import file_sha256

__all__ = ["locate", "weights_folder"]


def weights_folder(model: str) -> Path:
    """Return the folder in which the files of a weight set are kept: ``$HARNESS_WEIGHTS/<model>``.

    Without that variable it is ``voxharness/weights`` in the user's cache (``$XDG_CACHE_HOME`` or ``~/.cache``).
    """
    given = os.environ.get("HARNESS_WEIGHTS")
    if given:
        return Path(given) / model
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "voxharness" / "weights" / model


def locate(card: ModelCard, card_folder: Path, given: Path | None = None) -> Path:
    """Return the checkpoint file of a card.

    Parameters
    ----------
    card : ModelCard
        Its file names, places and hashes.
    card_folder : Path
        Where the card lies; a place ``beside_card`` is relative to it.
    given : Path, optional
        A file named by the user, taken as it is.

    Returns
    -------
    Path
        An existing file. Its size and hash agree with the card's, where the card states them and the file was not
        named by the user.

    Raises
    ------
    UserError
        The card has no published file, the file is not here, or it is another file than the card describes.
    """
    if given is not None:
        if not given.is_file():
            raise UserError(f"There is no file at weights={given}. Check the path.")
        return given
    if card.checkpoint is None:
        raise UserError(
            f"{card.id} has no published weights. Use init=scratch, or pretrain it with "
            f"`harness pretrain model={card.id}` and use the card that this writes."
        )
    for file in card.checkpoint.files:
        for path in _candidates(file, card, card_folder):
            if path.is_file():
                return _verified(path, file)
    raise UserError(_how_to_get(card))


def _candidates(file: WeightFile, card: ModelCard, card_folder: Path) -> list[Path]:
    beside = [card_folder / place.where for place in file.places if place.kind == "beside_card"]
    return [*beside, weights_folder(card.id) / file.name]


def _verified(path: Path, file: WeightFile) -> Path:
    size = path.stat().st_size
    if file.bytes is not None and size != file.bytes:
        raise UserError(
            f"{path} has {size} bytes, the card of this file says {file.bytes}. It is cut off or another file: "
            "download it again, or name it with weights=FILE if you know what it is."
        )
    if file.sha256 is not None and (found := file_sha256(path)) != file.sha256:
        raise UserError(
            f"{path} hashes to {found}, the card says {file.sha256}. It is not the published file: download it "
            "again, or name it with weights=FILE if you know what it is."
        )
    return path


def _how_to_get(card: ModelCard) -> str:
    assert card.checkpoint is not None
    lines = [
        f"{file.name} from {' or '.join(_spell(place) for place in file.places) or 'its authors'}"
        for file in card.checkpoint.files
    ]
    return (
        f"The weights of {card.id} are not on this machine. Get {'; or '.join(lines)}, and put it into "
        f"{weights_folder(card.id)}, or name it with weights=FILE."
    )


def _spell(place: Place) -> str:
    if place.kind == "huggingface":
        revision = f" at revision {place.revision}" if place.revision else ""
        return f"https://huggingface.co/{place.where}{revision}"
    if place.kind == "google_drive":
        return f"Google Drive ({place.where})"
    return place.where
