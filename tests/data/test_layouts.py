"""Cases are found by the patterns of a card, and nothing else is taken for one."""

from __future__ import annotations

import json

import pytest

from harness.cards.dataset import DatasetCard
from harness.data.layouts import find_cases
from harness.errors import UserError


def card(options, kind="pairs", channels=("CT",)):
    return DatasetCard(
        id="tiny",
        title="tiny",
        version="1",
        task="segmentation",
        modality=("CT",),
        body="none",
        channels=channels,
        labels={0: "background", 1: "one"},
        layout={"kind": kind, "options": options},
        terms={"licence": "none", "attribution": "none", "how_to_get": "Ask a test for it.", "redistribution": True},
        citation="none",
    )


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_pairs_are_found_by_default(tmp_path):
    touch(tmp_path, "images/b.nii.gz", "images/a.nii.gz", "labels/a.nii.gz", "labels/b.nii.gz", "README.md")
    cases = find_cases(card({}), tmp_path)
    assert list(cases) == ["a", "b"]
    assert cases["a"].images == (tmp_path / "images/a.nii.gz",)
    assert cases["a"].label == tmp_path / "labels/a.nii.gz"


def test_a_case_may_lack_its_label_or_its_image(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "labels/b.nii.gz")
    cases = find_cases(card({}), tmp_path)
    assert cases["a"].label is None
    assert cases["b"].images == (tmp_path / "images/b.nii.gz",)  # where it should be


def test_channels_come_in_the_order_of_the_card(tmp_path):
    options = {"image": "{case}/{case}_{channel}.nii.gz", "label": "{case}/{case}_seg.nii.gz"}
    touch(tmp_path, "x/x_t1.nii.gz", "x/x_flair.nii.gz", "x/x_seg.nii.gz", "y/x_t1.nii.gz")
    cases = find_cases(card(options, channels=("flair", "t1")), tmp_path)
    assert list(cases) == ["x"]  # y/x_t1 names two cases at once and is none
    assert [path.name for path in cases["x"].images] == ["x_flair.nii.gz", "x_t1.nii.gz"]


def test_channels_may_be_called_otherwise_on_disk(tmp_path):
    touch(tmp_path, "images/a_0000.nii.gz", "images/a_0001.nii.gz", "labels/a.nii.gz")
    options = {"image": "images/{case}_{channel}.nii.gz", "channel_names": ["0000", "0001"]}
    cases = find_cases(card(options, channels=("T1", "T2")), tmp_path)
    assert [path.name for path in cases["a"].images] == ["a_0000.nii.gz", "a_0001.nii.gz"]


