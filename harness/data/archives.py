"""Downloaded archives by their hashes: the official one, one that is damaged, and one that must not be used."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from harness.cards.dataset import DatasetCard
from harness.data.finding import Finding
from harness.errors import UserError
from harness.files import file_sha256

__all__ = ["against_archives", "refuse_archive"]


def against_archives(card: DatasetCard, root: Path) -> Iterator[Finding]:
    """Hash the archives that lie in the folder of a data set or beside it, under the names on its card.

    Yields
    ------
    Finding
        An error for an archive that the card forbids, a warning for one that is none of those it names.
    """
    known = {archive.sha256: archive for archive in card.archives}
    for name in sorted({archive.name for archive in card.archives}):
        for path in (root / name, root.parent / name):
            if not path.is_file():
                continue
            digest = file_sha256(path)
            if digest not in known:
                expected = " or ".join(archive.sha256 for archive in card.archives if archive.name == name)
                mend = "It is damaged or another release; download it again and unpack it anew."
                yield Finding(None, "warning", f"sha256 of {path}", expected, digest, mend)
            elif not known[digest].usable:
                mend = f"Delete it and what was unpacked from it. {card.terms.how_to_get}"
                yield Finding(None, "error", f"archive {path}", "one that may be used", _why(card, digest), mend)


def refuse_archive(card: DatasetCard, path: Path) -> None:
    """Say which archive a file is, since data are read from folders; UserError always."""
    digest = file_sha256(path)
    named = {archive.sha256: archive for archive in card.archives}.get(digest)
    if named is not None and not named.usable:
        raise UserError(
            f"{path} (sha256 {digest}) must not be used as {card.id!r}: {_why(card, digest)} {card.terms.how_to_get}"
        )
    what = f"is {named.name}, as it should be" if named else f"is none of the archives that the card names ({digest})"
    if not card.archives:
        what = f"is a file (sha256 {digest})"
    raise UserError(f"{path} {what}. Data sets are read from folders: unpack it, then give the folder.")


def _why(card: DatasetCard, digest: str) -> str:
    note = next(archive.note for archive in card.archives if archive.sha256 == digest)
    return note or "The card does not say why."
