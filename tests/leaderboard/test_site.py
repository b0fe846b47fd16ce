"""The board as a whole: what it shows, that it is the same twice, and that it is never half there."""

from __future__ import annotations

import html
import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest

from harness.cards.library import dataset_card
from harness.data.splits import resolve
from harness.errors import UserError
from harness.leaderboard import build
from harness.leaderboard.check import check
from harness.leaderboard.gather import signature
from harness.leaderboard.pages import Board, study
from harness.leaderboard.render import CSP
from harness.leaderboard.text import MINUS
from harness.records import fields
from harness.records.objections import Objection, object_to

# In a process of its own, where limits and users can be changed; the exit codes are those of the command line.
BUILD = (
    "import sys; from pathlib import Path; from harness.leaderboard import build\n"
    "from harness.errors import HarnessError\n"
    "try: build([Path(sys.argv[1])], Path(sys.argv[2]))\n"
    "except HarnessError as error: print(error); sys.exit(error.exit_code)\n"
)
MARK = "self-pretrained weights, bundled sample: not a reproduction"


def text_of(path):
    return html.unescape(re.sub(r"<[^>]+>", " ", path.read_text(encoding="utf-8")))


def test_a_built_board_has_no_fault(board):
    assert check(board) == []


def test_twins_stand_side_by_side_with_their_difference(board, demo_runs):
    page = text_of(board / "index.html")
    ours = {}
    for init in ("pretrained", "scratch"):
        record = json.loads((demo_runs / init / "record" / "record.json").read_text(encoding="utf-8"))
        ours[init] = record["metrics"][0]["value"]
        assert f"{ours[init]:.4f}" in page
    difference = ours["pretrained"] - ours["scratch"]
    assert f"{difference:+.4f}".replace("-", MINUS) in page
    assert "95 % interval" in page
    assert "Pretraining showed no gain here" in page


def test_marks_stand_on_every_page_that_shows_such_a_result(board):
    runs = [json.loads(path.read_text(encoding="utf-8")) for path in board.glob("runs/*/record.json")]
    assert len(runs) == 3
    pages = [board / "index.html", board / "runs.html", *board.glob("cells/*.html")]
    pages += [board / "models" / "models_genesis.html", *board.glob("datasets/head_and_neck*.html")]
    pages += [board / "runs" / run["run_id"] / "index.html" for run in runs if run["model"]["init"] == "pretrained"]
    assert len(pages) == 7
    for page in pages:
        assert MARK in text_of(page).lower().replace("  ", " ").replace(" :", ":"), page
    for page in (p for p in pages if p.name != "runs.html"):
        assert 'class="mark"' in page.read_text(encoding="utf-8"), page


def real_thing(forge, home, *, followed=True, **changes):
    """A run that speaks to claim r097: PCT-Net from scratch on the left atrium, as the demo of its authors did it."""
    card, _ = dataset_card("atriaseg2018")
    split = resolve(card, "atriaseg-misfm-72-8-20", 0, 1.0, 0)

    def spread(arguments):
        named = {"id": split.id, "sha256": split.sha256}
        counts = {"train": len(split.train), "val": len(split.val), "test": len(split.test)}
        arguments["split"] = arguments["split"].model_copy(update=named)
        arguments["dataset"] = arguments["dataset"].model_copy(
            update={"n_cases": fields.CaseCounts(**counts), "excluded": ()}
        )
        if followed:
            recipe = {
                "id": "misfm_atriaseg", "patch": (64, 128, 128), "intensity": fields.Intensity(method="zscore"),
                "selection": fields.Selection(rule="best_val"),
            }  # fmt: skip
            arguments["protocol"] = arguments["protocol"].model_copy(update=recipe)
            arguments["policy"], arguments["division"] = "pymic", "closed"

    options = {
        "init": "scratch", "model": ("mis_fm", "pctnet_ct10k"), "dataset": card.id, "quality": 0.92,
        "classes": tuple(card.classes), "cases": split.scored, "draw": False,
    }  # fmt: skip
    return forge.forge(home, change=spread, **{**options, **changes})


def claim_of(board, name):
    return next(
        one for one in json.loads((board / "board.json").read_text(encoding="utf-8"))["claims"] if one["id"] == name
    )


