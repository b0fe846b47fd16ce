"""The result of a check as one HTML file: the table, the findings, and three slices of every case with its labels.

It opens from a folder without a network: pictures and styles are inside.
"""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from harness.cards.dataset import DatasetCard
from harness.data.case import Case
from harness.data.check import CheckReport
from harness.data.reading import Volume, read
from harness.data.reference import read_reference
from harness.errors import HarnessError
from harness.files import write_text
from harness.grid import GridSpec
from harness.progress import track

__all__ = ["draw", "thumbnail", "write_page"]

_SIDE = 160  # pixels of the longer side of a slice
_SAMPLE = 200_000  # so many values settle what is black and what is white
_COLOURS = ((86, 180, 233), (230, 159, 0), (0, 158, 115), (240, 228, 66), (204, 121, 167), (213, 94, 0), (0, 114, 178))
_STYLE = """body{font:14px/1.5 sans-serif;margin:2rem auto;max-width:76rem;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid #d0d7de;padding:.4rem .6rem;text-align:left;
vertical-align:top}img{background:#000;image-rendering:pixelated}.error{color:#a40e26}.warning{color:#7a4f00}
code{overflow-wrap:anywhere}"""


def write_page(
    path: Path,
    card: DatasetCard,
    cases: Mapping[str, Case],
    report: CheckReport,
    pictures: Mapping[str, bytes] | None = None,
) -> None:
    """Write the page, whole or not at all; HarnessError where it cannot be written.

    Parameters
    ----------
    path : Path
        The HTML file.
    card : DatasetCard
        What was checked.
    cases : mapping of str to Case
        Every case. One that cannot be read has no picture.
    report : CheckReport
        What was found.
    pictures : mapping of str to bytes, optional
        What `draw` made of cases while they were checked; the files of all others are read here.
    """
    known = pictures or {}
    rows = [_row(cases[case], report, known.get(case)) for case in track(sorted(cases), f"pictures of {card.id}")]
    findings = "".join(f'<li class="{one.level}">{one.level}: {html.escape(str(one))}</li>' for one in report.findings)
    verdict = f"{len(report.errors)} errors, {len(report.findings) - len(report.errors)} warnings"
    fingerprint = report.fingerprint() if report.facts else "none: no case could be read"
    title = f"{html.escape(card.title)}: {len(report.facts)} of {len(cases)} cases could be read"
    write_text(
        path,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title><style>{_STYLE}</style>'
        f"<h1>{title}</h1><p>{verdict}. Fingerprint <code>{fingerprint}</code></p>"
        f"<ul>{findings or '<li>Nothing is wrong.</li>'}</ul>"
        "<table><thead><tr><th>Case<th>Axial, coronal and sagittal slice with label outlines<th>Voxels<th>Spacing, mm"
        f"<th>Axes<th>Values<th>Voxels per label</thead><tbody>{''.join(rows)}</tbody></table></html>\n",
    )


def _row(case: Case, report: CheckReport, picture: bytes | None) -> str:
    facts = report.facts.get(case.id)
    if facts is None:
        return f'<tr><td>{html.escape(case.id)}<td colspan="6" class="error">cannot be read; see above</tr>'
    try:
        encoded = base64.b64encode(picture or thumbnail(case)).decode()
        shown = f'<img alt="three slices of {html.escape(case.id)}" src="data:image/png;base64,{encoded}">'
    except HarnessError as error:
        shown = html.escape(str(error))
    cells = (
        html.escape(case.id),
        shown,
        " x ".join(map(str, facts.shape)),
        " x ".join(f"{step:.3g}" for step in facts.spacing),
        facts.axcodes,
        "; ".join(f"{low:g} to {high:g}" for low, high in facts.ranges),
        ", ".join(f"{value}: {count}" for value, count in facts.label_histogram.items() if value) or "none",
    )
    return "<tr>" + "".join(f"<td>{cell}" for cell in cells) + "</tr>"


def thumbnail(case: Case) -> bytes:
    """Read a case and `draw` it; UserError where a file cannot be read."""
    return draw(read(case.images[0]), read_reference(case).labels if case.label is not None else None)


