"""Give the parity tests the module that forges checkpoints (this folder is not a package)."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture(scope="session")
def forge() -> ModuleType:
    spec = importlib.util.spec_from_file_location("forge", Path(__file__).with_name("forge.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
