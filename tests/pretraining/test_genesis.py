"""The restoration task: batches are a function of the step, the loss is the published one, learning beats copying."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from harness.cards.library import model_card
from harness.errors import UserError
from harness.pretraining.genesis import Genesis, GenesisTask
from harness.pretraining.recipes import RECIPES, make_task, settings

SMALL = {"name": "models_genesis", "cubes": {"size": (16, 16, 16)}, "batch": 3, "evaluation_batches": 2}


def task(volumes, seed=0, **changes):
    return make_task({**SMALL, **changes}, volumes, ["a", "b", "small"], ["c"], seed)


def narrow():
    return model_card("models_genesis.narrow8")[0]


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_are_a_function_of_seed_and_step(volumes, workers):
    one = task(volumes)
    one.workers = workers
    for step, batch in zip(range(2, 5), one.batches(2, 5), strict=True):
        again = task(volumes).batch(step)
        for name in ("image", "target"):
            assert torch.equal(batch[name], again[name])
            assert batch[name].shape == (3, 1, 16, 16, 16)
            assert batch[name].dtype == torch.float32
    assert not torch.equal(one.batch(0)["target"], one.batch(1)["target"])
    assert not torch.equal(one.batch(0)["target"], task(volumes, seed=1).batch(0)["target"])


def test_held_out_volumes_are_never_trained_on(volumes):
    volumes["c"].image[:] = 7.0
    one = task(volumes, painting=0.0)
    assert max(one.batch(step)["image"].max() for step in range(10)) <= 1


def test_distortion_and_target_share_the_flip(volumes):
    one = task(volumes, shuffle=0.0, nonlinear=0.0, painting=0.0, flip=1.0)
    batch = one.batch(0)
    assert torch.equal(batch["image"], batch["target"])
    plain = task(volumes, shuffle=0.0, nonlinear=0.0, painting=0.0, flip=0.0).batch(0)
    assert not torch.equal(batch["target"], plain["target"])


def test_loss_is_the_mean_squared_error_after_a_sigmoid():
    image, target = torch.randn(2, 1, 8, 8, 8), torch.rand(2, 1, 8, 8, 8)
    loss = GenesisTask.loss(object(), torch.nn.Identity(), {"image": image, "target": target})
    assert loss.item() == pytest.approx(((1 / (1 + np.exp(-image.numpy())) - target.numpy()) ** 2).mean(), rel=1e-5)


def test_evaluation_knows_the_trivial_answers_and_leaves_the_network_alone(volumes):
    one = task(volumes)
    torch.manual_seed(0)
    network = one.network(narrow(), {"normalization": "running"})
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scores = one.evaluate(network, "cpu")
    assert scores == task(volumes, seed=5).evaluate(network, "cpu")  # the samples are the same for every seed
    assert network.training
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    batches = [one._evaluation_batch(step) for step in range(2)]
    image, target = (np.concatenate([b[n].numpy() for b in batches]) for n in ("image", "target"))
    assert scores["mse_identity"] == pytest.approx(((image - target) ** 2).mean(), rel=1e-4)
    assert scores["mse_constant"] == pytest.approx(target.var(), rel=1e-4)
    assert scores["mse_blur"] < scores["mse_identity"]
    assert one.validate(network) == -scores["mse"]


def test_cubes_too_small_and_ids_that_are_wrong_are_refused(volumes):
    with pytest.raises(UserError, match="at least 10 voxels"):
        task(volumes, cubes={"size": (16, 16, 8)})
    with pytest.raises(UserError, match="both trained on and held out"):
        make_task(SMALL, volumes, ["a", "c"], ["c"], 0)
    with pytest.raises(UserError, match="to hold out for evaluation"):
        make_task(SMALL, volumes, ["a"], [], 0)
    with pytest.raises(UserError, match=r"no volume called 'smal'.*'small'"):
        make_task(SMALL, volumes, ["smal"], ["c"], 0)


def test_settings_refuse_unknown_names_with_the_nearest():
    with pytest.raises(UserError, match="did you mean 'painting'"):
        settings({"name": "models_genesis", "paintng": 0.5})
    with pytest.raises(UserError, match="Did you mean 'models_genesis'"):
        settings({"name": "model_genesis"})
    with pytest.raises(UserError, match="needs its name"):
        settings({})


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_has_its_settings(name):
    assert settings({"name": name}).model_dump()["name"] == name


def test_published_probabilities_are_the_defaults():
    chosen = Genesis()
    assert (chosen.flip, chosen.shuffle, chosen.nonlinear, chosen.painting, chosen.inside) == (0.4, 0.5, 0.9, 0.9, 0.2)
    assert chosen.batch == 6
    assert chosen.cubes.size == (64, 64, 32)