def draw(volume: Volume, labels: NDArray[Any] | None) -> bytes:
    """Draw three slices of a case side by side: axial, coronal, sagittal.

    The slices go through the middle of the labels, or of the scan without labels. Patient right is on the left side of
    the axial and coronal slice, front is on top of the axial one and on the left of the sagittal one, head is up.

    Parameters
    ----------
    volume : Volume
        The scan; of several channels the first is drawn.
    labels : ndarray of int, shape (a, b, c), or None
        Their outlines are drawn in colour. Labels of another shape, which the check reports, are left out.

    Returns
    -------
    bytes
        A PNG file.
    """
    image = volume.data if volume.data.ndim == 3 else volume.data[..., 0]
    if labels is None or labels.shape != image.shape:
        labels = np.zeros(image.shape, np.uint8)
    spec = GridSpec.plan(volume.grid, axcodes="LPI")  # rows and columns of a picture then run right, down, and so on
    scan, marks = (_turned(array, spec) for array in (image, labels))
    drawn = _places(labels)  # of each stored axis
    middle = []
    for axis, flip in zip(spec.permutation, spec.flips, strict=True):
        n, at = image.shape[axis], drawn[axis]
        middle.append(n // 2 if at is None else int(n - 1 - at if flip else at))
    low, high = _window(image)
    spacing = spec.target.spacing
    parts = []
    for axis in (2, 1, 0):
        rest = [other for other in range(3) if other != axis]
        plane, outlined = (np.take(array, middle[axis], axis=axis).T for array in (scan, marks))
        parts.append(_slice(_grey(plane, low, high), outlined, (spacing[rest[1]], spacing[rest[0]])))
    return _png(parts)


def _turned(array: NDArray[Any], spec: GridSpec) -> NDArray[Any]:
    """View a stored volume with the axes of the target of ``spec``; only the three planes drawn are ever copied."""
    return array.transpose(spec.permutation)[tuple(slice(None, None, -1 if flip else 1) for flip in spec.flips)]


def _places(labels: NDArray[Any]) -> list[float | None]:
    """Return the median index of the labelled voxels along each stored axis; None without any."""
    at = np.nonzero(labels.T)[::-1]  # files are stored with the first axis fastest
    return [float(np.median(one)) if one.size else None for one in at]


def _window(image: NDArray[Any]) -> tuple[float, float]:
    """Return the 1st and 99.5th percentile of some finite values, evenly spread over the volume."""
    some = image.ravel(order="K")[:: image.size // _SAMPLE | 1]  # odd, so that not one column of every row is met
    finite = some[np.isfinite(some)]
    low, high = np.percentile(finite, (1, 99.5)) if finite.size else (0.0, 1.0)
    return float(low), float(high)


def _grey(plane: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Map the window to black and white."""
    values = np.nan_to_num(plane.astype(np.float32), nan=low, posinf=high, neginf=low)
    return np.asarray(((values - low) / max(high - low, 1e-6)).clip(0, 1) * 255, dtype=np.uint8)


def _slice(grey: NDArray[np.uint8], marks: NDArray[Any], spacing: tuple[float, float]) -> NDArray[np.uint8]:
    """Scale one slice to square pixels and draw the outlines of its labels."""
    size = [n * step for n, step in zip(grey.shape, spacing, strict=True)]
    rows, columns = (max(1, round(length / max(size) * _SIDE)) for length in size)
    place = np.ix_(
        (np.arange(rows) + 0.5) * grey.shape[0] // rows, (np.arange(columns) + 0.5) * grey.shape[1] // columns
    )
    picture = np.repeat(grey[_whole(place)][..., None], 3, axis=2)
    marked = marks[_whole(place)]
    inner = marked.copy()
    for axis in (0, 1):
        for step in (1, -1):
            inner[np.roll(marked, step, axis=axis) != marked] = 0
    outline = (marked != 0) & (inner == 0)
    picture[outline] = np.array(_COLOURS, np.uint8)[(marked[outline].astype(np.int64) - 1) % len(_COLOURS)]
    return picture


def _whole(place: tuple[NDArray[Any], ...]) -> tuple[NDArray[np.intp], ...]:
    return tuple(part.astype(np.intp) for part in place)


def _png(parts: list[NDArray[np.uint8]]) -> bytes:
    from PIL import Image

    gap = 4
    canvas = np.zeros((max(part.shape[0] for part in parts), sum(part.shape[1] + gap for part in parts), 3), np.uint8)
    left = 0
    for part in parts:
        canvas[: part.shape[0], left : left + part.shape[1]] = part
        left += part.shape[1] + gap
    stream = io.BytesIO()
    Image.fromarray(canvas).save(stream, format="PNG")
    return stream.getvalue()
