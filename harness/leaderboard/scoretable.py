"""The scores of a run, case by case: the table's rows are written here, since a page may have thousands of cells."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from markupsafe import Markup

from harness.leaderboard import plots
from harness.leaderboard.reading import RunData
from harness.leaderboard.summary import metric_name, unit_text
from harness.leaderboard.text import escaped, number
from harness.records.schema import Metric

__all__ = ["ScoreTable", "score_table"]

_ALL_CASES: Final = 40  # a page shows the scores of so many cases; of more it shows the worst few
_WORST_CASES: Final = 12  # the case file has them all, and a page loads only what it shows
_LEVELS: Final = 4


@dataclass(frozen=True)
class ScoreTable:
    """One metric as a table of cases and classes.

    Attributes
    ----------
    body, foot : Markup
        Rows of the table, escaped.
    shown, total : int
        Cases on the page and in the case file.
    """

    id: str
    name: str
    unit: str
    higher_is_better: bool
    averaging: str
    classes: list[str]
    body: Markup
    foot: Markup
    shown: int
    total: int
    plot: Markup | None


def score_table(data: RunData, metric: Metric, ident: str, *, drawn: bool = True) -> ScoreTable:
    """Lay one metric out as cases by classes; where not all cases are shown, those that scored worst.

    The plot of all cases is left out where it is not ``drawn``.
    """
    table = data.tables.get(metric.id, {})
    classes = data.classes
    digits = {"fraction": 3, "squared_intensity": 4, "intensity": 4}.get(metric.unit, 2)
    means_of_cases = data.means.get(metric.id, {})
    shown = list(table)
    if len(shown) > _ALL_CASES:
        sign = 1 if metric.higher_is_better else -1
        ranks = {case: -math.inf if mean is None else sign * mean for case, mean in means_of_cases.items()}
        shown = sorted(shown, key=ranks.__getitem__)[:_WORST_CASES]
    share = metric.unit == "fraction"
    body = [
        f'<tr><th scope="row"><bdi>{escaped(case, 60)}</bdi></th>'
        + "".join(
            [
                _cell(value, digits, share=share) if value is not None else _empty(data, case, name, metric.id)
                for name, value in zip(classes, table[case], strict=True)
            ]
        )
        + f"<td>{number(means_of_cases[case], digits)}</td></tr>"
        for case in shown
    ]
    per_class = {name: metric.per_class[name] for name in classes if name in metric.per_class}
    means = [number(per_class[name].value if name in per_class else None, digits) for name in classes]
    foot = "".join(f"<td>{mean}</td>" for mean in [*means, number(metric.value, digits)])
    name = metric_name(metric.id)
    return ScoreTable(
        id=metric.id,
        name=name,
        unit=metric.unit,
        higher_is_better=metric.higher_is_better,
        averaging=metric.averaging,
        classes=classes,
        # Ids are escaped above; everything else in the rows is a number or one of our own words.
        body=Markup("\n".join(body)),  # noqa: S704
        foot=Markup(foot),  # noqa: S704
        shown=len(body),
        total=len(table),
        plot=_strips(data, metric, ident) if drawn else None,
    )


def _strips(data: RunData, metric: Metric, ident: str) -> Markup | None:
    columns = zip(*data.tables.get(metric.id, {}).values(), strict=True)
    rows = [
        plots.Strip(name, [value for value in values if value is not None], metric.per_class[name].value)
        for name, values in zip(data.classes, columns, strict=False)
        if name in metric.per_class
    ]
    axis = f"{metric_name(metric.id)}{unit_text(metric)}"
    return plots.strips(rows, axis, ident, share=metric.unit == "fraction")


def _cell(value: float, digits: int, *, share: bool) -> str:
    """Return one cell: the score, shaded by its size where it is a share."""
    level = min(_LEVELS, int(value * (_LEVELS + 1))) if share else 0
    return f'<td class="l{level}">{number(value, digits)}</td>' if level > 0 else f"<td>{number(value, digits)}</td>"


def _empty(data: RunData, case: str, class_name: str, metric_id: str) -> str:
    """Return a cell with the reason why there is no score."""
    reason = data.reasons.get((case, class_name, metric_id), "no row")
    return f'<td><span class="empty">{escaped(reason.replace("_", " "))}</span></td>'