def test_a_run_of_the_claimed_cell_is_compared_and_a_marked_one_is_not(forge, tmp_path):
    for seed in range(3):
        real_thing(forge, tmp_path / "real" / str(seed), seed=seed)
        real_thing(forge, tmp_path / "marked" / str(seed), seed=seed, evidence=("bundled_sample",))
    honest = build([tmp_path / "real"], tmp_path / "honest").parent
    compared = claim_of(honest, "r097")
    values = [json.loads(path.read_text("utf-8"))["metrics"][0]["value"] for path in honest.glob("runs/*/record.json")]
    assert compared["reproduced"] == pytest.approx(sum(values) / 3)
    assert compared["difference"] == pytest.approx(sum(values) / 3 - 0.9071)
    assert compared["verdict"] == "inconclusive"  # three seeds around 0.90, and the interval leaves the margin of 0.01
    page = text_of(honest / "claims" / "r097.html")
    assert "The comparison" in page
    assert "cases scored same" in " ".join(page.split())
    assert check(honest) == []
    marked = build([tmp_path / "marked"], tmp_path / "sample").parent
    assert claim_of(marked, "r097") == {
        "id": "r097", "verdict": "not_attempted", "reproduced": None, "difference": None,
        "reason": "only runs with stand-in weights, synthetic data or samples",
    }  # fmt: skip
    assert (
        "Reproduced"
        not in (marked / "index.html").read_text(encoding="utf-8").split("<thead", 1)[1].split("</thead>", 1)[0]
    )


