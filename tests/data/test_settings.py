from __future__ import annotations

import pytest

from harness.cards.base import parse
from harness.data.settings import Augmentation, Flip, Foreign, IntensityRule, Patches, Preprocessing
from harness.errors import UserError


def test_a_misspelt_setting_is_refused_with_the_nearest_name():
    with pytest.raises(UserError, match="positive_fraction"):
        parse(Patches, {"size": [8, 8, 8], "positiv_fraction": 0.5}, "protocol")


def test_a_misspelt_transform_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(UserError, match=r"'flipp'.*'gaussian_noise'"):
        parse(Augmentation, {"transforms": [{"name": "flipp", "axes": [0]}]}, "protocol")


def test_an_error_in_a_transform_speaks_of_that_transform_alone():
    with pytest.raises(UserError, match=r"did you mean 'axes'") as caught:
        parse(Augmentation, {"transforms": [{"name": "flip", "axis": [0]}]}, "protocol")
    assert "_target_" not in str(caught.value)


def test_flips_have_no_default_axis():
    with pytest.raises(UserError, match="axes"):
        parse(Augmentation, {"transforms": [{"name": "flip"}]}, "protocol")


def test_settings_survive_the_way_through_plain_values():
    written = {"transforms": [{"name": "flip", "axes": [2]}, {"_target_": "a.b.C", "prob": 0.3, "keys": ["image"]}]}
    settings = parse(Augmentation, written, "protocol")
    assert parse(Augmentation, settings.model_dump(mode="json"), "record") == settings
    foreign = settings.transforms[1]
    assert isinstance(foreign, Foreign)
    assert foreign.options == {"prob": 0.3, "keys": ["image"]}


def test_settings_do_not_change():
    with pytest.raises(ValueError, match="frozen"):
        Flip(axes=(0,)).axes = (1,)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("kind", "values", "why"),
    [
        (Preprocessing, {"axcodes": "RLS"}, "one direction twice"),
        (Preprocessing, {"axcodes": "XYZ"}, "axcodes"),
        (Preprocessing, {"spacing": [1, 0, 1]}, "above 0"),
        (IntensityRule, {"rule": "window"}, "needs window"),
        (IntensityRule, {"rule": "window", "window": [1000, -1000]}, "must rise"),
        (IntensityRule, {"rule": "zscore", "percentiles": [0.5, 101]}, "between 0 and 100"),
        (Patches, {"size": [8, 8, 0]}, "greater than 0"),
        (Patches, {"size": [8, 8, 8], "positive_fraction": 1.5}, "less than or equal to 1"),
    ],
)
def test_values_that_make_no_sense_are_refused(kind, values, why):
    with pytest.raises(UserError, match=why):
        parse(kind, values, "protocol")
