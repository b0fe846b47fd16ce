"""Boards for the tests: forged records that verify, built once per session."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from harness.leaderboard import build


@pytest.fixture(scope="session")
def forge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("board_forge", Path(__file__).with_name("forge.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def demo_runs(forge: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return forge.demo_runs(tmp_path_factory.mktemp("runs"))


@pytest.fixture(scope="session")
def board(demo_runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A built board of two twins, a diverged run and one that left no record."""
    return build([demo_runs], tmp_path_factory.mktemp("boards") / "board").parent
