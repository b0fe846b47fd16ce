"""Where the files of each case lie. A layout is a reader with options that a data set card names.

No content is read here. Every layout answers one question: which cases are there, with which image files and which
label. A missing channel or label is not an error here; `harness.data.check` lists them all with the rest. Hidden files
(``.DS_Store``, the ``._`` doubles of macOS archives) and ``__MACOSX`` folders are never cases.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.cards.base import Fact, parse
from harness.cards.dataset import DatasetCard
from harness.errors import UserError, unknown_name

__all__ = ["Case", "find_cases"]


@dataclass(frozen=True)
class Case:
    """The files of one case.

    Attributes
    ----------
    id : str
        As in the splits.
    images : tuple of Path
        One per channel in the order of the card, or one file whose last axis holds the channels. A channel that is
        not there is listed all the same, at the place where it should be.
    label : Path or None
        The label map; None where there is none.
    """

    id: str
    images: tuple[Path, ...]
    label: Path | None


class _Images(Fact):
    """Options of the layout ``unlabelled``: where images lie, relative to the root."""

    image: str = Field(default="images/{case}.nii.gz", description="path with {case}, and {channel} and * where wanted")
    case_pattern: str = Field(default=r"[^/]+", description="regular expression of a whole case id")
    channel_names: tuple[str, ...] = Field(default=(), description="what stands for {channel}; else the card's names")
    exclude: tuple[str, ...] = Field(default=(), description="ids on disk that are no cases of this set")


class _Pairs(_Images):
    """Options of the layout ``pairs``: images and one label map a case."""

    label: str = "labels/{case}.nii.gz"


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
        raise UserError(
            f"No case of {card.id!r} was found below {root}. Expected {_expected(card)}; found there: "
            f"{there or 'nothing'}. Give the folder that the archive unpacks to."
        )
    return dict(sorted(cases.items()))


def _pairs(card: DatasetCard, root: Path) -> dict[str, Case]:
    options = parse(_Pairs, card.layout.options, f"the layout of {card.id}")
    return _collect(card, root, options, _matches(root, options.label, options.case_pattern))


def _unlabelled(card: DatasetCard, root: Path) -> dict[str, Case]:
    return _collect(card, root, parse(_Images, card.layout.options, f"the layout of {card.id}"), {})


def _collect(card: DatasetCard, root: Path, options: _Images, labels: Mapping[str, Path]) -> dict[str, Case]:
    """Put images and labels together; a case that has only one of them is a case all the same."""
    names = options.channel_names or card.channels
    # Without {channel} there is one file a case, and it holds all channels on its last axis.
    patterns = list(dict.fromkeys(options.image.replace("{channel}", name) for name in names))
    found = [_matches(root, pattern, options.case_pattern) for pattern in patterns]
    ids = {case for matches in (*found, labels) for case in matches} - set(options.exclude)
    return {
        case: Case(
            id=case,
            images=tuple(
                matches.get(case, root / pattern.replace("{case}", case))
                for matches, pattern in zip(found, patterns, strict=True)
            ),
            label=labels.get(case),
        )
        for case in ids
    }


_LAYOUTS: Mapping[str, Callable[[DatasetCard, Path], dict[str, Case]]] = {"pairs": _pairs, "unlabelled": _unlabelled}


def _matches(root: Path, pattern: str, case_pattern: str) -> dict[str, Path]:
    """Return the file of each case below ``root`` that matches a pattern; UserError where a case has two."""
    expression = re.compile(_regular_expression(pattern, case_pattern))
    found: dict[str, Path] = {}
    for path in sorted(root.glob(re.sub(r"\{case\}", "*", pattern))):
        inside = path.relative_to(root)
        if any(part.startswith(".") or part == "__MACOSX" for part in inside.parts):
            continue
        match = expression.fullmatch(inside.as_posix())
        if match is None:
            continue
        case = match["case"]
        if case in found:
            raise UserError(
                f"Case {case!r} has two files: {found[case]} and {path}. Which one counts? Move the other away."
            )
        found[case] = path
    return found


def _regular_expression(pattern: str, case_pattern: str) -> str:
    """Turn a path pattern into a regular expression whose group ``case`` repeats with the same id."""
    parts, seen = [], False
    for piece in re.split(r"(\{case\}|\*)", pattern):
        if piece == "{case}":
            parts.append("(?P=case)" if seen else f"(?P<case>{case_pattern})")
            seen = True
        else:
            parts.append("[^/]*" if piece == "*" else re.escape(piece))
    if not seen:
        raise UserError(f"The path pattern {pattern!r} of a layout has no {{case}} in it.")
    return "".join(parts)


def _expected(card: DatasetCard) -> str:
    options: Mapping[str, Any] = card.layout.options
    return " and ".join(str(options[key]) for key in ("image", "label") if options.get(key)) or card.layout.kind
