"""A configuration is led back to the protocol it names, whatever way it was made."""

from __future__ import annotations

import pytest

from harness.config import run_config
from harness.overrides import beyond_protocol

CELL = ["model=models_genesis.narrow8", "dataset=ct_headneck_oar", "init=scratch"]


def test_a_protocol_as_it_is_shipped_needs_no_override() -> None:
    assert beyond_protocol(run_config([*CELL, "protocol=demo_ct"]).science()["protocol"]) == ()


@pytest.mark.parametrize(
    "asked",
    [
        ["protocol.training.steps=7"],
        ["protocol.training.amp=bf16", "protocol.patches.size=[40,56,40]", "protocol.training.ema=0.999"],
        ["protocol.augmentation.transforms=[{name: flip, probability: 0.5, axes: [0]}]"],
        ["protocol.network={mis_fm: {deep_supervision: false}}"],
        ["protocol.input.intensity={rule: minmax, percentiles: [0.5, 99.5], to: [0, 1]}"],
        ["protocol.title='It\\'s \"odd\", or [not]: a=b'"],
        ["protocol.source='null'"],
    ],
)
def test_what_it_says_leads_to_the_same_configuration(asked: list[str]) -> None:
    wanted = run_config([*CELL, "protocol=demo_ct", *asked])
    found = beyond_protocol(wanted.science()["protocol"])
    assert found
    assert run_config([*CELL, "protocol=demo_ct", *found]).science() == wanted.science()


def test_an_experiments_choices_are_in_it() -> None:
    wanted = run_config(["experiment=fewshot_headneck", "init=scratch", "model=models_genesis.narrow8"])
    found = beyond_protocol(wanted.science()["protocol"])
    assert found is not None
    words = [*CELL, f"split={wanted.split}", f"protocol={wanted.protocol.name}", *found]
    assert run_config(words).science() == wanted.science()


def test_a_protocol_of_somebody_else_cannot_be_led_back() -> None:
    protocol = run_config([*CELL, "protocol=demo_ct"]).science()["protocol"]
    assert beyond_protocol({**protocol, "name": "my_own"}) is None
    assert beyond_protocol({**protocol, "name": "../demo_ct"}) is None
    assert beyond_protocol({key: value for key, value in protocol.items() if key != "training"}) is None
