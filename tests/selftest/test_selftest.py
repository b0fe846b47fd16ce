"""The self-test passes on what works, fails on what does not, and one broken check does not stop the others."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from harness.cli import main
from harness.errors import UserError
from harness.selftest import CHECKS, Bench, Check, checks, selftest


def test_on_a_cpu_it_runs_what_applies(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "selftest.json"
    assert main(["selftest", "--device", "cpu", "--only", "parity", "--only", "compile", "--json", str(file)]) == 0
    said = capsys.readouterr().out
    assert "relative difference" in said
    found = json.loads(file.read_text(encoding="utf-8"))
    assert found["passed"]
    assert [check["state"] for check in found["checks"]] == ["passed", "not applicable"]
    assert found["env"]["torch"] == torch.__version__
    assert str(tmp_path) not in file.read_text(encoding="utf-8")


def test_a_device_that_answers_otherwise_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    original = checks._answer
    calls = iter(range(100))
    monkeypatch.setattr(checks, "_answer", lambda *given: original(*given) + 0.01 * next(calls))

    def breaks(bench: Bench) -> Check:
        raise RuntimeError("CUDA error: an illegal memory access")

    monkeypatch.setitem(CHECKS, "resume", breaks)
    found = selftest("cpu", ["resume", "parity", "channels_last"])
    assert [check.state for check in found] == ["failed"] * 3
    assert found[0].found == "RuntimeError: CUDA error: an illegal memory access"
    assert checks._limited("x", float("nan"), 1.0).state == "failed"


def test_a_cpu_without_instructions_for_bfloat16_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "_PATIENCE", 0.0)
    monkeypatch.setattr(checks, "_last_loss", None)  # no step of training is done
    (found,) = selftest("cpu", ["amp"])
    assert found.state == "not applicable"
    assert "one step in bfloat16 takes" in found.found


def test_an_unknown_check_is_answered() -> None:
    with pytest.raises(UserError, match="Did you mean 'resume'"):
        selftest("cpu", ["resum"])


@pytest.mark.slow
@pytest.mark.parametrize("name", ["amp", "resume", "memory", "throughput", "ranks"])
def test_the_longer_checks_pass_on_a_cpu(name: str) -> None:
    (found,) = selftest("cpu", [name])
    assert found.state == "passed", found


@pytest.fixture(scope="module")
def gpu(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    if not torch.cuda.is_available():
        pytest.skip("there is no CUDA device")
    return Bench("cuda", tmp_path_factory.mktemp("selftest"))


@pytest.mark.gpu
@pytest.mark.parametrize("name", sorted(CHECKS))
def test_on_a_gpu(gpu: Bench, name: str) -> None:
    found = CHECKS[name](gpu)
    assert found.state == "passed", found
