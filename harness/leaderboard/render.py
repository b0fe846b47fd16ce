"""Templates: one environment with escaping on, undefined names an error, and the few functions a page may call."""

from __future__ import annotations

import functools
import secrets
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import jinja2
from markupsafe import Markup

from harness import __version__
from harness.leaderboard.cells import decimals
from harness.leaderboard.ledger import printed
from harness.leaderboard.metricpage import examples
from harness.leaderboard.summary import metric_name
from harness.leaderboard.text import clean, escaped, harmless, number, safe_url, signed
from harness.leaderboard.words import EVIDENCE, Word, protocol_field, word

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
        parts.append(f"  <div><dt>{_fact_name(name)}</dt><dd>{shown}</dd></div>\n")
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


_fact_name = functools.lru_cache(maxsize=256)(escaped)  # the same few on every page


def _number_rows(rows: Iterable[Sequence[str]]) -> Markup:
    """Write the rows of a table of numbers; the first of each row is its name."""
    held = list(rows)
    if not harmless([text for row in held for text in row], 80):
        held = [(escaped(name, 80), *map(escaped, values)) for name, *values in held]
    parts = []
    for name, *values in held:
        cells = '<td class="num">' + '</td><td class="num">'.join(values) + "</td>" if values else ""
        parts.append(f'<tr><th scope="row"><bdi>{name}</bdi></th>{cells}</tr>')
    return Markup("".join(parts))  # noqa: S704 - every text above is `harmless` or went through `escaped`


def _check_rows(checks: Iterable[Mapping[str, str]]) -> Markup:
    """Write the findings of a run as entries of a list."""
    parts = [
        f'<li class="tone-{escaped(check["tone"])}">{_symbol(check["shape"])}<span><span class="sr">'
        f"{escaped(check['said'])}: </span><bdi>{escaped(check['text'], 400)}</bdi></span></li>"
        for check in checks
    ]
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


def _reason_rows(reasons: Iterable[tuple[str, str]]) -> Markup:
    """Write fields that are not known, and why, as parts of a definition list."""
    parts = [
        f"<div><dt><code>{escaped(field, 80)}</code></dt><dd><bdi>{escaped(why, 400)}</bdi></dd></div>"
        for field, why in reasons
    ]
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


def _file_rows(files: Iterable[tuple[str, str]]) -> Markup:
    """Write files to download as entries of a list: name and size."""
    parts = [
        f'<li><a href="{escaped(name)}" download>{_symbol("file")}{escaped(name)}</a> <small>{escaped(size)}</small>'
        "</li>"
        for name, size in files
    ]
    return Markup("".join(parts))  # noqa: S704 - every text above went through `escaped`


@functools.cache
def _symbol(shape: str) -> str:
    return str(_macros("").symbol(shape))


@functools.cache
def _environment(*, framed: bool) -> jinja2.Environment:
    """Return the environment in which `base.html` is the frame of every page, or nothing but the blocks of a page."""
    files = jinja2.FileSystemLoader(_HERE / "templates")
    environment = jinja2.Environment(
        loader=files if framed else jinja2.ChoiceLoader([jinja2.DictLoader({"base.html": _BARE}), files]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
    )
    environment.filters["t"] = clean
    environment.filters["field"] = protocol_field
    environment.globals.update(
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
        check_rows=_check_rows,
        reason_rows=_reason_rows,
        file_rows=_file_rows,
        evidence_title=evidence_title,
        evidence_words=_evidence_words,
    )
    return environment


def render(template: str, *, depth: int, section: str, counts: dict[str, str], csp: str = CSP, **context: Any) -> str:
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
    csp : str
        What the page may load, for its Content-Security-Policy.
    **context
        What the template shows.
    """
    root = "../" * depth
    before, between, scripts, after = _frame(root, section, counts["records"], counts["claims"], csp)
    text = (
        _environment(framed=False)
        .get_template(template)
        .render(root=root, m=_macros(root), section=section, counts=counts, **context)
    )
    title, own, main = text.split(_PART)
    return f"{before}{title}{between}{own}{scripts}{main}{after}\n"


# Between the blocks of a page that is filled without its frame. Drawn anew in every process and in no page, so that
# nothing a record says can be mistaken for it.
_PART: Final = secrets.token_hex(16)
_BARE: Final = _PART.join(f"{{% block {name} %}}{{% endblock %}}" for name in ("title", "scripts", "main"))


@functools.lru_cache(maxsize=64)
def _frame(root: str, section: str, records: str, claims: str, csp: str) -> list[str]:
    """Return what `base.html` writes around title, scripts and main: the same for thousands of pages, filled once."""
    blocks = "".join(f"{{% block {name} %}}{_PART}{{% endblock %}}" for name in ("title", "scripts", "main"))
    page = _environment(framed=True).from_string(f'{{% extends "base.html" %}}{blocks}')
    counts = {"records": records, "claims": claims}
    return page.render(root=root, m=_macros(root), section=section, counts=counts, csp=csp).split(_PART)


@functools.cache
def _macros(root: str) -> Any:
    """Return the small pieces for pages at one depth; importing them in every page would build them for every page."""
    module = _environment(framed=True).get_template("macros.html").make_module({"root": root})
    for name in ("symbol", "chip"):  # one argument that says it all, and few that differ
        setattr(module, name, functools.lru_cache(maxsize=256)(getattr(module, name)))
    return module
