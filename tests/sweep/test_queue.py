"""The queue: what has a valid record is left alone, one failure sinks nothing, an interrupted sweep goes on."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from harness.cli import main
from harness.errors import HarnessError, UserError
from harness.sweep import Cell, expand, sweep
from harness.sweep.pools import LocalPool, _why
from harness.sweep.worker import read_cell
from harness.training.interruption import InterruptedRunError


def states(out: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["list", "runs", "--runs", str(out), "--json"]) == 0
    return {row["run"]: row["state"] for row in json.loads(capsys.readouterr().out)}


def test_a_sweep_runs_what_is_missing_and_one_failure_sinks_nothing(
    cell: list[str], tmp_path: Path, in_process: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # fold 9 does not exist, so that cell fails when it starts
    cells = expand([*cell, "fold=0,9", "seed=0"])
    seen: dict[str, str] = {}
    pool = in_process(lambda one: seen.update(states(tmp_path / "runs", capsys)))
    report = sweep(cells, pool)
    assert [row.state for row in report.rows] == ["complete", "failed"]
    assert "folds 0 to" in (report.rows[1].error or "")
    assert not report.is_complete
    assert report.ran == 2
    assert pool.closed
    assert seen == {cells[0].name: "complete", cells[1].name: "planned"}  # as it stood when the last one started
    assert states(tmp_path / "runs", capsys) == {cells[0].name: "complete", cells[1].name: "failed"}

    again = in_process()
    assert sweep(cells, again).ran == 1
    assert again.started == [cells[1].name]
    rest = in_process()
    assert sweep(cells[:1], rest).to_json()["complete"] is True
    assert rest.started == []

    # the whole command, on a folder in which all is done
    assert main(["sweep", *cell, "seed=0", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ran"] == 0

    record = cells[0].folder.record / "record.json"
    record.write_text(
        record.read_text(encoding="utf-8").replace('"seeds":{"data":0', '"seeds":{"data":1'), encoding="utf-8"
    )
    damaged = sweep(cells[:1], rest)
    assert damaged.rows[0].state == "damaged"
    assert "was changed" in (damaged.rows[0].error or "")
    assert main(["sweep", *cell, "seed=0"]) == 1
    assert "0 of 1 cells are complete" in capsys.readouterr().out


def test_a_process_that_dies_is_noted_in_its_folder(cell: list[str], in_process: Any) -> None:
    (one,) = expand(cell)

    def die(cell: Cell) -> None:
        cell.folder.begin()  # and no end: as if it had been killed
        raise HarnessError("killed by SIGKILL")

    report = sweep([one], in_process(die))
    assert (report.rows[0].state, report.rows[0].error) == ("failed", "killed by SIGKILL")
    assert (one.folder.state, one.folder.error) == ("failed", "killed by SIGKILL")


def test_a_cell_that_is_asked_to_stop_has_not_failed(
    cell: list[str], tmp_path: Path, in_process: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    first, second = cells = expand([*cell, "seed=0,1"])

    def stop(cell: Cell) -> None:
        with cell.folder.at_work():
            if cell.name == first.name:
                raise InterruptedRunError("Asked to stop (SIGTERM) at step 3 of 6.")
            raise HarnessError("the disk is full")

    report = sweep(cells, in_process(stop))
    assert [(row.state, row.error) for row in report.rows] == [
        ("interrupted", "Asked to stop (SIGTERM) at step 3 of 6."),
        ("failed", "the disk is full"),
    ]
    assert states(tmp_path / "runs", capsys) == {first.name: "interrupted", second.name: "failed"}
    assert (report.exit_code, sweep([first], in_process(stop)).exit_code) == (1, 75)
    again = in_process()
    assert sweep([first], again).exit_code == 0
    assert again.started == [first.name]
    assert first.folder.resumes == 2


def test_a_cell_that_another_process_holds_is_waited_for_and_not_run_twice(cell: list[str], in_process: Any) -> None:
    cells = expand([*cell, "seed=0,1"])
    first, second = cells
    lock = FileLock(first.folder.path / "lock")
    first.folder.path.mkdir(parents=True)
    lock.acquire()
    assert first.folder.state == "running"

    def release(cell: Cell) -> None:
        lock.release()
        raise HarnessError("enough seen")

    pool = in_process(release)
    report = sweep(cells, pool)
    assert pool.started == [second.name, first.name]
    assert report.ran == 2


def test_an_interrupted_sweep_stops_what_runs(cell: list[str], in_process: Any) -> None:
    def interrupt(cell: Cell) -> None:
        raise KeyboardInterrupt

    pool = in_process(interrupt)
    with pytest.raises(KeyboardInterrupt):
        sweep(expand(cell), pool)
    assert pool.stopped
    assert pool.closed


def test_no_cells_are_no_sweep() -> None:
    with pytest.raises(UserError, match="no cell to run"):
        sweep([])


def test_the_planned_configuration_reads_back(cell: list[str], in_process: Any) -> None:
    (one,) = expand(cell)

    def look(cell: Cell) -> None:
        file = cell.config.out / ".sweep" / f"{cell.name}.json"
        assert read_cell(file) == cell.config
        raise HarnessError("read")

    assert sweep([one], in_process(look)).rows[0].error == "read"


def test_gpus_are_dealt_out_one_per_process(monkeypatch: pytest.MonkeyPatch) -> None:
    from harness.executors import LocalExecutor

    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,GPU-abc")
    pool = LocalPool(LocalExecutor())
    assert pool.jobs == 2
    assert [pool.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1)] == ["3", "GPU-abc"]
    pool = LocalPool(LocalExecutor(jobs=3, gpus=("0", "1")))
    assert [pool.environment(slot)["CUDA_VISIBLE_DEVICES"] for slot in (0, 1, 2)] == ["0", "1", "0"]
    assert int(pool.environment(0)["OMP_NUM_THREADS"]) >= 1
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert LocalPool(LocalExecutor()).jobs == 1


def test_the_end_of_a_process_in_words() -> None:
    assert _why(0) is None
    assert _why(2) == "its process ended with exit code 2"
    assert _why(-9) == "its process was killed by SIGKILL; the machine was probably out of memory"


@pytest.mark.parametrize(("executor", "module"), [("slurm", "submitit"), ("ray", "ray")])
def test_a_missing_extra_says_what_to_install(
    cell: list[str], monkeypatch: pytest.MonkeyPatch, executor: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"pip install 'voxharness\[{executor}\]'"):
        sweep(expand([*cell, f"executor={executor}"]))