@pytest.mark.slow
def test_a_run_by_another_recipe_is_beside_the_claim_and_not_subtracted(forge, tmp_path):
    real_thing(forge, tmp_path / "runs" / "a", followed=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    compared = claim_of(out, "r097")
    assert (compared["verdict"], compared["difference"]) == ("not_comparable", None)
    assert compared["reproduced"] is not None


def test_a_copy_under_another_seed_is_refused(forge, tmp_path):
    def copy(arguments):
        taken = "f" * 64
        arguments["cases"] = [row._replace(prediction_sha256=taken) for row in arguments["cases"]]
        arguments["predictions"] = dict.fromkeys(arguments["predictions"], taken)

    for seed in (0, 1):
        forge.forge(tmp_path / "runs" / str(seed), seed=seed, change=copy, draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert "one of the two is a copy" in text_of(out / "index.html")
    assert len(list(out.glob("runs/*/index.html"))) == 1
    assert check(out) == []


def test_a_withdrawn_record_stays_visible_and_out_of_its_cell(forge, tmp_path):
    gone = forge.forge(tmp_path / "runs" / "a", draw=False)
    forge.forge(tmp_path / "runs" / "b", init="scratch", draw=False)
    object_to(
        tmp_path / "runs",
        Objection(
            id="wrong-data", run_id=gone.run_id, field="dataset", state="confirmed", outcome="withdrawn", by="someone",
            date="2026-08-23", text="the wrong folder was read",
        ),
    )  # fmt: skip
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    (cell,) = json.loads((out / "board.json").read_text(encoding="utf-8"))["cells"]
    assert gone.run_id not in cell["runs"]
    assert cell["gain"]["state"] == "no_twin"
    assert "withdrawn" in text_of(out / "runs.html")
    page = text_of(out / "runs" / gone.run_id / "index.html")
    for words in ("Objections", "withdrawn", "the wrong folder was read", "someone", "2026-08-23"):
        assert words in page
    assert check(out) == []


def test_an_objection_that_nobody_decided_is_shown_and_changes_nothing(forge, tmp_path):
    doubted = forge.forge(tmp_path / "runs" / "a", draw=False)
    said = {"run_id": doubted.run_id, "field": "split", "by": "<b>someone</b>", "date": "2026-08-23"}
    for state, text in (("open", "a case was trained on"), ("rejected", "it was not")):
        object_to(tmp_path / "runs", Objection(id="leak", state=state, text=text, **said))
        before = signature([tmp_path / "runs"])
    assert any(path.endswith("objections.jsonl") for path, *_ in before)
    board = Board.gather([tmp_path / "runs"])
    held = study(board, tmp_path / "board", workers=1)
    assert [run.counts for run in held.published.runs] == [True]
    page = (tmp_path / "board" / "runs" / doubted.run_id / "index.html").read_text(encoding="utf-8")
    assert "objection open" in page
    assert "objection rejected" in page
    assert "a case was trained on" in page
    assert "<b>someone" not in page


def test_a_withdrawn_record_speaks_to_no_claim(forge, tmp_path):
    gone = [real_thing(forge, tmp_path / "runs" / str(seed), seed=seed) for seed in range(2)]
    for number, record in enumerate(gone):
        object_to(
            tmp_path / "runs",
            Objection(
                id=f"wrong-{number}", run_id=record.run_id, field="record", state="confirmed", outcome="withdrawn",
                by="someone", date="2026-08-23", text="trained on the test cases",
            ),
        )  # fmt: skip
    board = Board.gather([tmp_path / "runs"])
    (line,) = [line for line in study(board, workers=1).ledger if line.claim.id == "r097"]
    assert (line.standing.verdict, line.standing.reproduced) == ("not_attempted", None)


def test_a_corrected_record_takes_the_place_of_the_old_one(forge, tmp_path):
    old = forge.forge(tmp_path / "runs" / "a", draw=False)
    correct = {"supersedes": old.run_id, "superseded_by_reason": "the first one read the wrong folder"}
    new = forge.forge(tmp_path / "runs" / "b", quality=0.8, draw=False, change=lambda given: given.update(correct))
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    (cell,) = json.loads((out / "board.json").read_text(encoding="utf-8"))["cells"]
    assert cell["runs"] == [new.run_id]
    assert "superseded" in text_of(out / "runs.html")


def test_many_processes_write_the_same_board(forge, tmp_path, monkeypatch):
    for seed in range(3):
        forge.forge(tmp_path / "runs" / f"p{seed}", seed=seed, draw=False)
        forge.forge(tmp_path / "runs" / f"s{seed}", seed=seed, init="scratch", draw=False)
    one = build([tmp_path / "runs"], tmp_path / "one", workers=1).parent
    monkeypatch.setattr("harness.leaderboard.publish._WORTH_WORKERS", 2)
    two = build([tmp_path / "runs"], tmp_path / "two", workers=2).parent
    assert forge.digest(one) == forge.digest(two)


def test_many_cells_are_spread_over_pages(forge, tmp_path, monkeypatch):
    monkeypatch.setattr("harness.leaderboard.catalogue._CELLS_PER_PAGE", 2)
    for number in range(3):
        forge.forge(tmp_path / "runs" / str(number), protocol=f"recipe_{number}", seed=number, draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    cells = {path.name for path in (out / "cells").iterdir()}
    assert len(cells) == 3
    for kind, name in (("models", "models_genesis"), ("datasets", "head_and_neck")):
        shown = [
            set(re.findall(r"cells/(\w+\.html)", (out / kind / f"{name}{part}.html").read_text(encoding="utf-8")))
            for part in ("", "-cells-2")
        ]
        assert [len(part) for part in shown] == [2, 1]
        assert shown[0] | shown[1] == cells
    assert check(out) == []


def test_failed_diverged_and_missing_records_are_listed(board):
    page = text_of(board / "index.html")
    assert "diverged" in page
    assert "the loss became NaN at step 160" in page
    assert "The disk is full while writing the cache." in page


def test_the_run_page_shows_every_score_of_the_case_file(board, demo_runs):
    folder = demo_runs / "scratch" / "record"
    run_id = json.loads((folder / "record.json").read_text(encoding="utf-8"))["run_id"]
    home = board / "runs" / run_id
    page = (home / "index.html").read_text(encoding="utf-8")
    lines = [line.split(",") for line in (folder / "cases.csv").read_text(encoding="utf-8").splitlines()[1:]]
    for case, _, name, metric, value, reason, *_ in lines:
        digits = 3 if metric.startswith("dice") else 2
        table = page.split(f"<code>{metric}</code>", 1)[1].split("</table>", 1)[0]
        heads = re.findall(r'<th scope="col"><bdi>(.*?)</bdi>', table)
        cells = re.findall(r"<td.*?>(.*?)</td>", table.split(f"<bdi>{case}</bdi>", 1)[1].split("</tr>", 1)[0])
        shown = re.sub(r"<[^>]+>", "", cells[heads.index(name)])
        assert shown == (f"{float(value):.{digits}f}" if value else reason.replace("_", " "))
    for name in ("record.json", "cases.csv", "config.yaml", "log.jsonl", "predictions.txt"):
        assert (home / name).read_bytes() == (folder / name).read_bytes()
    assert len(list((home / "slices").iterdir())) == 3
    assert page.count("<img ") == 3


def test_classes_keep_the_order_of_their_labels(board, forge, demo_runs):
    run_id = json.loads((demo_runs / "scratch" / "record" / "record.json").read_text(encoding="utf-8"))["run_id"]
    page = (board / "runs" / run_id / "index.html").read_text(encoding="utf-8")
    heads = re.findall(r'<th scope="col"><bdi>(.*?)</bdi>', page)
    assert tuple(heads[: len(forge.CLASSES)]) == forge.CLASSES


def test_same_input_same_bytes_wherever_it_lies(board, demo_runs, forge, tmp_path):
    shutil.copytree(demo_runs, tmp_path / "elsewhere" / "deep" / "runs")
    again = build([tmp_path / "elsewhere" / "deep" / "runs"], tmp_path / "out" / "second").parent
    assert forge.digest(again) == forge.digest(board)


def test_nothing_of_this_machine_is_in_it(board, tmp_path):
    names = {os.uname().nodename, str(tmp_path.parent.parent)}
    for path in board.rglob("*"):
        if path.is_file():
            content = path.read_bytes()
            assert not [name for name in names if name.encode() in content], path


def test_an_edited_record_is_refused_without_its_numbers(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "honest", draw=False)
    forge.forge(tmp_path / "runs" / "tampered", init="scratch", quality=0.4, draw=False)
    path = tmp_path / "runs" / "tampered" / "record" / "record.json"
    record = json.loads(path.read_text(encoding="utf-8"))
    record["metrics"][0]["value"] = 0.98765
    path.write_text(json.dumps(record, sort_keys=True, separators=(",", ":")) + "\n", encoding="utf-8")
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    page = text_of(out / "index.html")
    assert "Records that were not accepted" in page
    assert "tampered" in page
    assert "0.988" not in page
    assert len(list(out.glob("runs/*/index.html"))) == 1
    assert str(tmp_path) not in (out / "index.html").read_text(encoding="utf-8")
    assert check(out) == []


def test_an_unknown_version_is_refused(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "a", draw=False)
    path = tmp_path / "runs" / "a" / "record" / "record.json"
    path.write_text(
        path.read_text(encoding="utf-8").replace('"schema_version":"1.0.0"', '"schema_version":"9.9.9"'),
        encoding="utf-8",
    )
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert "9.9.9" in text_of(out / "index.html")
    assert not list(out.glob("runs/*/index.html"))


def test_the_same_record_twice_counts_once(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "a", draw=False)
    shutil.copytree(tmp_path / "runs" / "a", tmp_path / "runs" / "b")
    out = build([tmp_path / "runs", tmp_path / "runs" / "a"], tmp_path / "board").parent
    assert len(json.loads((out / "board.json").read_text(encoding="utf-8"))["runs"]) == 1


def test_a_link_in_a_record_never_reaches_the_board(forge, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("do not publish", encoding="utf-8")
    forge.forge(tmp_path / "runs" / "a", draw=False)
    log = tmp_path / "runs" / "a" / "record" / "packages.txt"
    log.symlink_to(secret)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert not [p for p in out.rglob("*") if p.is_file() and b"do not publish" in p.read_bytes()]


def test_no_runs_is_a_board_of_claims(tmp_path):
    (tmp_path / "empty").mkdir()
    out = build([tmp_path / "empty"], tmp_path / "board").parent
    assert "No run was given to this board" in text_of(out / "index.html")
    assert check(out) == []


def test_a_missing_folder_of_runs_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no folder of runs"):
        build([tmp_path / "nowhere"], tmp_path / "board")
    assert not (tmp_path / "board").exists()


def test_a_folder_that_is_no_board_is_never_replaced(tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").write_text("years of work", encoding="utf-8")
    with pytest.raises(UserError, match="is not a board"):
        build([], tmp_path / "thesis")
    assert (tmp_path / "thesis" / "chapter1.tex").read_text(encoding="utf-8") == "years of work"
    (tmp_path / "file").write_text("x", encoding="utf-8")
    with pytest.raises(UserError, match="is not a folder"):
        build([], tmp_path / "file")


def test_an_old_board_is_replaced_whole(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "a", draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    assert list(out.glob("runs/*/index.html"))
    shutil.rmtree(tmp_path / "runs" / "a")
    build([tmp_path / "runs"], out)
    assert not list(out.glob("runs/*/index.html"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "runs"]


def test_a_full_disk_leaves_the_old_board(forge, tmp_path):
    forge.forge(tmp_path / "runs" / "a", draw=False)
    out = build([tmp_path / "runs"], tmp_path / "board").parent
    before = forge.digest(out)
    limit = 20_000  # bytes a file may have: the front page needs more
    done = subprocess.run(
        [sys.executable, "-c", BUILD, tmp_path / "runs", out],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "File too large" in done.stdout
    assert forge.digest(out) == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["board", "runs"]


def test_no_permission_is_an_error_of_the_machine(tmp_path):
    locked = tmp_path / "locked"
    locked.mkdir()
    locked.chmod(0o555)
    # Root may write anywhere; without these two capabilities it is a user like any other.
    humble = (
        ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-all"] if os.geteuid() == 0 else []
    )
    done = subprocess.run(
        [*(humble if os.geteuid() == 0 else []), sys.executable, "-c", BUILD, tmp_path, locked / "board"],
        capture_output=True, encoding="utf-8", timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    assert "Permission denied" in done.stdout
    assert list(locked.iterdir()) == []


def test_the_policy_allows_nothing_from_elsewhere():
    assert CSP.startswith("default-src 'none'")
    for loose in ("unsafe-inline", "unsafe-eval", "*", "http:", "https:", "data:", "blob:"):
        assert loose not in CSP
