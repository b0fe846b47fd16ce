"""What several rooms' tests share: a tiny synthetic data set, and a home that is not the user's."""

from __future__ import annotations

import uuid
from pathlib import Path

import pytest

from harness.data.synthetic import write


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep caches, remembered data roots and weights of the person who runs the tests out of them."""
    home = tmp_path_factory.getbasetemp() / "home"
    for variable in ("XDG_CACHE_HOME", "HARNESS_CACHE", "HARNESS_WEIGHTS"):
        monkeypatch.setenv(variable, str(home / variable.lower()))
    # what one test remembers with `data add` is no other test's business
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config" / uuid.uuid4().hex))
    # it holds for this process; in a child's output, warnings about other people's files would be in the way
    monkeypatch.delenv("PYTHONWARNDEFAULTENCODING", raising=False)


@pytest.fixture(scope="session")
def synthetic(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of cards with one data set: five tiny volumes on awkward grids."""
    folder = tmp_path_factory.mktemp("cards")
    write(folder / "synthetic", cases=5)
    return folder


@pytest.fixture
def cell(synthetic: Path, tmp_path: Path) -> list[str]:
    """Overrides of a cell that runs in seconds and leaves everything below ``tmp_path``."""
    return [
        "model=models_genesis.narrow8",
        "dataset=synthetic",
        "init=scratch",
        "debug=smoke",
        f"cards=['{synthetic}']",
        f"out={tmp_path / 'runs'}",
        f"cache={tmp_path / 'cache'}",
        f"data_root={synthetic / 'synthetic'}",
    ]
