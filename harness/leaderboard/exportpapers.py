"""Tables for papers, with intervals, as LaTeX and Markdown; and BibTeX of what the exported rows rest on."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.cards.library import all_dataset_cards, all_model_cards
from harness.leaderboard.exportrows import Row
from harness.leaderboard.pages import Held
from harness.leaderboard.render import evidence_title
from harness.leaderboard.text import clean, number, safe_url, signed
from harness.leaderboard.words import GAINS, VERDICTS, word
from harness.records.protocol import family

__all__ = ["bibtex", "latex", "markdown"]

_LATEX: Final = str.maketrans(
    {
        "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{",
        "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\N{MINUS SIGN}": "$-$",
        "\N{EM DASH}": "---", "\n": " ",
    }
)  # fmt: skip
_MARKDOWN: Final = re.compile(r"([\\`*_{}\[\]<>|#])")


def latex(what: str, rows: Sequence[Row]) -> str:
    r"""Return a ``tabular`` for the ``booktabs`` package; a number that stands for nothing real is marked by \dag."""
    heads, body, notes = _table(what, rows)
    lines = [rf"\begin{{tabular}}{{{'l' * 2}{'r' * (len(heads) - 3)}l}}", r"\toprule"]
    lines.append(" & ".join(head.translate(_LATEX) for head in heads) + r" \\")
    lines.append(r"\midrule")
    for cells, marked in body:
        texts = [clean(cell, 200).translate(_LATEX) for cell in cells]
        lines.append(" & ".join([texts[0] + (r"$^\dag$" if marked else ""), *texts[1:]]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    lines += [f"% {note}" for note in notes]
    return "\n".join(lines) + "\n"


def markdown(what: str, rows: Sequence[Row]) -> str:
    """Return a table in the Markdown of GitHub and GitLab."""
    heads, body, notes = _table(what, rows)
    lines = [f"| {' | '.join(heads)} |", f"|{'---|' * 2}{'---:|' * (len(heads) - 3)}---|"]
    for cells, marked in body:
        texts = [_MARKDOWN.sub(r"\\\1", clean(cell, 200).replace("\n", " ")) for cell in cells]
        lines.append(f"| {' | '.join([texts[0] + (' †' if marked else ''), *texts[1:]])} |")
    return "\n".join([*lines, "", *notes]) + "\n"


def _table(what: str, rows: Sequence[Row]) -> tuple[list[str], list[tuple[list[str], bool]], list[str]]:
    """Return the heads, the rows of text with whether each carries a mark, and the notes below."""
    notes = ["Intervals: 95 %. Made by harness leaderboard export."]
    marks = sorted({mark for row in rows for mark in str(row.get("evidence") or "").split()})
    if marks:
        notes.append(f"† {evidence_title(marks)}: not a reproduction of any published claim.")
    make = {"claims": _claim, "runs": _run, "cells": _cell}[what]
    heads = {
        "claims": ["Model", "Data set", "Reported", "Reproduced", "Difference", "Verdict"],
        "runs": ["Model", "Data set", "Seed", "Score", "Metric and start"],
        "cells": ["Model", "Data set", "Pretrained", "From scratch", "Gain", "Verdict"],
    }[what]
    return heads, [(make(row), bool(row.get("evidence"))) for row in rows], notes


def _claim(row: Row) -> list[str]:
    percent = row["unit"] == "percent"
    digits, factor = (2, 100.0) if percent else (4, 1.0)
    unit = {"percent": " %", "fraction": ""}.get(row["unit"], f" {row['unit']}")
    reproduced, difference = (None if row[key] is None else factor * row[key] for key in ("reproduced", "difference"))
    return [
        f"{row['model']} ({row['init']})",
        row["dataset"],
        f"{row['reported']!r}{unit}",
        number(reproduced, digits) + (unit if reproduced is not None else ""),
        signed(difference, digits) + _interval(row, digits, factor),
        word(VERDICTS, row["verdict"]).label,
    ]


def _run(row: Row) -> list[str]:
    interval = "" if row["low"] is None else f" [{number(row['low'])}, {number(row['high'])}]"
    score = number(row["value"]) + interval
    return [row["model"], row["dataset"], str(row["seed"]), score, f"{row['metric'] or row['status']}, {row['init']}"]


def _cell(row: Row) -> list[str]:
    return [
        row["model"],
        row["dataset"],
        number(row["pretrained"]),
        number(row["scratch"]),
        signed(row["gain"]) + _interval(row, 3, 1.0),
        word(GAINS, row["state"]).label,
    ]


def _interval(row: Row, digits: int, factor: float) -> str:
    if row["low"] is None or row["high"] is None:
        return ""
    return f" [{signed(factor * row['low'], digits)}, {signed(factor * row['high'], digits)}]"


def bibtex(held: Held, rows: Sequence[Row], what: str, cards: Sequence[Path] = ()) -> str:
    """Return an entry for every model and data set of the rows that has a card with a citation.

    The text of the citation is the card's own; only identifiers that stand in it become fields of their own.
    """
    families = {family(row["model"]) if what == "claims" else row["model"].split(".")[0] for row in rows}
    called = {line.claim.id: line.claim.card for line in held.ledger}  # papers call data sets as they like
    datasets = {called.get(row.get("id", ""), row["dataset"]) for row in rows}
    cited: dict[str, tuple[str, str]] = {}
    for model in all_model_cards(cards):
        if model.family in families:
            cited.setdefault(" ".join(model.citation.split()), (model.family, model.source))
    for dataset in all_dataset_cards(cards):
        if dataset.id in datasets and dataset.citation:
            cited.setdefault(" ".join(dataset.citation.split()), (dataset.id, ""))
    keys: dict[str, int] = {}
    entries = []
    for text, (name, source) in cited.items():
        keys[name] = keys.get(name, 0) + 1
        entries.append(_entry(name if keys[name] == 1 else f"{name}-{keys[name]}", text, source))
    return "\n".join(entries)


def _entry(key: str, text: str, source: str) -> str:
    fields = [("note", clean(text).translate(_LATEX))]
    doi = re.search(r"doi:(10\.\d{4,9}/[A-Za-z0-9._;()/:-]*[A-Za-z0-9])", text)
    arxiv = re.search(r"arXiv:(\d{4}\.\d{4,5})", text)
    years = re.findall(r"\b(19\d\d|20\d\d)\b", re.sub(r"arXiv:\S+|doi:\S+", "", text))
    if doi:
        fields.append(("doi", doi.group(1)))
    if arxiv:
        fields += [("eprint", arxiv.group(1)), ("archiveprefix", "arXiv")]
    if years:
        fields.append(("year", years[-1]))
    url = safe_url(source)
    if url:
        fields.append(("url", url))
    body = ",\n".join(f"  {name} = {{{value}}}" for name, value in fields)
    return f"@misc{{{re.sub(r'[^A-Za-z0-9_.-]', '-', key)},\n{body}\n}}\n"
