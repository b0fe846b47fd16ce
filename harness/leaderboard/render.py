"""Templates: one environment with escaping on, undefined names an error, and the few functions a page may call."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any, Final

import jinja2

from harness import __version__
from harness.leaderboard.ledger import printed
from harness.leaderboard.metricpage import examples
from harness.leaderboard.text import clean, number, safe_url, signed
from harness.leaderboard.words import EVIDENCE, Word, word

__all__ = ["CSP", "NAVIGATION", "STATIC", "evidence_title", "render"]

_HERE = Path(__file__).parent
STATIC: Final = _HERE / "static"

# Nothing but our own files: no inline script or style, no frames, no forms, no network.
CSP: Final = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'"
)

NAVIGATION: Final = (
    ("front", "Claims", "index.html"),
    ("runs", "Runs", "runs.html"),
    ("models", "Models", "models/index.html"),
    ("datasets", "Data sets", "datasets/index.html"),
    ("metrics", "Metrics", "metrics.html"),
    ("method", "Method", "method.html"),
)


def evidence_title(evidence: list[str]) -> str:
    """Name the marks of a result in a few words, demo weights first.

    >>> evidence_title(["bundled_sample", "self_pretrained"])
    'demo weights, bundled sample'
    """
    known = [
        key for key in ("self_pretrained", "stand_in_weights", "synthetic_data", "bundled_sample") if key in evidence
    ]
    return ", ".join(word(EVIDENCE, key).label for key in [*known, *(key for key in evidence if key not in known)])


def _evidence_words(evidence: list[str]) -> list[Word]:
    return [word(EVIDENCE, key) for key in evidence]


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
        signed=signed,
        printed=printed,
        examples=examples,
        safe_url=safe_url,
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
    return page.render(root="../" * depth, section=section, counts=counts, **context) + "\n"
