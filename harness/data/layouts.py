"""Where the files of each case lie. A layout is a reader with options that a data set card names.

No content is read here. Every layout answers one question: which cases are there, with which image files and which
label. A missing channel or label is not an error here; `harness.data.check` lists them all with the rest. Hidden files
(``.DS_Store``, the ``._`` doubles of macOS archives) and ``__MACOSX`` folders are never cases.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.datalists import find_listed, find_nnunet
from harness.data.patterns import expected, find_pairs, find_structures, find_unlabelled
from harness.data.roots import data_root, marked
from harness.errors import UserError, unknown_name

__all__ = ["Case", "find_cases", "locate_set"]

_LAYOUTS: Mapping[str, Callable[[DatasetCard, Path], dict[str, Case]]] = {
    "pairs": find_pairs,
    "unlabelled": find_unlabelled,
    "structures": find_structures,
    "nnunet": find_nnunet,
    "datalist": find_listed,
}


def locate_set(card: DatasetCard, card_folder: Path, given: Path | None = None) -> tuple[DatasetCard, dict[str, Case]]:
    """Find a data set on this machine: its card, marked where the volumes are made up, and every case.

    Parameters
    ----------
    card, card_folder
        The data set, and where its card lies.
    given : Path, optional
        Where the volumes lie, if it was said for this command; see `harness.data.roots.data_root`.

    Raises
    ------
    UserError
        As `harness.data.roots.data_root` and `find_cases`.
    """
    root = data_root(card, card_folder, given)
    return marked(card, root), find_cases(card, root)


def find_cases(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find every case of a data set below its root folder.

    Parameters
    ----------
    card : DatasetCard
        Names the layout and its options.
    root : Path
        Where the data set lies, from `harness.data.roots.data_root`.

    Returns
    -------
    dict of str to Case
        By id, sorted.

    Raises
    ------
    UserError
        The layout or an option is unknown, the root is no folder, or no case was found there.
    """
    if card.layout.kind not in _LAYOUTS:
        raise unknown_name("layout", card.layout.kind, _LAYOUTS, f"The card {card.id!r} names it.")
    if not root.is_dir():
        raise UserError(f"There is no folder {root} with the data set {card.id!r}. {card.terms.how_to_get}")
    cases = _LAYOUTS[card.layout.kind](card, root)
    if not cases:
        there = ", ".join(sorted(path.name for path in root.iterdir() if not path.name.startswith("."))[:8])
        wanted = " or ".join(expected(card.layout.options)) or f"files in the layout {card.layout.kind!r}"
        raise UserError(
            f"No case of {card.id!r} was found below {root}. Expected {wanted}; found there: {there or 'nothing'}. "
            "Give the folder that the archive unpacks to."
        )
    return dict(sorted(cases.items()))
