"""The plug-in example: installed as a user would, then found and checked by a fresh process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PLUGIN = Path(__file__).parents[2] / "examples" / "segresnet_plugin"


def test_a_new_architecture_costs_at_most_sixty_lines_and_one_card() -> None:
    python = [path for path in PLUGIN.rglob("*.py") if "build" not in path.parts]
    assert sum(len(path.read_text(encoding="utf-8").splitlines()) for path in python) <= 60
    assert len(list(PLUGIN.rglob("*.yaml"))) == 1


@pytest.mark.slow
def test_it_is_installed_found_and_conforms(tmp_path: Path) -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        return subprocess.run(
            [sys.executable, *arguments], capture_output=True, encoding="utf-8", env=environment, cwd=tmp_path
        )

    check = ("-m", "harness", "adapter", "check", "segresnet", "--cards", str(PLUGIN / "cards"))
    before = run(*check)
    assert before.returncode == 2
    assert "There is no adapter called 'segresnet'" in before.stderr
    pip = run("-m", "pip", "install", "-q", "--no-deps", "--target", str(tmp_path / "site"), str(PLUGIN))
    assert pip.returncode == 0, pip.stderr
    after = run(*check)
    assert after.returncode == 0, after.stdout + after.stderr
    assert "segresnet is installed" in after.stdout
    assert "**conforms**" in after.stdout
