from __future__ import annotations

import csv
import io
import json
import sys

import pytest
import yaml

from harness.errors import UserError
from harness.leaderboard.cells import Gain
from harness.leaderboard.export import as_csv, export
from harness.leaderboard.exportpapers import latex, markdown
from harness.leaderboard.exportrows import COLUMNS, where


@pytest.fixture(scope="module")
def runs(demo_runs, forge, tmp_path_factory):
    """The two marked twins of the demo, and one run that may stand on a model's card."""
    top = tmp_path_factory.mktemp("more")
    forge.forge(top / "own", seed=4, quality=0.7, draw=False)
    return [demo_runs, top]


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_csv_and_json_hold_the_same_rows_and_only_those_that_pass_the_filter(runs):
    told = export(runs, "csv", None, what="runs", filters=["init=scratch"], workers=1)
    held = json.loads(export(runs, "json", None, what="runs", filters=["init=scratch"], workers=1))
    assert [row["run_id"] for row in rows(told)] == [row["run_id"] for row in held]
    assert [row["init"] for row in held] == ["scratch"]
    assert float(rows(told)[0]["value"]) == held[0]["value"]  # not rounded
    assert rows(told)[0]["evidence"] == "bundled_sample"
    assert list(held[0]) == list(COLUMNS["runs"])


def test_the_ledger_is_exported_as_the_page_shows_it(runs, board):
    held = json.loads(export(runs[:1], "json", None, workers=1, url="https://example.org/board/"))
    shown = {claim["id"]: claim["verdict"] for claim in json.loads((board / "board.json").read_text("utf-8"))["claims"]}
    assert {row["id"]: row["verdict"] for row in held} == shown
    assert held[0]["page"].startswith("https://example.org/board/claims/r")


def test_a_text_that_a_spreadsheet_would_run_is_only_text():
    told = as_csv([{"id": "=1+1", "n": -1.5, "none": None}], ["id", "n", "none"])
    assert told.splitlines()[1] == "'=1+1,-1.5,"


def test_a_models_card_gets_no_result_that_carries_a_mark(runs, tmp_path):
    export(runs, "hf", tmp_path, url="https://example.org/board", workers=1)
    (index,) = tmp_path.glob("*.model-index.yaml")
    (results,) = (entry["results"] for entry in yaml.safe_load(index.read_text("utf-8"))["model-index"])
    (one,) = results  # of five runs: marked, from scratch and diverged ones are left out
    assert one["dataset"]["type"] == "head_and_neck"
    assert one["source"]["url"].startswith("https://example.org/board/runs/")
    (lines,) = tmp_path.glob("*.eval-results.yaml")
    (line,) = yaml.safe_load(lines.read_text("utf-8"))
    assert line["value"] == one["metrics"][0]["value"]
    with pytest.raises(UserError, match="may stand on a model's card"):
        export(runs[:1], "hf", tmp_path / "none", workers=1)
    assert not (tmp_path / "none").exists()


@pytest.mark.slow  # the library is there after `make engines`
def test_the_hubs_own_parser_reads_the_model_index(runs, tmp_path):
    """What a hub would show of the card: the data set, its split, the metric by name and its value, with the source."""
    cards = pytest.importorskip("huggingface_hub", reason="pip install 'voxharness[hub]'")
    export(runs, "hf", tmp_path, url="https://example.org/board", workers=1)
    (index,) = tmp_path.glob("*.model-index.yaml")
    text = index.read_text("utf-8")
    data = cards.ModelCard(f"---\n{text}---\n\n# A model\n").data
    (result,) = data.eval_results
    stored = json.loads((runs[1] / "own" / "record" / "record.json").read_text("utf-8"))["metrics"][0]
    assert data.model_name == "models_genesis.demo"
    assert isinstance(result, cards.EvalResult)
    assert (result.task_type, result.dataset_type, result.dataset_split) == (
        "image-segmentation", "head_and_neck", "fixed"
    )  # fmt: skip
    assert (result.metric_type, result.metric_name) == ("dice.hard.native.v1", "Dice")
    assert result.metric_value == stored["value"]
    assert result.verified is False
    assert result.source_url.startswith("https://example.org/board/runs/")
    assert yaml.safe_load(text)["model-index"][0]["name"] == data.to_dict()["model-index"][0]["name"]


def test_a_catalogue_gets_one_small_file_per_family(runs, tmp_path, board):
    export(runs[:1], "catalogue", tmp_path, workers=1)
    told = json.loads((tmp_path / "med3d.json").read_text("utf-8"))
    assert told["claims"] == sum(told["verdicts"].values()) > 0
    assert told["url"] == "models/med3d.html"
    assert told["date"] is None  # no run speaks to any of its claims
    assert (board / "models" / "med3d.json").read_text("utf-8") == (tmp_path / "med3d.json").read_text("utf-8")


def test_tables_for_papers_have_intervals_marks_and_no_syntax_of_a_stranger():
    row = {
        "model": "a_b{c}|<i>", "dataset": "d%", "evidence": "bundled_sample", "pretrained": 0.7, "scratch": 0.65,
        "gain": 0.05, "low": -0.01, "high": 0.1, "state": Gain("no_gain_seen").state,
    }  # fmt: skip
    tex = latex("cells", [row])
    assert r"a\_b\{c\}|<i>$^\dag$ & d\% & 0.700 & 0.650 & +0.050 [$-$0.010, +0.100] & no gain seen \\" in tex
    assert tex.count("{lllrr") == 0
    assert r"\begin{tabular}{llrrrl}" in tex
    assert "bundled sample: not a reproduction" in tex
    text = markdown("cells", [row])
    assert r"a\_b\{c\}\|\<i\> †" in text
    assert len({line.replace(r"\|", "").count("|") for line in text.splitlines()[:3]}) == 1


def test_bibtex_names_what_the_rows_rest_on(runs):
    text = export(runs, "bibtex", None, filters=["model=MIS-FM"], workers=1)
    assert "@misc{mis_fm," in text
    assert "eprint = {2306.16925}" in text
    assert "med3d" not in text
    assert text.count("{") == text.count("}")


@pytest.mark.slow  # the library is there after `make engines`
def test_parquet_has_the_rows_with_types_or_says_what_is_missing(runs, tmp_path, monkeypatch):
    out = tmp_path / "runs.parquet"
    pyarrow = pytest.importorskip("pyarrow", reason="pip install 'voxharness[parquet]'")
    export(runs, "parquet", out, what="runs", workers=1)
    table = pyarrow.parquet.read_table(out)
    held = json.loads(export(runs, "json", None, what="runs", workers=1))
    assert table.to_pylist() == held
    assert str(table.schema.field("value").type) == "double"


def test_without_pyarrow_nothing_is_written(runs, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"voxharness\[parquet\]"):
        export(runs[:1], "parquet", tmp_path / "x.parquet", workers=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"to": "excel"}, "no format called 'excel'"),
        ({"to": "csv", "what": "claim"}, "Did you mean 'claims'"),
        ({"to": "csv", "filters": ["modell=x"]}, "Did you mean 'model'"),
        ({"to": "csv", "filters": ["model"]}, "column=value"),
    ],
)
def test_a_wrong_word_is_answered_with_the_right_one(tmp_path, arguments, complaint):
    with pytest.raises(UserError, match=complaint):
        export([tmp_path], out=None, **arguments)


def test_two_values_of_one_column_are_alternatives():
    assert where(["init=a", "init=b", "model=c"], ("init", "model")) == {"init": {"a", "b"}, "model": {"c"}}
