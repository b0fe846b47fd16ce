"""Where data lie: given, environment, remembered, bundled; the first that is set counts and is never skipped."""

from __future__ import annotations

import pytest

from harness.cards.library import dataset_card
from harness.data.roots import SYNTHETIC_MARK, data_root, marked, remember, remembered
from harness.errors import HarnessError, UserError


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("HARNESS_DATA_CT_HEADNECK_OAR", raising=False)
    return tmp_path / "config" / "harness" / "data_roots.json"


@pytest.fixture
def bundled():
    return dataset_card("ct_headneck_oar")


@pytest.fixture
def folders(tmp_path):
    for name in ("given", "environment", "remembered"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_the_order_of_precedence(bundled, folders, monkeypatch):
    card, home = bundled
    assert data_root(card, home) == home.resolve()
    assert remember(card.id, folders / "remembered").is_file()
    assert data_root(card, home) == folders / "remembered"
    monkeypatch.setenv("HARNESS_DATA_CT_HEADNECK_OAR", str(folders / "environment"))
    assert data_root(card, home) == folders / "environment"
    assert data_root(card, home, folders / "given") == folders / "given"


@pytest.mark.parametrize("how", ["given", "environment", "remembered"])
def test_a_wrong_path_is_an_error_and_not_skipped(bundled, folders, monkeypatch, how):
    card, home = bundled
    gone = folders / "gone"
    if how == "environment":
        monkeypatch.setenv("HARNESS_DATA_CT_HEADNECK_OAR", str(gone))
    if how == "remembered":
        gone.mkdir()
        remember(card.id, gone)
        gone.rmdir()
    with pytest.raises(UserError, match=r"gone.*no such folder"):
        data_root(card, home, gone if how == "given" else None)


def test_a_set_that_lies_nowhere_says_how_to_get_it(bundled):
    card, home = bundled
    elsewhere = card.model_copy(update={"bundled": False})
    with pytest.raises(
        UserError, match=r"How to get it: .*harness data add ct_headneck_oar PATH.*HARNESS_DATA_CT"
    ) as caught:
        data_root(elsewhere, home)
    assert caught.value.exit_code == 2


def test_several_sets_are_remembered(folders):
    remember("a", folders / "given")
    remember("b", folders / "environment")
    remember("a", folders / "remembered")
    assert remembered() == {"a": folders / "remembered", "b": folders / "environment"}


def test_only_a_folder_is_remembered(tmp_path, user):
    with pytest.raises(UserError, match="no folder"):
        remember("a", tmp_path / "nowhere")
    assert not user.exists()


@pytest.mark.parametrize("content", ["{", "[1]", '{"a": 3}'])
def test_a_damaged_memory_is_named(user, content):
    user.parent.mkdir(parents=True)
    user.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"data_roots\.json"):
        remembered()


def test_a_memory_that_cannot_be_written_is_the_machine_s_fault(tmp_path, user, folders):
    (tmp_path / "config").write_text("a file where a folder is needed", encoding="utf-8")
    with pytest.raises(HarnessError) as caught:
        remember("a", folders / "given")
    assert caught.value.exit_code == 1


@pytest.mark.parametrize("depth", ["", "RawData/Training"])
def test_made_up_volumes_in_the_layout_of_a_real_set_are_marked(tmp_path, depth):
    card, _ = dataset_card("btcv")
    root = tmp_path / "x" / depth
    root.mkdir(parents=True)
    assert marked(card, root) == card
    (tmp_path / "x" / SYNTHETIC_MARK).write_text("{}", encoding="utf-8")
    assert marked(card, root).evidence == ("synthetic_data",)
    assert marked(marked(card, root), root).evidence == ("synthetic_data",)
