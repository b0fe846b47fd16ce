"""Layouts that are patterns of paths: ``pairs``, ``unlabelled`` and ``structures``.

A pattern is a path below the root in which ``{case}`` stands for the id, ``{channel}`` for a channel, and ``*`` for
anything within one name. Known repacks of a data set are ``variants`` of the official pattern; the first under which
images and labels are found counts, or else the first with images.
"""

from __future__ import annotations

import glob
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from harness.cards.base import Fact, parse
from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.errors import UserError

__all__ = ["find_pairs", "find_structures", "find_unlabelled", "is_hidden", "match_files"]

OptionsT = TypeVar("OptionsT", bound="_Images")


class _Images(Fact):
    """Options of the layout ``unlabelled``."""

    image: str = "images/{case}.nii.gz"
    case_pattern: str = Field(default=r"[^/]+", description="regular expression of a whole case id")
    channel_names: tuple[str, ...] = Field(default=(), description="what stands for {channel}; else the card's names")
    exclude: tuple[str, ...] = Field(default=(), description="ids on disk that are no cases of this set")
    variants: tuple[dict[str, Any], ...] = Field(default=(), description="other options under which repacks are found")


class _Pairs(_Images):
    """Options of the layout ``pairs``: images and one label map a case."""

    label: str = "labels/{case}.nii.gz"


class _Structures(_Images):
    """Options of the layout ``structures``: one mask a structure; the order of the entries is the order of painting."""

    structures: dict[str, str] = Field(description="label name to the pattern of its mask")


def find_pairs(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find images and label maps."""
    unlabelled: dict[str, Case] = {}
    for options in _ways(_Pairs, card):
        cases = _collect(card, root, options, match_files(root, options.label, options.case_pattern))
        if any(case.label for case in cases.values()):
            return cases
        unlabelled = unlabelled or cases
    return unlabelled


def find_unlabelled(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find images."""
    for options in _ways(_Images, card):
        if cases := _collect(card, root, options, {}):
            return cases
    return {}


def find_structures(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find images and the masks of their structures."""
    value_of = {name: value for value, name in card.labels.items()}
    for options in _ways(_Structures, card):
        found = {}
        masks: dict[str, Path] = {}  # a case whose scan is missing is still a case
        for pattern in options.structures.values():
            masks |= match_files(root, pattern, options.case_pattern)
        for case, files in _collect(card, root, options, masks).items():
            paths = {name: root / pattern.replace("{case}", case) for name, pattern in options.structures.items()}
            drawn = [path for path in paths.values() if path.exists()]
            found[case] = Case(
                id=case,
                images=files.images,
                label=drawn[0].parent if drawn else None,
                structures=tuple((value_of[name], path) for name, path in paths.items()) if drawn else (),
            )
        if found:
            return found
    return {}


def _ways(kind: type[OptionsT], card: DatasetCard) -> list[OptionsT]:
    """Return the options of the card, then those of each variant, which differ from them only in what they name."""
    where = f"the layout of {card.id}"
    main = parse(kind, card.layout.options, where)
    own = {key: value for key, value in card.layout.options.items() if key != "variants"}
    return [main, *(parse(kind, {**own, **variant}, where) for variant in main.variants)]


def _collect(card: DatasetCard, root: Path, options: _Images, labels: Mapping[str, Path]) -> dict[str, Case]:
    """Put images and labels together; a case that has only one of them is a case all the same."""
    names = options.channel_names or card.channels
    # Without {channel} there is one file a case, and it holds all channels on its last axis.
    patterns = list(dict.fromkeys(options.image.replace("{channel}", name) for name in names))
    found = [match_files(root, pattern, options.case_pattern) for pattern in patterns]
    if not any(found):
        return {}
    ids = {case for matches in (*found, labels) for case in matches} - set(options.exclude)
    return {
        case: Case(
            id=case,
            images=tuple(
                matches.get(case, root / pattern.replace("{case}", case))
                for matches, pattern in zip(found, patterns, strict=True)
            ),
            label=labels.get(case),
            remap=tuple(sorted(card.remap.items())),
        )
        for case in ids
    }


def match_files(root: Path, pattern: str, case_pattern: str) -> dict[str, Path]:
    """Return the file of each case below ``root`` that matches a pattern; UserError where a case has two."""
    expression = re.compile(_regular_expression(pattern, case_pattern))
    found: dict[str, Path] = {}
    for path in sorted(root.glob(_glob(pattern))):
        match = expression.fullmatch(path.relative_to(root).as_posix())
        if match is None or is_hidden(path.relative_to(root)):
            continue
        case = match["case"]
        if case in found:
            raise UserError(
                f"Case {case!r} has two files: {found[case]} and {path}. Which one counts? Move the other away."
            )
        found[case] = path
    return found


def _glob(pattern: str) -> str:
    """Turn a path pattern into one for `Path.glob`, in which brackets and question marks mean themselves."""
    pieces = re.split(r"(\{case\}|\*)", pattern)
    return "".join("*" if piece in ("{case}", "*") else glob.escape(piece) for piece in pieces)


def is_hidden(inside: Path) -> bool:
    """Tell whether a path below the root is hidden, or a leaving of macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in inside.parts)


def _regular_expression(pattern: str, case_pattern: str) -> str:
    """Turn a path pattern into a regular expression whose group ``case`` repeats with the same id."""
    parts: list[str] = []
    seen = False
    for piece in re.split(r"(\{case\}|\*)", pattern):
        if piece == "{case}":
            parts.append("(?P=case)" if seen else f"(?P<case>{case_pattern})")
            seen = True
        else:
            parts.append("[^/]*" if piece == "*" else re.escape(piece))
    if not seen:
        raise UserError(f"The path pattern {pattern!r} of a layout has no {{case}} in it.")
    return "".join(parts)


def expected(options: Mapping[str, Any]) -> Sequence[str]:
    """Return the image patterns of a layout's options and its variants, for a message."""
    ways = [options, *options.get("variants", ())]
    return list(dict.fromkeys(str(way["image"]) for way in ways if "image" in way))
