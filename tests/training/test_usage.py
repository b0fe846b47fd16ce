"""What a run used: nothing is claimed that was not measured, and nothing is lost when a run is interrupted."""

from __future__ import annotations

import pytest
import torch

from harness.training.distributed import World
from harness.training.usage import Usage

UNKNOWN = {"allocated": None, "reserved": None, "kwh": None}


def test_a_cpu_measures_neither_memory_nor_energy() -> None:
    usage = Usage(torch.device("cpu"))
    assert usage.over(World()) == UNKNOWN
    usage.load_state_dict({"allocated": 3.0, "reserved": 4.0, "joules": 7.2e6, "unmeasured": False})
    assert usage.over(World()) == UNKNOWN
    assert usage.state_dict() == {"allocated": 3.0, "reserved": 4.0, "joules": 7.2e6, "unmeasured": True}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_gpu_counts_its_peaks_over_interruptions() -> None:
    device = torch.device("cuda")
    usage = Usage(device)
    torch.zeros(2**28, device=device).sum().item()  # a GiB of float32
    found = usage.over(World())
    assert found["allocated"] == pytest.approx(1.0, abs=0.05)
    assert found["reserved"] is not None
    assert found["reserved"] >= 1.0
    later = Usage(device)
    later.load_state_dict(usage.state_dict())
    assert later.over(World())["allocated"] == found["allocated"]
