from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from monai.inferers import sliding_window_inference
from torch import nn

from harness.errors import UserError
from harness.grid import Grid, GridSpec
from harness.inference import sweep as sweeping
from harness.inference.native import restore_logits, to_labels
from harness.inference.ring import DeviceRing
from harness.inference.settings import Inference
from harness.inference.sliding_window import predict_labels, predict_logits, predict_native
from harness.selftest.bench import allocated_peak

PATCH = (16, 12, 8)


class Local(nn.Module):
    """A small network with context, so that windows disagree where they overlap."""

    def __init__(self, channels=1, classes=3):
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv3d(channels, 6, 3, padding=1), nn.InstanceNorm3d(6, affine=True), nn.ReLU(), nn.Conv3d(6, classes, 1)
        )

    def forward(self, x):
        return self.layers(x)


def volume(shape, channels=1, seed=0):
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(channels, *shape)).astype(np.float32))


def monai(network, x, patch=PATCH, **options):
    options = {"overlap": 0.5, "mode": "gaussian", "sw_batch_size": 1, **options}
    with torch.no_grad():
        return sliding_window_inference(x[None], patch, predictor=network.eval(), **options)[0]


@pytest.fixture(params=["host", "device"])
def ring(request, monkeypatch):
    """Both rings; the one for accelerators runs on the CPU here, with the same operations."""
    if request.param == "device":
        monkeypatch.setattr(sweeping, "make_ring", DeviceRing)
    return request.param


# The swept axis is the longest one, so each is once: first, second, third; then one window, and padded axes.
SHAPES = [(61, 20, 15), (20, 61, 15), (20, 15, 45), (16, 12, 8), (10, 30, 5), (9, 9, 40), (17, 13, 9)]


@pytest.mark.parametrize(
    ("shape", "overlap"),
    [*((shape, 0.5) for shape in SHAPES), ((61, 20, 15), 0.0), ((20, 33, 9), 0.25), ((18, 14, 12), 0.8)],
)
def test_logits_equal_monai(shape, overlap, ring):
    network, x = Local(), volume(shape)
    ours = predict_logits(network, x, Inference(overlap=overlap), PATCH, "cpu")
    assert ours.shape == (3, *shape)
    assert (ours - monai(network, x, overlap=overlap)).abs().max() < 1e-5


def test_constant_blending_batches_channels_and_fill_equal_monai(ring):
    network, x = Local(channels=2), volume((13, 30, 20), channels=2)
    ours = predict_logits(network, x, Inference(blending="constant", window_batch=3), PATCH, "cpu", fill=-2.0)
    assert (ours - monai(network, x, mode="constant", sw_batch_size=3, cval=-2.0)).abs().max() < 1e-5


def test_each_channel_is_padded_with_its_own_value():
    network, x = Local(channels=2), volume((8, 12, 8), channels=2)
    padded = torch.stack(
        [torch.nn.functional.pad(x[c], (0, 0, 0, 0, 4, 4), value=v) for c, v in enumerate((-1.0, 3.0))]
    )
    ours = predict_logits(network, x, Inference(), PATCH, "cpu", fill=(-1.0, 3.0))
    assert (ours - monai(network, padded)[:, 4:12]).abs().max() < 1e-5


def test_a_network_that_normalises_over_the_batch_sees_the_same_batches_as_with_monai():
    class Batchy(Local):
        def forward(self, x):
            return self.layers(x - x.mean(dim=(0, 2, 3, 4), keepdim=True))

    network, x = Batchy(), volume((40, 30, 20))
    for window_batch in (1, 4):
        ours = predict_logits(network, x, Inference(window_batch=window_batch), PATCH, "cpu")
        assert (ours - monai(network, x, sw_batch_size=window_batch)).abs().max() < 1e-5
    alone = predict_logits(network, x, Inference(window_batch=1), PATCH, "cpu")
    assert (ours - alone).abs().max() > 1e-3


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
def test_labels_are_the_decision_over_the_logits(shape, activation, ring):
    network, x, settings = Local(), volume(shape), Inference(activation=activation)
    logits = predict_logits(network, x, settings, PATCH, "cpu")
    values = (0, 2, 700) if activation == "softmax" else None
    labels = predict_labels(network, x, settings, PATCH, "cpu", values=values)
    expected = to_labels(logits, activation, values)
    assert labels.dtype == expected.dtype
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1


LPS = np.diag([-1.5, -1.0, 2.0, 1.0])


