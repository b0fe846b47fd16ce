"""Layouts that a file describes: the nnU-Net folder with its ``dataset.json``, and a list of cases as JSON or CSV."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

from pydantic import Field

from harness.cards.base import Fact, parse
from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.patterns import match_files
from harness.errors import UserError

__all__ = ["find_listed", "find_nnunet"]


class _NnUnet(Fact):
    """Options of the layout ``nnunet``."""

    images: str = "imagesTr"
    labels: str = "labelsTr"


class _Listed(Fact):
    """Options of the layout ``datalist``: a table of paths relative to the root."""

    file: str = "dataset.json"
    section: str = Field(default="training", description="key of the list in a JSON file")
    image: str = Field(default="image", description="column; a list in JSON, or one column a channel: image_{channel}")
    label: str = "label"
    id: str | None = Field(
        default=None, description="column of the case id; else the id is taken from the image's name"
    )
    case_pattern: str = Field(default=r"([^/]+?)(?:\.nii(?:\.gz)?|\.[^.]+)", description="its first group is the id")


def find_nnunet(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find cases in ``imagesTr/<case>_0000.nii.gz`` and ``labelsTr/<case>.nii.gz``.

    Raises
    ------
    UserError
        ``dataset.json`` cannot be read, or its channels or labels are not those of the card.
    """
    options = parse(_NnUnet, card.layout.options, f"the layout of {card.id}")
    content = _read_json(root / "dataset.json")
    _compare(card, content, root / "dataset.json")
    ending = str(content.get("file_ending", ".nii.gz"))
    endings = [f"_{number:04d}{ending}" for number in range(len(card.channels))]
    found = [match_files(root, f"{options.images}/{{case}}{tail}", r"[^/]+") for tail in endings]
    labels = match_files(root, f"{options.labels}/{{case}}{ending}", r"[^/]+")
    return {
        case: Case(
            id=case,
            images=tuple(
                files.get(case, root / options.images / f"{case}{tail}")
                for files, tail in zip(found, endings, strict=True)
            ),
            label=labels.get(case),
            remap=tuple(sorted(card.remap.items())),
        )
        for case in {case for files in (*found, labels) for case in files}
    }


def _compare(card: DatasetCard, content: dict[str, Any], where: Path) -> None:
    """Refuse a ``dataset.json`` (of version 1 or 2) that contradicts the card."""
    channels = content.get("channel_names") or content.get("modality")
    if isinstance(channels, dict) and len(channels) != len(card.channels):
        raise UserError(
            f"{where} has the channels {list(channels.values())}, the card of {card.id!r} {list(card.channels)}. "
            "Correct the card."
        )
    named = content.get("labels", {})
    turned = {value: name for name, value in named.items()} if "background" in named else named  # version 2 turns it
    values = {int(value) for value in turned if isinstance(value, int | str) and str(value).isdecimal()}
    stored = set(card.remap) or set(card.labels)
    if values and values != stored:
        raise UserError(
            f"{where} has the label values {sorted(values)}, the card of {card.id!r} {sorted(stored)}. "
            "Correct the card."
        )


def find_listed(card: DatasetCard, root: Path) -> dict[str, Case]:
    """Find the cases that a list names.

    Raises
    ------
    UserError
        The list cannot be read, lacks a column, or names a case twice.
    """
    options = parse(_Listed, card.layout.options, f"the layout of {card.id}")
    where = root / options.file
    rows = _read_csv(where) if where.suffix.lower() in (".csv", ".tsv") else _read_json(where).get(options.section)
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{where} has no list of cases under {options.section!r}. Name the right key in the layout.")
    found: dict[str, Case] = {}
    for number, row in enumerate(rows, start=1):
        images = _images(row, options, card, f"{where}, case {number}")
        case = _id(row, options, images[0], f"{where}, case {number}")
        if case in found:
            raise UserError(f"{where} names the case {case!r} twice. Give each case an id of its own.")
        label = row.get(options.label)
        found[case] = Case(
            id=case,
            images=tuple(root / image for image in images),
            label=root / label if label else None,
            remap=tuple(sorted(card.remap.items())),
        )
    return found


def _images(row: dict[str, Any], options: _Listed, card: DatasetCard, where: str) -> list[str]:
    columns = [options.image.replace("{channel}", name) for name in card.channels]
    missing = [column for column in columns if not row.get(column)]
    if missing:
        raise UserError(f"{where} has no column {missing[0]!r}; it has {sorted(row)}. Name the columns in the layout.")
    values = [row[column] for column in dict.fromkeys(columns)]
    return [str(image) for value in values for image in (value if isinstance(value, list) else [value])]


def _id(row: dict[str, Any], options: _Listed, image: str, where: str) -> str:
    if options.id is not None:
        if not row.get(options.id):
            raise UserError(f"{where} has no column {options.id!r} with the id; it has {sorted(row)}.")
        return str(row[options.id])
    match = re.fullmatch(options.case_pattern, Path(image).name)
    if match is None:
        raise UserError(f"{where}: no id can be taken from {image!r} with the pattern {options.case_pattern!r}.")
    return match[1]


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. The layout needs it.") from error
    if not isinstance(content, dict):
        raise UserError(f"{path} holds {type(content).__name__} at its top; the layout needs an object with keys.")
    return content


def _read_csv(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as stream:
            return list(csv.DictReader(stream, delimiter="\t" if path.suffix.lower() == ".tsv" else ","))
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {error}. The layout needs it.") from error
