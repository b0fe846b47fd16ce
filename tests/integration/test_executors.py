"""Sweeps on the real engines: processes here, a real Slurm of two virtual nodes, a real Ray cluster.

The tests of Slurm and Ray skip where those are not installed, unless HARNESS_REQUIRE names them (`.ci/run` does).
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.executors import LocalExecutor
from harness.records.runfolder import RunFolder
from harness.sweep import Cell, expand, sweep
from harness.sweep.pools import LocalPool, make_pool

CLUSTER = Path(__file__).parent / "slurm_cluster.sh"


def need(engine: str, *, is_here: bool) -> None:
    """Skip where an engine is missing; fail where it was said to be required."""
    if is_here:
        return
    if engine in os.environ.get("HARNESS_REQUIRE", "").split(","):
        pytest.fail(f"{engine} is required by HARNESS_REQUIRE, but it is not installed")
    pytest.skip(f"{engine} is not installed")


def installed(module: str) -> bool:
    import importlib.util

    return importlib.util.find_spec(module) is not None


def expect_one_failure(out: Path, report: dict[str, object]) -> None:
    """Fold 0 is complete, fold 9 does not exist and failed alone."""
    rows = {("fold9" in row["cell"]): row for row in report["cells"]}  # type: ignore[index,attr-defined]
    assert rows[False]["state"] == "complete", rows
    assert rows[True]["state"] == "failed", rows
    assert "folds 0 to" in rows[True]["error"]
    assert not report["complete"]
    assert sorted(RunFolder(path.parent).state for path in out.glob("*/run.json")) == ["complete", "failed"]


def overrides(cell: list[str]) -> list[str]:
    return [*cell, "fold=0,9", "device=cpu", "threads=1"]


@pytest.mark.slow
def test_processes_of_this_machine(cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two at a time; the sweep is killed, its cells live on, and a second sweep runs none of them twice."""
    command = [sys.executable, "-m", "harness", "sweep", *overrides(cell), "executor.jobs=2"]
    first = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 240
    while not any((tmp_path / "runs").glob("*/run.json")):
        assert time.monotonic() < deadline
        assert first.poll() is None
        time.sleep(0.05)
    first.send_signal(signal.SIGKILL)
    first.wait()
    assert main(["sweep", *overrides(cell), "executor.jobs=2", "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    expect_one_failure(tmp_path / "runs", report)
    for path in (tmp_path / "runs").glob("*/run.json"):
        noted = json.loads(path.read_text(encoding="utf-8"))
        assert noted["resumes"] <= (0 if noted["state"] == "complete" else 1)


@pytest.mark.slow
def test_an_interrupted_sweep_ends_its_processes_and_goes_on(cell: list[str], tmp_path: Path) -> None:
    command = [sys.executable, "-m", "harness", "sweep", *cell, "device=cpu", "threads=1"]
    steps = "protocol.training.steps=100000"
    process = subprocess.Popen([*command, steps], stderr=subprocess.PIPE, encoding="utf-8")
    log = None
    deadline = time.monotonic() + 240
    while log is None or not log.is_file():
        assert time.monotonic() < deadline
        log = next((tmp_path / "runs").glob("*/log.jsonl"), None)
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=120)
    assert process.returncode == 130, said
    assert "goes on where it stopped" in said
    folder = RunFolder(log.parent)
    assert not folder.is_held
    assert (folder.checkpoints / "state.pt").is_file()


def once(path: Path, what: str, do: Callable[[], None]) -> threading.Thread:
    """Do something, in a thread, as soon as a file below a folder has a line: an empty log is not yet a loop."""

    def wait() -> None:
        deadline = time.monotonic() + 240
        while not any(file.stat().st_size for file in path.glob(what)) and time.monotonic() < deadline:
            time.sleep(0.05)
        do()

    thread = threading.Thread(target=wait, daemon=True)
    thread.start()
    return thread


def long_cell(cell: list[str], *where: str) -> list[Cell]:
    """A cell of so many steps that there is time to ask it to stop."""
    training = "protocol.training"
    steps = [f"{training}.steps=150", f"{training}.log_every=1", f"{training}.checkpoint_every=1000"]
    return expand([*cell, *steps, "device=cpu", "threads=1", *where])


@pytest.mark.slow
def test_a_process_that_is_asked_to_stop_goes_on_with_the_next_sweep(cell: list[str], tmp_path: Path) -> None:
    cells = long_cell(cell)
    pool = LocalPool(LocalExecutor())
    asked = once(tmp_path / "runs", "*/log.jsonl", lambda: pool._children[0].process.terminate())
    report = sweep(cells, pool)
    asked.join()
    assert (report.rows[0].state, report.exit_code) == ("interrupted", 75), report
    assert "Asked to stop (SIGTERM) at step" in (report.rows[0].error or "")
    assert cells[0].folder.state == "interrupted"
    assert (cells[0].folder.checkpoints / "state.pt").is_file()
    assert sweep(cells).exit_code == 0
    assert cells[0].folder.resumes == 1


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    need("slurm", is_here=bool(shutil.which("slurmctld") and shutil.which("munged") and installed("submitit")))
    need("slurm", is_here=os.geteuid() == 0)
    home = tmp_path / "slurm"
    subprocess.run([str(CLUSTER), "start", str(home)], check=True, timeout=60)
    monkeypatch.setenv("SLURM_CONF", str(home / "slurm.conf"))
    yield home
    subprocess.run([str(CLUSTER), "stop", str(home)], check=True, timeout=60)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_slurm_jobs(cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Two jobs on two nodes; a sweep that went away is attached to, not repeated."""
    where = ["executor=slurm", "executor.gpus=0", "executor.cpus=1", "executor.memory_gb=4", "executor.minutes=10"]
    cells = expand([*overrides(cell), *where])
    planned = tmp_path / "runs" / ".sweep"
    planned.mkdir(parents=True)
    gone = make_pool(cells[0].config.executor, planned)
    for one in cells:
        gone.start(one, write(planned, one))
    gone.ended()
    jobs = {path.name: path.read_text(encoding="utf-8") for path in planned.glob("*.job")}
    assert len(jobs) == 2

    capsys.readouterr()
    expect_one_failure(tmp_path / "runs", sweep(cells).to_json())
    assert "jobs submitted" not in capsys.readouterr().err
    assert jobs == {path.name: path.read_text(encoding="utf-8") for path in planned.glob("*.job")}
    nodes = subprocess.run(
        ["sinfo", "--noheader", "--Node", "--format=%N"], capture_output=True, check=True, encoding="utf-8"
    )
    assert nodes.stdout.split() == ["n1", "n2"]

    impossible = expand([*cell, "seed=1", *where, "executor.partition=nowhere"])
    from harness.errors import HarnessError

    with pytest.raises(HarnessError, match="Slurm did not take the jobs"):
        sweep(impossible)


@pytest.mark.slow
@pytest.mark.slurm
@pytest.mark.usefixtures("slurm")
def test_a_slurm_job_that_is_asked_to_stop_is_queued_again(
    cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    where = ["executor=slurm", "executor.gpus=0", "executor.cpus=1", "executor.memory_gb=4", "executor.minutes=10"]
    cells = long_cell(cell, *where)

    def ask() -> None:
        (note,) = (tmp_path / "runs" / ".sweep").glob("*.job")
        job = json.loads(note.read_text(encoding="utf-8"))["job"]
        subprocess.run(["scancel", "--signal=TERM", job], check=True, timeout=60)

    asked = once(tmp_path / "runs", "*/log.jsonl", ask)
    report = sweep(cells)
    asked.join()
    assert (report.rows[0].state, report.ran) == ("complete", 1), report
    assert cells[0].folder.resumes == 1
    assert capsys.readouterr().err.count("jobs submitted") == 1


def write(planned: Path, one: Cell) -> Path:
    path = planned / f"{one.name}.json"
    path.write_text(json.dumps(one.config.model_dump(mode="json")), encoding="utf-8")
    return path


@pytest.mark.slow
@pytest.mark.ray
def test_ray_tasks(
    cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("ray", is_here=installed("ray"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    code = main(["sweep", *overrides(cell), "executor=ray", "executor.cpus=1", "--json"])
    report = json.loads(capsys.readouterr().out)
    assert code == 1
    expect_one_failure(tmp_path / "runs", report)


@pytest.mark.slow
@pytest.mark.ray
def test_a_ray_task_that_is_asked_to_stop_is_sent_again(
    cell: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    need("ray", is_here=installed("ray"))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    cells = long_cell(cell, "executor=ray", "executor.cpus=1")

    def ask() -> None:
        """Ask whichever process holds the cell's lock."""
        held = cells[0].folder.path / "lock"
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if any(link.resolve() == held for link in (process / "fd").iterdir()):
                    os.kill(int(process.name), signal.SIGTERM)

    asked = once(tmp_path / "runs", "*/log.jsonl", ask)
    report = sweep(cells)
    asked.join()
    assert (report.rows[0].state, report.ran) == ("complete", 1), report
    assert cells[0].folder.resumes == 1
    assert "is sent again" in capsys.readouterr().err