def plan(shape, **options):
    return GridSpec.plan(Grid(shape, tuple(tuple(row) for row in LPS)), **options)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid"])
@pytest.mark.parametrize(
    "spec",
    [
        plan((30, 26, 14), axcodes="RAS", spacing=(1.1, 1.3, 1.0)),
        plan((30, 26, 14), axcodes="SAR", spacing=(1.0, 1.3, 3.5), crop=((3, 20), (2, 18), (1, 12))),
        plan(
            (14, 26, 40),
            axcodes="IPL",
            spacing=(1.2, 0.8, 2.0),
            crop=((3, 60), (0, 30), (2, 10)),
            minimum_shape=(64, 40, 16),
        ),
        plan((20, 20, 20), axcodes="RAS", spacing=(4.0, 4.0, 4.0)),
    ],
    ids=["finer", "cropped", "padded", "smaller than the window"],
)
def test_labels_on_the_scan_are_the_decision_over_restored_logits(spec, activation, ring):
    network, x = Local(), volume(spec.target.shape)
    settings = Inference(activation=activation)
    logits = predict_logits(network, x, settings, PATCH, "cpu")
    ours = predict_native(network, x, spec, settings, PATCH, "cpu")
    restored = spec.restore(logits.numpy(), order="linear", fill=-1.0)
    restored[0][restored[0] == -1.0] = 0.0 if activation == "softmax" else -1.0
    expected = to_labels(torch.from_numpy(restored), activation)
    assert ours.shape[-3:] == spec.source.shape
    assert (ours == expected).mean() >= 0.9999
    assert (restore_logits(logits, spec, activation) == ours).mean() >= 0.9999
    assert 0 < (ours != 0).mean() < 1


def test_restoring_labels_by_nearest_neighbour_is_a_choice():
    spec = plan((30, 26, 14), axcodes="RAS", spacing=(2.1, 2.3, 3.0))
    network, x, settings = Local(), volume(spec.target.shape), Inference(restoration="labels")
    ours = predict_native(network, x, spec, settings, PATCH, "cpu")
    labels = predict_labels(network, x, settings, PATCH, "cpu")
    assert np.array_equal(ours, spec.restore(labels, order="nearest", fill=0))
    assert not np.array_equal(ours, predict_native(network, x, spec, Inference(), PATCH, "cpu"))


def test_at_native_spacing_the_way_back_is_exact():
    spec = plan((30, 26, 14), axcodes="SAR", divisible_by=(8, 8, 8))
    network, x = Local(), volume(spec.target.shape)
    labels = predict_labels(network, x, Inference(), PATCH, "cpu")
    ours = predict_native(network, x, spec, Inference(), PATCH, "cpu")
    assert np.array_equal(ours, spec.restore(labels, order="nearest", fill=0))


def test_flips_average_the_mirror_images():
    network, x = Local(), volume(PATCH)
    ours = predict_logits(network, x, Inference(tta="flips"), PATCH, "cpu")
    total = torch.zeros_like(ours)
    with torch.no_grad():
        for axes in [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)]:
            total += network.eval()(x[None].flip(axes)).flip(axes)[0]
    assert (ours - total / 8).abs().max() < 1e-5
    assert (ours - predict_logits(network, x, Inference(), PATCH, "cpu")).abs().max() > 1e-3


def test_deep_supervision_uses_the_finest_output():
    class Deep(Local):
        def forward(self, x):
            return [self.layers(x), self.layers(x)[:, :, ::2, ::2, ::2]]

    x = volume((20, 20, 10))
    one, two = (predict_logits(kind(), x, Inference(), PATCH, "cpu") for kind in (Local, Deep))
    assert torch.equal(one, two)


def test_half_precision_memory_maps_are_read_as_they_are(tmp_path):
    x = volume((40, 20, 10)).half()
    np.save(tmp_path / "x.npy", x.numpy())
    mapped = np.load(tmp_path / "x.npy", mmap_mode="c")
    ours = predict_logits(Local(), mapped, Inference(), PATCH, "cpu")
    assert torch.equal(ours, predict_logits(Local(), x.float(), Inference(), PATCH, "cpu"))


def test_bfloat16_runs_and_stays_close():
    x = volume((20, 20, 10))
    exact = predict_logits(Local(), x, Inference(), PATCH, "cpu")
    half = predict_logits(Local(), x, Inference(amp="bf16"), PATCH, "cpu")
    assert half.dtype == torch.float32
    assert 0 < (half - exact).abs().max() < 0.1


