"""A damaged file is refused in one sentence, wherever the damage is."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from harness.checkpoints.reading import read
from harness.errors import UserError


def small_file(*, zip_format: bool) -> bytes:
    weights = {f"layer.{number}.weight": torch.ones(3, 3) for number in range(3)}
    content = {"iteration": 3, "valid_pred": np.float32(0.5), "model_state_dict": weights, "rate": 1e-3, "many": 2**20}
    stream = io.BytesIO()
    torch.save(content, stream, _use_new_zipfile_serialization=zip_format)
    return stream.getvalue()


@pytest.mark.parametrize("zip_format", [True, False])
def test_every_cut_is_refused(tmp_path: Path, zip_format: bool) -> None:
    content, file = small_file(zip_format=zip_format), tmp_path / "w.pt"
    for length in range(0, len(content), 3 if zip_format else 1):
        file.write_bytes(content[:length])
        with pytest.raises(UserError, match=r"cannot be read|not a file of tensors"):
            read(file, "model_state_dict")


@pytest.mark.parametrize("zip_format", [True, False])
def test_changed_bytes_are_refused_or_read_but_never_a_crash(tmp_path: Path, zip_format: bool) -> None:
    content, file = small_file(zip_format=zip_format), tmp_path / "w.pt"
    numbers = np.random.default_rng(0)
    refused = 0
    for _ in range(300):
        changed = bytearray(content)
        for place in numbers.integers(0, len(content), 3):
            changed[place] = numbers.integers(0, 256)
        file.write_bytes(bytes(changed))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch warns of an odd pickle protocol before it gives up
                read(file, "model_state_dict")
        except UserError:
            refused += 1
    assert refused > 200
