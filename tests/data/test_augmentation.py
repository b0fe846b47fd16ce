from __future__ import annotations

import numpy as np
import pytest
from monai.transforms import MapTransform, Randomizable

from harness.cards.base import parse
from harness.data.augmentation import Augmenter
from harness.data.settings import Augmentation
from harness.errors import UserError


def augmenter(*transforms):
    return Augmenter(parse(Augmentation, {"transforms": list(transforms)}, "test"))


def patch(seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(1, 10, 8, 6)).astype(np.float32), rng.integers(0, 3, (10, 8, 6))


def apply(augment, seed=0, label=True):
    image, labels = patch()
    augment.change(image, labels if label else None, (0.0,), np.random.default_rng(seed))
    return image, labels


def test_transforms_that_do_not_happen_leave_the_patch():
    names = ["scale_intensity", "shift_intensity", "gaussian_noise", "gaussian_smooth", "gamma", "low_resolution"]
    nothing = augmenter(*({"name": name, "probability": 0} for name in names), {"name": "affine", "probability": 0})
    for one, two in zip(apply(nothing), patch(), strict=True):
        assert np.array_equal(one, two)


def test_flips_and_affines_that_stand_first_are_read_through_and_later_ones_are_applied_in_their_place():
    first = augmenter({"name": "flip", "axes": [0], "probability": 1}, {"name": "shift_intensity", "probability": 0})
    assert first.motion(np.random.default_rng(0)).flips == (True, False, False)
    image, label = apply(first)
    assert np.array_equal(image, patch()[0])

    later = augmenter({"name": "shift_intensity", "probability": 0}, {"name": "flip", "axes": [0], "probability": 1})
    assert later.motion(np.random.default_rng(0)).is_nothing
    image, label = apply(later)
    assert np.array_equal(image, patch()[0][:, ::-1])
    assert np.array_equal(label, patch()[1][::-1])


def test_a_later_affine_moves_image_and_label_together():
    image, label = patch()
    image[0] = label
    turn = {"name": "affine", "probability": 1, "rotate": [0, 0, 0], "translate": [2, 1, 1]}
    augment = augmenter({"name": "gamma", "probability": 0}, turn)
    augment.change(image, label, (0.0,), np.random.default_rng(3))
    assert label.any()
    assert np.abs(image[0] - label).mean() < 0.8
    assert not np.array_equal(label, patch()[1])


def test_the_order_of_the_settings_is_the_order_of_application():
    scale = {"name": "scale_intensity", "factors": [1.0, 1.0 + 1e-12], "probability": 1}
    shift = {"name": "shift_intensity", "offsets": [1.0, 1.0 + 1e-12], "probability": 1}
    image = patch()[0]
    assert np.allclose(apply(augmenter(scale, shift))[0], image * 2 + 1, atol=1e-5)
    assert np.allclose(apply(augmenter(shift, scale))[0], (image + 1) * 2, atol=1e-5)


def test_monai_array_transforms_drop_in_and_are_seeded_per_sample():
    augment = augmenter({"_target_": "monai.transforms.RandGaussianNoise", "prob": 1.0, "std": 0.5})
    one, label = apply(augment, seed=1)
    assert np.array_equal(one, apply(augment, seed=1)[0])
    assert not np.array_equal(one, apply(augment, seed=2)[0])
    assert 0.1 < (one - patch()[0]).std() < 1
    assert np.array_equal(label, patch()[1])


def test_monai_dictionary_transforms_get_image_and_label():
    options = {"_target_": "monai.transforms.RandFlipd", "keys": ["image", "label"], "prob": 1.0, "spatial_axis": 1}
    image, label = apply(augmenter(options))
    assert np.array_equal(image, patch()[0][:, :, ::-1])
    assert np.array_equal(label, patch()[1][:, ::-1])
    assert label.dtype == np.int64


def test_deterministic_transforms_and_unlabelled_patches_work():
    image, _ = apply(augmenter({"_target_": "monai.transforms.ShiftIntensity", "offset": 2.0}), label=False)
    assert np.allclose(image, patch()[0] + 2)


class InPlace(MapTransform, Randomizable):
    """Writes into what it is given, as careless transforms do."""

    def __call__(self, data):
        data["image"][:] = 7
        return data


def test_transforms_that_write_in_place_are_harmless(monkeypatch):
    import monai.transforms

    monkeypatch.setattr(monai.transforms, "InPlace", InPlace, raising=False)
    image, _ = apply(augmenter({"_target_": "monai.transforms.InPlace", "keys": ["image"]}))
    assert (image == 7).all()


@pytest.mark.parametrize(
    ("transform", "why"),
    [
        ({"_target_": "monai.transforms.RandBiasFeild"}, "Did you mean 'RandBiasField'"),
        ({"_target_": "monai_no_such_thing.transforms.X"}, "cannot be imported"),
        ({"_target_": "monai.transforms.RandFlip", "probability": 0.5}, "does not take"),
    ],
)
def test_a_wrong_path_or_option_is_refused_before_the_first_step(transform, why):
    with pytest.raises(UserError, match=why):
        augmenter(transform)


def test_a_transform_that_changes_the_shape_is_refused():
    with pytest.raises(UserError, match=r"from shape \(1, 10, 8, 6\) to \(1, 4, 4, 4\)"):
        apply(augmenter({"_target_": "monai.transforms.CenterSpatialCrop", "roi_size": [4, 4, 4]}))