class Restless(nn.Module):
    """Counts its calls in one buffer, averages in a second and replaces a third, even in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.layer = nn.Conv3d(1, 2, 1)
        self.drop = nn.Dropout(0.5)
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(1))
        self.register_buffer("last", torch.zeros(1))

    def forward(self, x):
        assert not self.training
        assert not self.drop.training
        self.calls += 1
        self.mean.mul_(0.9).add_(x.mean())
        self.last = x.mean().reshape(1)
        return self.drop(self.layer(x))


@pytest.mark.parametrize("fails", [False, True])
def test_inference_leaves_mode_and_buffers_as_they_were(fails):
    network = Restless()
    network.train()
    network.drop.eval()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    x = volume((40, 20, 10), channels=2 if fails else 1)
    if fails:
        with pytest.raises(RuntimeError):
            predict_logits(network, x, Inference(), PATCH, "cpu")
    else:
        predict_logits(network, x, Inference(), PATCH, "cpu")
    assert network.training
    assert not network.drop.training
    after = network.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before)
    network.mean.add_(1)  # still an ordinary tensor that training may change


def test_results_are_ordinary_tensors():
    logits = predict_logits(Local(), volume((20, 20, 10)), Inference(), PATCH, "cpu")
    assert not logits.is_inference()
    logits.add_(1)


def test_a_network_that_answers_on_another_grid_is_refused():
    class Strided(Local):
        def forward(self, x):
            return self.layers(x)[:, :, ::2]

    with pytest.raises(UserError, match="one answer per voxel"):
        predict_logits(Strided(), volume((20, 20, 10)), Inference(), PATCH, "cpu")


def test_as_many_label_values_as_channels_are_needed():
    with pytest.raises(UserError, match=r"3 output channels and the data set 2 label values"):
        predict_labels(Local(), volume((20, 20, 10)), Inference(), PATCH, "cpu", values=(0, 1))


def test_the_patch_of_the_settings_wins():
    network, x = Local(), volume((40, 30, 20))
    ours = predict_logits(network, x, Inference(patch=(8, 8, 8)), PATCH, "cpu")
    assert (ours - monai(network, x, patch=(8, 8, 8))).abs().max() < 1e-5


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_memory_does_not_grow_with_the_length_of_the_scan(axis):
    from harness.inference.ring import make_ring
    from harness.inference.windows import Tiling, importance

    sizes = []
    for length in (64, 640):
        shape = [32, 32, 32]
        shape[axis] = length
        tiling = Tiling.plan(tuple(shape), (16, 16, 16), 0.5)
        ring = make_ring(5, tiling, importance((16, 16, 16), "gaussian"), torch.device("cpu"))
        sizes.append(ring._sum.nbytes + ring._total.nbytes)
    assert sizes[0] == sizes[1] == 6 * 17 * 32 * 32 * 4


def test_a_prediction_takes_no_more_memory_for_more_planes_than_its_label_map():
    """Of arrays and of tensors together: only the planes along the longest axis that are still under way are held."""
    network = Local().eval()

    def peaks(planes):
        x, found = torch.zeros((1, 20, 16, planes)), []
        tracemalloc.start()
        found.append(predict_labels(network, x, Inference(), PATCH, "cpu"))
        of_arrays = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        of_tensors = allocated_peak(lambda: predict_labels(network, x, Inference(), PATCH, "cpu"))
        return of_arrays + of_tensors, found[0].nbytes

    peaks(32)  # compiles the kernels
    (short, labels_of_short), (long, labels_of_long) = peaks(32), peaks(128)
    # the label map and its copy in the axes of the volume; one byte a voxel
    assert long - short <= 2 * (labels_of_long - labels_of_short) + 65_536, (short, long)


def test_the_number_of_threads_does_not_change_the_result():
    network, x = Local(), volume((40, 30, 20))
    spec = plan((30, 26, 34), axcodes="RAS", spacing=(1.1, 1.3, 1.0))
    y = volume(spec.target.shape)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            logits = predict_logits(network, x, Inference(), PATCH, "cpu")
            results.append((logits, predict_native(network, y, spec, Inference(), PATCH, "cpu")))
    finally:
        torch.set_num_threads(before)
    assert (results[0][0] - results[1][0]).abs().max() < 1e-6
    assert (results[0][1] == results[1][1]).mean() > 0.9999