def test_one_file_may_hold_all_channels(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")
    assert len(find_cases(card({}, channels=("T1", "T2")), tmp_path)["a"].images) == 1


def test_ids_must_match_and_excluded_ones_are_left_out(tmp_path):
    touch(tmp_path, *[f"images/{name}.nii.gz" for name in ("0001", "0002", "copy of 0001")])
    cases = find_cases(card({"case_pattern": r"\d{4}", "exclude": ["0002"]}), tmp_path)
    assert list(cases) == ["0001"]


def test_hidden_files_and_macos_doubles_are_no_cases(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "images/._a.nii.gz", "__MACOSX/images/a.nii.gz", ".trash/images/z.nii.gz")
    assert list(find_cases(card({"image": "*/{case}.nii.gz"}), tmp_path)) == ["a"]


def test_a_star_stands_for_one_folder(tmp_path):
    touch(tmp_path, "batch 1/volume-0.nii", "batch 2/volume-1.nii", "batch 1/segmentation-0.nii")
    cases = find_cases(
        card({"image": "batch */volume-{case}.nii", "label": "batch */segmentation-{case}.nii"}), tmp_path
    )
    assert list(cases) == ["0", "1"]
    assert cases["0"].label == tmp_path / "batch 1/segmentation-0.nii"


def test_two_files_for_one_case_are_refused(tmp_path):
    touch(tmp_path, "batch 1/0.nii", "batch 2/0.nii")
    with pytest.raises(UserError, match=r"Case '0' has two files: .*batch 1.* and .*batch 2"):
        find_cases(card({"image": "batch */{case}.nii"}), tmp_path)


def test_characters_of_regular_expressions_in_a_path_mean_themselves(tmp_path):
    touch(tmp_path, "im (1)/a+b.nii.gz", "im (1)/a+bxnii.gz")
    assert list(find_cases(card({"image": "im (1)/{case}+b.nii.gz"}), tmp_path)) == ["a"]


def test_characters_of_globs_in_a_path_mean_themselves(tmp_path):
    touch(tmp_path, "im [CT]/a?.nii.gz", "im C/a?.nii.gz", "im [CT]/ab.nii.gz")
    cases = find_cases(card({"image": "im [CT]/{case}?.nii.gz"}), tmp_path)
    assert [str(case.images[0].relative_to(tmp_path)) for case in cases.values()] == ["im [CT]/a?.nii.gz"]


def test_unlabelled_volumes_have_no_labels(tmp_path):
    touch(tmp_path, "images/a.nii.gz", "labels/a.nii.gz")
    assert find_cases(card({}, kind="unlabelled"), tmp_path)["a"].label is None


def test_an_empty_folder_says_what_was_expected_and_what_is_there(tmp_path):
    touch(tmp_path, "Training/img0001.nii.gz")
    options = {"image": "images/{case}.nii.gz", "label": "labels/{case}.nii.gz"}
    with pytest.raises(UserError, match=r"Expected images/\{case\}\.nii\.gz; found there: Training\."):
        find_cases(card(options), tmp_path)


@pytest.mark.parametrize(
    ("options", "kind", "reason"),
    [
        ({}, "pair", "Did you mean 'pairs'"),
        ({"lable": "x"}, "pairs", "did you mean 'label'"),
        ({"image": "images/a.nii.gz"}, "pairs", "no {case}"),
    ],
)
def test_a_layout_that_makes_no_sense_is_refused(tmp_path, options, kind, reason):
    touch(tmp_path, "images/a.nii.gz")
    with pytest.raises(UserError, match=reason):
        find_cases(card(options, kind=kind), tmp_path)


def test_a_root_that_is_not_there_is_refused_with_the_way_to_get_the_data(tmp_path):
    with pytest.raises(UserError, match=r"no folder .*Ask a test for it\."):
        find_cases(card({}), tmp_path / "nowhere")


# ---------------------------------------------------------------- repacks, structures, lists


def test_a_repack_is_found_by_its_variant(tmp_path):
    options = {
        "image": "RawData/img/img{case}.nii.gz",
        "label": "RawData/label/label{case}.nii.gz",
        "case_pattern": r"\d{4}",
        "variants": [{"image": "imagesTr/img{case}.nii.gz", "label": "labelsTr/label{case}.nii.gz"}],
    }
    touch(tmp_path, "imagesTr/img0001.nii.gz", "labelsTr/label0001.nii.gz", "imagesTr/imgX.nii.gz")
    cases = find_cases(card(options), tmp_path)
    assert list(cases) == ["0001"]
    assert cases["0001"].label == tmp_path / "labelsTr/label0001.nii.gz"
    touch(tmp_path, "RawData/img/img0007.nii.gz")
    assert list(find_cases(card(options), tmp_path)) == ["0001"]  # the official layout, but without any label
    touch(tmp_path, "RawData/label/label0007.nii.gz")
    assert list(find_cases(card(options), tmp_path)) == ["0007"]  # the official layout goes first


def test_no_variant_either(tmp_path):
    options = {"image": "a/{case}.nii", "variants": [{"image": "b/{case}.nii"}]}
    with pytest.raises(UserError, match=r"Expected a/\{case\}\.nii or b/\{case\}\.nii; found there: nothing"):
        find_cases(card(options), tmp_path)


def test_an_unknown_option_of_a_variant_is_refused(tmp_path):
    with pytest.raises(UserError, match="lable"):
        find_cases(card({"variants": [{"lable": "x"}]}), tmp_path)


STRUCTURES = {"image": "{case}/img.nrrd", "structures": {"two": "{case}/s/Two.nrrd", "one": "{case}/s/One.nrrd"}}


def two_labels(options, kind):
    return card(options, kind).model_copy(update={"labels": {0: "background", 1: "one", 2: "two"}})


def test_structures_come_in_the_order_of_painting(tmp_path):
    touch(tmp_path, "a/img.nrrd", "a/s/One.nrrd", "b/img.nrrd", "b/s/Two.nrrd", "b/s/One.nrrd", "c/img.nrrd")
    cases = find_cases(two_labels(STRUCTURES, "structures"), tmp_path)
    assert cases["a"].structures == ((2, tmp_path / "a/s/Two.nrrd"), (1, tmp_path / "a/s/One.nrrd"))
    assert cases["b"].label == tmp_path / "b/s"
    assert (cases["c"].label, cases["c"].structures) == (None, ())


def nnunet(root, **content):
    touch(root, "imagesTr/x_1_0000.nii.gz", "imagesTr/x_1_0001.nii.gz", "labelsTr/x_1.nii.gz", "imagesTr/y_0000.nii.gz")
    default = {"channel_names": {"0": "T1", "1": "T2"}, "labels": {"background": 0, "one": 1}, "file_ending": ".nii.gz"}
    (root / "dataset.json").write_text(json.dumps({**default, **content}), encoding="utf-8")


def test_an_nnunet_folder(tmp_path):
    nnunet(tmp_path)
    cases = find_cases(card({}, "nnunet", ("T1", "T2")), tmp_path)
    assert list(cases) == ["x_1", "y"]
    assert [path.name for path in cases["x_1"].images] == ["x_1_0000.nii.gz", "x_1_0001.nii.gz"]
    assert cases["x_1"].label == tmp_path / "labelsTr/x_1.nii.gz"
    assert cases["y"].images[1] == tmp_path / "imagesTr/y_0001.nii.gz"  # where it should be


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ({"channel_names": {"0": "T1"}}, r"channels \['T1'\]"),
        ({"labels": {"background": 0, "one": 1, "two": 2}}, r"label values \[0, 1, 2\]"),
        ({"labels": {"0": "background", "1": "one", "5": "five"}}, r"label values \[0, 1, 5\]"),
    ],
)
def test_an_nnunet_folder_that_contradicts_the_card_is_refused(tmp_path, content, reason):
    nnunet(tmp_path, **content)
    with pytest.raises(UserError, match=reason):
        find_cases(card({}, "nnunet", ("T1", "T2")), tmp_path)


