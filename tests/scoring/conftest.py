"""The known answers, computed by the named tools (see data/README.md)."""

import json
from pathlib import Path

import numpy as np
import pytest

DATA = Path(__file__).parent / "data"


@pytest.fixture(scope="session")
def expected():
    return json.loads((DATA / "expected.json").read_text(encoding="utf-8"))["cases"]


@pytest.fixture(scope="session")
def volumes():
    with np.load(DATA / "cases.npz") as stored:
        return {name: stored[name] for name in stored.files}


@pytest.fixture(scope="session")
def statistics_answers():
    return json.loads((DATA / "statistics.json").read_text(encoding="utf-8"))
