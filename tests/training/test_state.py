"""Resumable checkpoints: checksummed, atomic, and the previous one is there when the last one is not whole."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from harness.errors import HarnessError
from harness.training.state import load_latest, read_state, save_state


def test_the_newest_and_the_one_before_are_kept(tmp_path: Path) -> None:
    assert load_latest(tmp_path) is None
    for step in (1, 2, 3):
        save_state(tmp_path, {"step": step, "x": torch.arange(step)})
    state = load_latest(tmp_path)
    assert state is not None
    assert state["step"] == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state.previous.pt", "state.pt"]
    assert read_state(tmp_path / "state.previous.pt")["step"] == 2


@pytest.mark.parametrize("keep", [0, 30, 500])
def test_a_damaged_one_is_named_and_the_previous_used(
    tmp_path: Path, keep: int, capsys: pytest.CaptureFixture[str]
) -> None:
    for step in (1, 2):
        save_state(tmp_path, {"step": step, "x": torch.zeros(100)})
    current = tmp_path / "state.pt"
    current.write_bytes(current.read_bytes()[:keep])
    state = load_latest(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert "state.pt is damaged" in capsys.readouterr().err


def test_a_changed_byte_is_noticed(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1, "x": torch.zeros(100)})
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[-200] ^= 1
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(HarnessError, match="is damaged"):
        read_state(tmp_path / "state.pt")


def test_a_full_disk_keeps_the_checkpoint_that_was_there(tmp_path: Path) -> None:
    save_state(tmp_path, {"step": 1, "x": torch.zeros(10)})
    code = f"""
import resource, signal, torch
from pathlib import Path
from harness.training.state import save_state
from harness.errors import HarnessError
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
try:
    save_state(Path({str(tmp_path)!r}), {{"step": 2, "x": torch.zeros(100_000)}})
except HarnessError as error:
    print(error.exit_code, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, encoding="utf-8", check=True)
    assert done.stdout.startswith("1 Could not write")
    state = load_latest(tmp_path)
    assert state is not None
    assert state["step"] == 1
    assert [path.name for path in tmp_path.iterdir()] == ["state.pt"]