def test_an_nnunet_folder_of_version_1(tmp_path):
    nnunet(tmp_path, modality={"0": "T1", "1": "T2"}, labels={"0": "background", "1": "one"}, channel_names=None)
    assert len(find_cases(card({}, "nnunet", ("T1", "T2")), tmp_path)) == 2


@pytest.mark.parametrize("content", ["{", "[]"])
def test_an_unreadable_dataset_json_is_refused(tmp_path, content):
    nnunet(tmp_path)
    (tmp_path / "dataset.json").write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=r"dataset\.json"):
        find_cases(card({}, "nnunet", ("T1", "T2")), tmp_path)


def test_a_json_list(tmp_path):
    rows = [
        {"image": ["i/a.t1.nii.gz", "i/a.t2.nii.gz"], "label": "l/a.nii.gz", "who": "A"},
        {"image": "i/b.nii.gz", "who": "B"},
    ]
    (tmp_path / "list.json").write_text(json.dumps({"train": rows}), encoding="utf-8")
    options = {"file": "list.json", "section": "train", "id": "who"}
    cases = find_cases(card(options, "datalist", ("t1", "t2")), tmp_path)
    assert [path.name for path in cases["A"].images] == ["a.t1.nii.gz", "a.t2.nii.gz"]
    assert cases["A"].label == tmp_path / "l/a.nii.gz"
    assert cases["B"].label is None


def test_a_csv_list_with_a_column_a_channel(tmp_path):
    (tmp_path / "list.csv").write_text(
        "image_t1,image_t2,label\na_t1.nii.gz,a_t2.nii.gz,a_seg.nii.gz\n", encoding="utf-8"
    )
    options = {"file": "list.csv", "image": "image_{channel}", "case_pattern": r"(\w+)_t1\.nii\.gz"}
    cases = find_cases(card(options, "datalist", ("t1", "t2")), tmp_path)
    assert [path.name for path in cases["a"].images] == ["a_t1.nii.gz", "a_t2.nii.gz"]


@pytest.mark.parametrize(
    ("text", "options", "reason"),
    [
        ("image,label\na.nii,b.nii\na.nii,c.nii\n", {}, "names the case 'a' twice"),
        ("scan,label\na.nii,b.nii\n", {}, r"no column 'image'; it has \['label', 'scan'\]"),
        ("image,label\na.nii,b.nii\n", {"id": "who"}, "no column 'who'"),
        ("image,label\na.nii,b.nii\n", {"case_pattern": r"(\d+)\.nii"}, "no id can be taken from 'a.nii'"),
    ],
)
def test_a_list_that_makes_no_sense_is_refused(tmp_path, text, options, reason):
    (tmp_path / "list.csv").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=reason):
        find_cases(card({"file": "list.csv", **options}, "datalist"), tmp_path)


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"dataset\.json cannot be read"):
        find_cases(card({}, "datalist"), tmp_path)
    (tmp_path / "dataset.json").write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="no list of cases under 'training'"):
        find_cases(card({}, "datalist"), tmp_path)
