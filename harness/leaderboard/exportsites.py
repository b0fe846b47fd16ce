"""Exports for other sites: results for a model's card on a hub, and a small JSON per model for a catalogue."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import yaml

from harness.errors import UserError
from harness.leaderboard.exportrows import Row
from harness.leaderboard.ledgerjson import catalogue_json
from harness.leaderboard.pages import Held
from harness.leaderboard.summary import RunSummary, metric_name
from harness.leaderboard.text import slug, utc_day

__all__ = ["catalogue_files", "hub_files"]


def hub_files(held: Held, rows: Sequence[Row], url: str) -> dict[str, str]:
    """Return, per weight set, a ``model-index`` for a model card and a list of evaluation results.

    Only what speaks for published weights: complete runs that count, from pretrained or released weights, without any
    mark. A result of stand-in or demo weights has no place on a model's card.

    Raises
    ------
    UserError
        No run is left.
    """
    wanted = {row["run_id"] for row in rows}
    chosen = [run for run in held.published.runs if run.run_id in wanted and run.counts]
    fit = [run for run in chosen if not run.evidence and run.init in ("pretrained", "released")]
    if not fit:
        raise UserError(
            f"None of {len(chosen)} complete runs may stand on a model's card: it takes runs from published weights, "
            "without any mark (stand-in or demo weights, synthetic data, bundled sample)."
        )
    by_model: dict[str, list[RunSummary]] = defaultdict(list)
    for run in fit:
        by_model[run.model].append(run)
    files = {}
    for model, runs in sorted(by_model.items()):
        index = {"model-index": [{"name": model, "results": [_result(run, url) for run in runs]}]}
        files[f"{slug(model)}.model-index.yaml"] = _yaml(index)
        files[f"{slug(model)}.eval-results.yaml"] = _yaml([_evaluation(run, url) for run in runs])
    return files


def _result(run: RunSummary, url: str) -> dict[str, Any]:
    assert run.metric is not None  # runs that count have one
    found: dict[str, Any] = {
        "task": {"type": "image-segmentation", "name": "3D medical image segmentation"},
        "dataset": {"type": run.dataset, "name": run.dataset, "split": _split(run)},
        "metrics": [
            {
                "type": run.metric.id,
                "name": metric_name(run.metric.id),
                "value": run.metric.value,
                "args": {"cases": run.metric.n_cases, "ci95": list(run.metric.ci95) if run.metric.ci95 else None},
                "verified": False,  # that word is the hub's own, for runs that it repeated
            }
        ],
    }
    return found | ({"source": {"name": f"harness record {run.run_id}", "url": _page(run, url)}} if url else {})


def _evaluation(run: RunSummary, url: str) -> dict[str, Any]:
    assert run.metric is not None
    found: dict[str, Any] = {
        "dataset": {"id": run.dataset, "task_id": f"{run.protocol}/{_split(run)}"},
        "value": run.metric.value,
        "date": utc_day(run.created),
        "notes": f"{run.metric.id} over {run.metric.n_cases} cases, seed {run.seed}, record {run.run_id}",
    }
    return found | ({"source": {"url": _page(run, url), "name": "harness record"}} if url else {})


def _split(run: RunSummary) -> str:
    return run.split if run.fold is None else f"{run.split}, fold {run.fold}"


def _page(run: RunSummary, url: str) -> str:
    return f"{url.rstrip('/')}/{run.href}"


def _yaml(content: Any) -> str:
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=1000)


def catalogue_files(held: Held, url: str) -> dict[str, str]:
    """Return one small JSON per model family of the ledger."""
    return {f"{slug(name)}.json": text for name, text in catalogue_json(held.ledger, url).items()}
