"""Sweeps on the real engines: processes here, a real Slurm of two virtual nodes, a real Ray cluster.

The tests of Slurm and Ray skip where those are not installed, unless HARNESS_REQUIRE names them (`.ci/run` does).
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.cli import main
from harness.records.runfolder import RunFolder
from harness.sweep import Cell, expand, sweep
from harness.sweep.pools import make_pool

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
