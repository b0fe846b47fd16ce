"""The files of a weight set on this machine: found and checked, fetched, or added by hand.

Where a file cannot be fetched, the error says which one to get from where and where to put it.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from harness.cards.model import ModelCard, Place, WeightFile
from harness.checkpoints.archive import ENDINGS, suffix_inside, unpack
from harness.checkpoints.fetch import alone, download
from harness.checkpoints.fetch_check import Expected, first_use, mismatch, note_first_use, note_path
from harness.checkpoints.fetch_http import Source, UnavailableError, looks_like_page
from harness.checkpoints.fetch_places import download_with_hub, google_drive, has_hub, huggingface, zenodo
from harness.errors import HarnessError, UserError, unknown_name
from harness.files import atomic_path, file_sha256
from harness.progress import say

__all__ = ["Standing", "add", "fetch", "locate", "spell", "standing", "weights_folder"]


def weights_folder(model: str) -> Path:
    """Return the folder in which the files of a weight set are kept: ``$HARNESS_WEIGHTS/<model>``.

    Without that variable it is ``voxharness/weights`` in the user's cache (``$XDG_CACHE_HOME`` or ``~/.cache``).
    """
    given = os.environ.get("HARNESS_WEIGHTS")
    if given:
        return Path(given) / model
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "voxharness" / "weights" / model


@dataclass(frozen=True)
class Standing:
    """One file of a card: where it lies here (None: nowhere), and in what it differs from the card or the note."""

    file: WeightFile
    path: Path | None
    fault: str | None = None

    @property
    def basis(self) -> str:
        """What the file was, or can be, compared with."""
        if self.file.sha256:
            return "agrees with the published hash"
        noted = first_use(self.path) if self.path else None
        return (
            f"agrees with the hash noted on {noted.date} ({noted.origin})"
            if noted
            else ("no hash is published and none was noted yet: it is noted at the first use")
        )


def standing(card: ModelCard, card_folder: Path, *, check: bool = True) -> list[Standing]:
    """Tell for every file of a card whether it is here and, with ``check`` (which reads it all), as expected."""
    rows = []
    for file in _files(card):
        path = _here(file, card, card_folder)
        rows.append(Standing(file, path, _fault(path, file) if path is not None and check else None))
    return rows


def locate(card: ModelCard, card_folder: Path, given: Path | None = None) -> Path:
    """Return the checkpoint file of a card.

    Parameters
    ----------
    card : ModelCard
        Its file names, places and hashes.
    card_folder : Path
        Where the card lies; a place ``beside_card`` is relative to it.
    given : Path, optional
        A file named by the user, taken as it is; the checkpoint in an archive is unpacked into the store.

    Returns
    -------
    Path
        An existing file; where an archive is published, the checkpoint inside it, unpacked. Unless the user named it,
        its size and hash agree with the card's; where no hash is published, with the one noted at its first use (which
        may be this one).

    Raises
    ------
    UserError
        The card has no published file, the file is not here, or it is another file than the card describes.
    """
    if given is not None:
        return _named(given, card)
    for file in _files(card):
        if (path := _here(file, card, card_folder)) is not None:
            return _verified(path, file, "found in place")
    raise UserError(f"The weights of {card.id} are not on this machine. {_by_hand(card, _files(card))}")


def fetch(card: ModelCard, card_folder: Path, name: str | None = None) -> Path:
    """Download a weight set from the first place that gives it; a file that is here is checked and returned.

    Parameters
    ----------
    card : ModelCard
        Its file names, places and hashes.
    card_folder : Path
        Where the card lies.
    name : str, optional
        Which of the card's files; by default the first that can be had (they are the same weights).

    Raises
    ------
    UserError
        There is no such file, the one here is another, or every place needs a person.
    HarnessError
        No place could be reached or gave the file.
    """
    files = _chosen(card, name)
    for file in files:
        if (path := _here(file, card, card_folder)) is not None:
            return _verified(path, file, "found in place")
    tried: list[str] = []
    for file in files:
        target = weights_folder(card.id) / file.name
        for place in file.places:
            try:
                if not _download(place, target, file):
                    continue
            except UnavailableError as error:
                tried.append(str(error))
                continue
            if place.note:
                say(f"{file.name}: {place.note}")
            return _verified(target, file, spell(place))
    if tried:
        raise HarnessError(f"{' '.join(tried)} {_by_hand(card, files)}")
    raise UserError(f"The weights of {card.id} cannot be fetched without a person. {_by_hand(card, files)}")


def add(card: ModelCard, source: Path, name: str | None = None, *, link: bool = False) -> Path:
    """Put a file that was downloaded by hand into the store, after checking it; copied, or linked to.

    An archive around the checkpoint, where the card publishes the bare file, is unpacked.

    Raises
    ------
    UserError
        The file is missing, a web page or another one than the card describes, or its place is taken.
    HarnessError
        The store cannot be written to.
    """
    _refuse_folder(source, f"harness weights add {card.id} ")
    if not source.is_file() or source.stat().st_size == 0:
        raise UserError(f"There is no file, or an empty one, at {source}. Check the path.")
    with source.open("rb") as stream:
        if looks_like_page(stream.read(64)):
            raise UserError(
                f"{source} is a web page, not weights. Open the link in a browser and save the file itself."
            )
    files = _chosen(card, name)
    file = next((file for file in files if file.name == source.name), files[0])
    wrong = mismatch(source, _expected(file))
    bare = bool(wrong or not file.sha256) and not file.name.endswith(".zip")
    packed = bare and suffix_inside(source) is not None
    if wrong and not packed:
        raise _another(source, file, card, wrong)
    target = weights_folder(card.id) / file.name
    if target.exists() or target.is_symlink():
        raise UserError(
            f"{target} is there already. `harness weights verify {card.id}` checks it; delete it to replace it."
        )
    note_path(target).unlink(missing_ok=True)  # of a file that was there before
    if packed:
        if link:
            raise UserError(f"{source} is an archive: its checkpoint is unpacked, not linked to. Leave out --link.")
        with atomic_path(target) as temporary:
            unpack(source, temporary)
            if wrong := mismatch(temporary, _expected(file)):
                raise _another(source, file, card, f"holds a checkpoint that {wrong}")
    elif link:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(source.resolve())
    else:
        with atomic_path(target) as temporary:
            shutil.copyfile(source, temporary)
    return _verified(target, file, f"added from {source.name}")


def _named(given: Path, card: ModelCard) -> Path:
    _refuse_folder(given, "weights=")
    if not given.is_file():
        raise UserError(f"There is no file at weights={given}. Check the path.")
    suffix = suffix_inside(given)
    if suffix is None:
        return given
    # into the store, under a name of its own: a user's folder may be read-only and hold files of the same name
    return _unpacked(given, weights_folder(card.id) / f"{given.stem}-{file_sha256(given)[:12]}{suffix}")


def _refuse_folder(given: Path, command: str) -> None:
    if not given.is_dir():
        return
    found = [path for depth in ("*", "*/*") for path in sorted(given.glob(depth)) if path.suffix in ENDINGS]
    held = f"It holds {', '.join(map(str, found[:4]))}." if found else "It holds no checkpoint."
    raise UserError(f"{given} is a folder, not a file of weights. {held} Name the file: {command}FILE.")


def _another(source: Path, file: WeightFile, card: ModelCard, wrong: str) -> UserError:
    return UserError(
        f"{source} is not {file.name} of {card.id}: it {wrong}. Download it again. {_by_hand(card, [file])}"
    )


def _files(card: ModelCard) -> tuple[WeightFile, ...]:
    if card.checkpoint is None:
        raise UserError(
            f"{card.id} has no published weights. Use init=scratch, or pretrain it with "
            f"`harness pretrain model={card.id}` and use the card that this writes."
        )
    return card.checkpoint.files


def _chosen(card: ModelCard, name: str | None) -> tuple[WeightFile, ...]:
    files = _files(card)
    if name is None:
        return files
    if name not in {file.name for file in files}:
        raise unknown_name(f"file of {card.id}", name, [file.name for file in files])
    return tuple(file for file in files if file.name == name)


def _here(file: WeightFile, card: ModelCard, card_folder: Path) -> Path | None:
    beside = [card_folder / place.where for place in file.places if place.kind == "beside_card"]
    return next((path for path in [*beside, weights_folder(card.id) / file.name] if path.is_file()), None)


def _expected(file: WeightFile) -> Expected:
    return Expected(file.bytes, file.sha256)


def _fault(path: Path, file: WeightFile) -> str | None:
    if (wrong := mismatch(path, _expected(file))) or file.sha256 is not None:
        return wrong
    noted = first_use(path)
    if noted is None or mismatch(path, Expected(noted.bytes, noted.sha256)) is None:
        return None
    return f"is not the file first used on {noted.date} ({noted.origin}), which hashed to {noted.sha256}"


def _verified(path: Path, file: WeightFile, origin: str) -> Path:
    if wrong := _fault(path, file):
        raise UserError(
            f"{path} {wrong}. It is cut off or another file: delete it and get it again, or name it with weights=FILE "
            "if you know what it is."
        )
    if file.sha256 is None and first_use(path) is None:
        note_first_use(path, origin)
    suffix = suffix_inside(path)
    return path if suffix is None else _unpacked(path, path.with_name(path.name.removesuffix(".zip") + suffix))


def _unpacked(path: Path, inside: Path) -> Path:
    """Return ``inside``, to which the checkpoint in an archive is unpacked once."""
    with alone(inside):
        noted = first_use(inside) if inside.is_file() else None
        if noted is None or mismatch(inside, Expected(noted.bytes, noted.sha256)) is not None:
            say(f"unpacking {path.name} to {inside.name}")
            unpack(path, inside)
            note_path(inside).unlink(missing_ok=True)
            note_first_use(inside, f"unpacked from {path.name}")
    return inside


def _download(place: Place, target: Path, file: WeightFile) -> bool:
    """Download from a place; False where it takes a person: a form, or a folder or archive on Google Drive."""
    source: Source
    if place.kind == "huggingface":
        path = place.path or file.name
        if has_hub():
            download_with_hub(place.where, path, place.revision, target, _expected(file))
            return True
        source = huggingface(place.where, path, place.revision)
    elif place.kind == "google_drive" and place.path is None:
        source = google_drive(place.where)
    elif place.kind == "zenodo":
        source = zenodo(place.where, place.path)
    elif place.kind == "url":
        source = Source(place.where)
    else:
        return False
    download(source, target, _expected(file))
    return True


def _by_hand(card: ModelCard, files: tuple[WeightFile, ...] | list[WeightFile]) -> str:
    lines = [
        f"{file.name} from {' or '.join(spell(place) for place in file.places) or 'its authors'}" for file in files
    ]
    return (
        f"Get {'; or '.join(lines)}, and put it into {weights_folder(card.id)} with `harness weights add {card.id} "
        "FILE`, or name it with weights=FILE."
    )


def spell(place: Place) -> str:
    """Return a place as a person would open it."""
    if place.kind == "huggingface":
        return (
            huggingface(place.where, place.path, place.revision).url
            if place.path
            else f"https://huggingface.co/{place.where}"
        )
    if place.kind == "google_drive":
        inside = f", in it {place.path}" if place.path else ""
        return f"https://drive.google.com/open?id={place.where}{inside}"
    if place.kind == "form":
        return f"{place.where} (a form to fill in)"
    return place.where
