"""The wheel carries its data: configs, data sets, model cards and claims, read where no checkout is near."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_an_installed_wheel_works_on_its_own(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(tmp_path), str(ROOT)], check=True, timeout=250)
    (wheel,) = tmp_path.glob("voxharness-*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(tmp_path / "site"), str(wheel)], check=True)

    def harness(*arguments: str) -> str:
        environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
        command = [sys.executable, "-m", "harness", *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, encoding="utf-8", check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "models_genesis.chest_ct" in harness("list", "models")
    assert "demo_ct" in harness("list", "protocols")
    assert "r001" in harness("list", "claims")
    assert "20 cases, no error" in harness("data", "check", "ct_headneck_oar")
    assert "steps: 550" in harness("run", "--cfg", "model=models_genesis.narrow8", "dataset=ct_headneck_oar")
    where = harness("data", "check", "ct_headneck_oar", "--json")
    assert str(ROOT) not in where
    assert (tmp_path / "site" / "harness" / "_data" / "model_cards" / "models_genesis.chest_ct.yaml").is_file()
    assert not (tmp_path / "site" / "harness" / "adapters" / "cards").exists()
