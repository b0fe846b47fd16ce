"""Templates: one environment with escaping on, undefined names an error, and the few functions a page may call."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from harness import __version__
from harness.leaderboard.cells import decimals
from harness.leaderboard.ledger import printed
from harness.leaderboard.metricpage import examples
from harness.leaderboard.summary import metric_name
from harness.leaderboard.text import clean, escaped, number, safe_url, signed
from harness.leaderboard.words import EVIDENCE, Word, word

__all__ = ["CSP", "NAVIGATION", "STATIC", "VIEWER_CSP", "evidence_title", "render"]

_HERE = Path(__file__).parent
STATIC: Final = _HERE / "static"

# Nothing but our own files: no inline script or style, no frames, no forms, no network.
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
)
# The viewer draws letters and shades from pictures that are part of its script.
VIEWER_CSP: Final = CSP.replace("img-src 'self'", "img-src 'self' data: blob:")

NAVIGATION: Final = (
    ("front", "Claims", "index.html"),
    ("runs", "Runs", "runs.html"),
    ("models", "Models", "models/index.html"),
    ("datasets", "Data sets", "datasets/index.html"),
    ("metrics", "Metrics", "metrics.html"),
    ("plots", "Plots", "plots.html"),
    ("method", "Method", "method.html"),
)


def evidence_title(evidence: list[str]) -> str:
    """Name the marks of a result in a few words, those of the weights first.

    >>> evidence_title(["bundled_sample", "self_pretrained"])
    'self-pretrained weights, bundled sample'
    """
    known = [
        key for key in ("self_pretrained", "stand_in_weights", "synthetic_data", "bundled_sample") if key in evidence
    ]
    return ", ".join(word(EVIDENCE, key).label for key in [*known, *(key for key in evidence if key not in known)])


def _evidence_words(evidence: list[str]) -> list[Word]:
    return [word(EVIDENCE, key) for key in evidence]


def _fact_rows(rows: Iterable[tuple[str, Any]]) -> Markup:
    """Write (name, value) pairs as parts of a definition list: every page has dozens, and a template takes its time."""
    parts = []
    for name, value in rows:
        if isinstance(value, dict):
            shown = f'<code title="{escaped(value["code"], 100)}">{escaped(value["code"])}</code>'
        else:
            shown = f"<bdi>{escaped(value)}</bdi>"
        parts.append(f"  <div><dt>{escaped(name)}</dt><dd>{shown}</dd></div>\n")
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


def _number_rows(rows: Iterable[Sequence[str]]) -> Markup:
    """Write the rows of a table of numbers; the first of each row is its name."""
    parts = []
    for name, *values in rows:
        cells = "".join([f'<td class="num">{escaped(value)}</td>' for value in values])
        parts.append(f'<tr><th scope="row"><bdi>{escaped(name, 80)}</bdi></th>{cells}</tr>')
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(_HERE / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["t"] = clean
    environment.globals.update(
        csp=CSP,
        version=__version__,
        navigation=NAVIGATION,
        number=number,
        decimals=decimals,
        metric_name=metric_name,
        signed=signed,
        printed=printed,
        examples=examples,
        safe_url=safe_url,
        fact_rows=_fact_rows,
        number_rows=_number_rows,
        evidence_title=evidence_title,
        evidence_words=_evidence_words,
    )
    return environment


def render(template: str, *, depth: int, section: str, counts: dict[str, str], **context: Any) -> str:
    """Fill a template.

    Parameters
    ----------
    template : str
        File name in ``templates/``.
    depth : int
        How many folders below the root of the board the page lies; links are relative, so that the board can be moved.
    section : str
        Which entry of the navigation the page belongs to.
    counts : dict of str to str
        ``records`` and ``claims`` in words, for the foot of the page.
    **context
        What the template shows.
    """
    page = _environment().get_template(template)
    root = "../" * depth
    return page.render(root=root, m=_macros(root), section=section, counts=counts, **context) + "\n"


@functools.cache
def _macros(root: str) -> Any:
    """Return the small pieces for pages at one depth; importing them in every page would build them for every page."""
    return _environment().get_template("macros.html").make_module({"root": root})
