"""Reading volumes as they really are: against nibabel and SimpleITK, and refusing what cannot be read right."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.cards.base import parse
from harness.cards.dataset import DatasetCard
from harness.data.check import check
from harness.data.layouts import find_cases
from harness.data.preprocessing import prepare
from harness.data.reading import as_labels, read, write_labels, write_volume
from harness.data.settings import Preprocessing
from harness.data.synthetic import write
from harness.errors import HarnessError, UserError
from harness.files import file_sha256
from harness.grid import Grid

REPOSITORY = Path(__file__).parents[2]
BUNDLED = sorted(REPOSITORY.glob("datasets/*/images*/*.nii.gz")) + sorted(
    REPOSITORY.glob("datasets/*/labels*/*.nii.gz")
)
OBLIQUE = np.array([[-1.9, 0.3, 0.1, 80], [0.3, 1.8, -0.5, -60], [0.05, 0.4, 3.0, 12], [0, 0, 0, 1]])


def save(path, data, affine=OBLIQUE, change=None, kind=nibabel.Nifti1Image, header=None):
    """Write with nibabel; ``change`` may set the affines of the header, which then stay as they are."""
    if change is not None:
        header = kind.header_class()
        header.set_data_dtype(data.dtype)
        header.set_data_shape(data.shape)
        header.set_zooms((2, 1, 1))
        change(header)
    nibabel.save(kind(data, affine if change is None else None, header, dtype=data.dtype), path)
    return path


def alike(path):
    """Assert that we read what nibabel reads; return it."""
    volume, image = read(path), nibabel.load(path)
    expected = np.asanyarray(image.dataobj)
    np.testing.assert_array_equal(volume.data, expected)
    assert volume.data.dtype == expected.dtype.newbyteorder("=")
    np.testing.assert_array_equal(volume.grid.matrix, image.affine)
    return volume


def scan(shape=(5, 6, 7), dtype=np.int16):
    return np.random.default_rng(1).integers(0, 120, shape).astype(dtype)


# ---------------------------------------------------------------- NIfTI as nibabel reads it


def test_there_are_bundled_volumes():
    assert len(BUNDLED) >= 58


@pytest.mark.parametrize("path", BUNDLED[::4], ids=lambda path: f"{path.parts[-3]}-{path.name}")
def test_bundled_volumes_read_as_with_nibabel(path):
    volume = alike(path)
    assert volume.dtype == nibabel.load(path).get_data_dtype()


@pytest.mark.parametrize("dtype", ["u1", "i1", "<i2", ">i2", "<u2", ">i4", "<u4", "<i8", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_all_types_in_both_byte_orders(tmp_path, dtype, ending):
    header = nibabel.Nifti1Header(endianness=">" if dtype.startswith(">") else "<")
    header.set_data_dtype(dtype)
    path = save(tmp_path / f"x{ending}", scan(dtype=np.dtype(dtype).newbyteorder("=")), header=header)
    volume = alike(path)
    assert volume.dtype == np.dtype(dtype)
    assert volume.header["byte_order"] == ("big" if dtype.startswith(">") else "little")


def test_nifti_2(tmp_path):
    assert alike(save(tmp_path / "x.nii.gz", scan(), kind=nibabel.Nifti2Image)).header["format"] == "NIfTI-2"


@pytest.mark.parametrize(("slope", "inter"), [(2.0, -1024.0), (0.1, 0.0), (1.0, 5.0), (0.0, 7.0), (1.0, 0.0)])
@pytest.mark.parametrize("dtype", [np.int16, np.float32, np.uint8])
def test_slope_and_intercept_are_applied(tmp_path, slope, inter, dtype):
    path = save(tmp_path / "x.nii", scan(dtype=dtype))
    content = bytearray(path.read_bytes())
    content[112:120] = np.array([slope, inter], "<f4").tobytes()
    path.write_bytes(content)
    volume = alike(path)
    if slope not in (0.0, 1.0) or (slope == 1.0 and inter):
        assert volume.data.dtype == np.float64


@pytest.mark.parametrize(
    ("shape", "read_as"), [((4, 5, 6, 3), (4, 5, 6, 3)), ((4, 5, 6, 1), (4, 5, 6)), ((4, 5, 6, 1, 3), (4, 5, 6, 3))]
)
def test_four_axes_are_kept_and_single_ones_dropped(tmp_path, shape, read_as):
    data = scan(shape)
    volume = read(save(tmp_path / "x.nii.gz", data))
    np.testing.assert_array_equal(volume.data, data.reshape(read_as))
    assert volume.grid.shape == (4, 5, 6)


def test_a_header_extension_is_stepped_over(tmp_path):
    image = nibabel.Nifti1Image(scan(), OBLIQUE)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"words " * 50))
    nibabel.save(image, tmp_path / "x.nii.gz")
    alike(tmp_path / "x.nii.gz")


def test_gzip_members_one_after_the_other_are_one_file(tmp_path):
    whole = save(tmp_path / "x.nii", scan()).read_bytes()
    (tmp_path / "x.nii.gz").write_bytes(b"".join(gzip.compress(whole[i : i + 200]) for i in range(0, len(whole), 200)))
    alike(tmp_path / "x.nii.gz")


def test_a_cut_in_a_later_gzip_member_is_found(tmp_path):
    whole = save(tmp_path / "x.nii", scan()).read_bytes()
    packed = gzip.compress(whole[:400]) + gzip.compress(whole[400:])
    (tmp_path / "x.nii.gz").write_bytes(packed[:-9])
    with pytest.raises(UserError, match="cannot be decompressed"):
        read(tmp_path / "x.nii.gz")


def test_the_named_file_is_read_even_if_an_unpacked_one_lies_beside_it(tmp_path):
    save(tmp_path / "x.nii", np.zeros((3, 4, 5), np.int16))
    save(tmp_path / "x.nii.gz", np.ones((3, 4, 5), np.int16))
    assert (read(tmp_path / "x.nii.gz").data == 1).all()
    assert (read(tmp_path / "x.nii").data == 0).all()


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_voxels_can_be_written_to(tmp_path, ending):
    read(save(tmp_path / f"x{ending}", scan())).data[0, 0, 0] = 5


def test_a_type_can_be_asked_for(tmp_path):
    path = save(tmp_path / "x.nii.gz", scan())
    assert read(path, dtype=np.float32).data.dtype == np.float32
    assert read(path, dtype=np.float32).dtype == np.int16


# ---------------------------------------------------------------- orientation in NIfTI headers


def test_sform_goes_before_qform_and_the_conflict_is_told(tmp_path):
    def change(header):
        header.set_qform(np.diag([-1.0, -1, 1, 1]), code=1)
        header.set_sform(OBLIQUE, code=2)

    facts = alike(save(tmp_path / "x.nii.gz", scan(), change=change)).header
    assert (facts["affine_from"], facts["qform_code"], facts["sform_code"]) == ("sform", 1, 2)
    assert facts["qform_sform_apart_mm"] > 50


def test_qform_alone_is_used(tmp_path):
    def change(header):
        header.set_sform(None, code=0)
        header.set_qform(np.diag([-2.0, -1, 1, 1]), code=1)

    volume = alike(save(tmp_path / "x.nii.gz", scan(), change=change))
    assert volume.header["affine_from"] == "qform"
    assert volume.grid.axcodes == "LPS"


def test_neither_qform_nor_sform_is_told(tmp_path):
    def change(header):
        header.set_sform(None, code=0)
        header.set_qform(None, code=0)

    facts = alike(save(tmp_path / "x.nii.gz", scan(), change=change)).header
    assert facts["affine_from"] == "spacing"
    assert facts["qform_sform_apart_mm"] is None


def test_a_broken_qfac_is_mended_as_nibabel_does(tmp_path):
    def change(header):
        header.set_sform(None, code=0)
        header.set_qform(np.diag([2.0, 1, 1, 1]), code=1)

    path = save(tmp_path / "x.nii", scan(), change=change)
    content = bytearray(path.read_bytes())
    content[76:80] = np.float32(0).tobytes()
    path.write_bytes(content)
    alike(path)


# ---------------------------------------------------------------- other formats


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_metaimage_and_nrrd_lie_where_nifti_puts_them(tmp_path, ending):
    """SimpleITK writes the same image in both ways; the NIfTI is read with nibabel as the oracle."""
    image = sitk.GetImageFromArray(scan((7, 6, 5)))
    image.SetSpacing((0.8, 1.1, 2.5))
    image.SetOrigin((10.0, -20.0, 30.0))
    turn = sitk.Euler3DTransform((0, 0, 0), 0.2, -0.1, 0.3)
    image.SetDirection(turn.GetMatrix())
    sitk.WriteImage(image, str(tmp_path / f"x{ending}"))
    sitk.WriteImage(image, str(tmp_path / "y.nii.gz"))
    volume, oracle = read(tmp_path / f"x{ending}"), nibabel.load(tmp_path / "y.nii.gz")
    np.testing.assert_array_equal(volume.data, np.asanyarray(oracle.dataobj))
    np.testing.assert_allclose(volume.grid.matrix, oracle.affine, atol=1e-4)
    assert volume.grid.shape == (5, 6, 7)


def test_components_of_an_nrrd_come_last(tmp_path):
    channels = [scan((7, 6, 5)) + number for number in range(3)]
    image = sitk.Compose([sitk.GetImageFromArray(channel) for channel in channels])
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    volume = read(tmp_path / "x.nrrd")
    assert volume.data.shape == (5, 6, 7, 3)
    np.testing.assert_array_equal(volume.data[..., 2], channels[2].T)


def write_series(folder, positions, values=None, shift=0.0, turned=None):
    """Write one slice a position; each further one is shifted sideways, and slice ``turned`` has other axes."""
    folder.mkdir()
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for number, z in enumerate(positions):
        plane = np.full((1, 6, 5), number if values is None else values[number], np.int16)
        image = sitk.GetImageFromArray(plane)
        image.SetSpacing((0.7, 0.9, 2.0))
        x = 1 + shift * number
        image.SetOrigin((x, 2, z))
        for tag, value in {
            "0008|0060": "CT",
            "0008|0016": "1.2.840.10008.5.1.4.1.1.2",
            "0020|000d": "1.2.3",
            "0020|000e": "1.2.3.4",
            "0008|0018": f"1.2.3.4.{number}",
            "0020|0013": str(number),
            "0020|0032": f"{x}\\2\\{z}",
            "0020|0037": "0\\1\\0\\0\\0\\-1" if number == turned else "1\\0\\0\\0\\1\\0",
        }.items():
            image.SetMetaData(tag, value)
        writer.SetFileName(str(folder / f"slice{(number * 7) % 10}.dcm"))  # names in another order than positions
        writer.Execute(image)
    return folder


def test_a_dicom_series_is_put_in_order(tmp_path):
    volume = read(write_series(tmp_path / "series", [30.0, 34.0, 32.0, 36.0]))
    assert volume.data.shape == (5, 6, 4)
    np.testing.assert_array_equal(volume.data[0, 0], [0, 2, 1, 3])
    np.testing.assert_allclose(volume.grid.spacing, (0.7, 0.9, 2.0))
    np.testing.assert_allclose(volume.grid.matrix[:3, 3], (-1, -2, 30))
    assert volume.grid.axcodes == "LPS"


def test_a_dicom_series_with_a_missing_slice_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"2\.000 mm apart, but .* 4\.000 mm apart: a slice is missing"):
        read(write_series(tmp_path / "series", [30.0, 32.0, 36.0, 38.0]))


def test_a_dicom_series_can_be_the_scan_of_a_case(tmp_path):
    """Found, checked and prepared like a file; only its findings are not remembered, since a folder has no one time."""
    written = write(tmp_path / "unused", cases=3)
    layout = {"kind": "pairs", "options": {"image": "{case}/scan", "label": "{case}/labels.nii.gz"}}
    card = parse(DatasetCard, {**written.model_dump(), "layout": layout, "splits": (), "num_cases": 2}, "a test")
    for number, name in enumerate(("a", "b")):
        (tmp_path / "set" / name).mkdir(parents=True)
        series = write_series(tmp_path / "set" / name / "scan", [30.0, 34.0, 32.0, 36.0], [7, 8, 9 + number, 6])
        labels = np.zeros((5, 6, 4), np.uint8)
        labels[1:3, 2:4, 1:3] = 1
        write_labels(tmp_path / "set" / name / "labels.nii.gz", labels, read(series))
    cases = find_cases(card, tmp_path / "set")
    report = check(card, cases, cache=tmp_path / "cache")
    assert report.findings == ()
    assert report.facts["b"].ranges == ((6.0, 10.0),)
    prepared = prepare(card, cases, report.facts, Preprocessing(axcodes="RAS"), tmp_path / "cache").case("b")
    np.testing.assert_array_equal(prepared.image[0, 0, 0], [7, 10, 8, 6])
    assert prepared.label is not None
    assert prepared.label.sum() == 8
    assert check(card, cases, cache=tmp_path / "cache") == report


def test_a_direction_without_volume_is_refused_in_words(tmp_path):
    path = tmp_path / "x.mha"
    sitk.WriteImage(sitk.GetImageFromArray(scan()), str(path))
    path.write_bytes(path.read_bytes().replace(b"TransformMatrix = 1 0 0", b"TransformMatrix = 0 0 0"))
    with pytest.raises(UserError, match=r"cannot be read: .*determinant is 0"):
        read(path)


@pytest.mark.parametrize(
    ("how", "reason"),
    [({"shift": 0.5}, r"shifted against each other by up to 1\.50 mm"), ({"turned": 2}, "another orientation")],
)
def test_slices_that_make_no_volume_are_refused(tmp_path, how, reason):
    with pytest.raises(UserError, match=reason):
        read(write_series(tmp_path / "series", [30.0, 32.0, 34.0, 36.0], **how))


def test_a_folder_without_a_dicom_series_is_refused(tmp_path, capfd):
    with pytest.raises(UserError, match="0 DICOM series"):
        read(tmp_path)
    assert capfd.readouterr().err == ""  # ITK's own warning would be a second, worse message


# ---------------------------------------------------------------- what cannot be read is refused


def overwrite(start, value):
    def damage(content):
        return content[:start] + value + content[start + len(value) :]

    return damage


NIFTI_DAMAGE = {
    "cut off": (lambda c: c[:-10], r"ends after \d+ bytes .* announces \d+"),
    "no NIfTI": (lambda c: b"<!DOCTYPE html>" + c[15:], "does not begin like a NIfTI"),
    "empty": (lambda c: b"", "does not begin like|is empty"),
    "only half a header": (lambda c: c[:200], "damaged"),
    "unknown type": (overwrite(70, np.int16(9999).tobytes()), "header .* cannot be read"),
    "colour": (overwrite(70, np.int16(128).tobytes() + np.int16(24).tobytes()), "RGB"),
    "complex": (overwrite(70, np.int16(32).tobytes() + np.int16(64).tobytes()), "complex"),
    "two axes": (overwrite(40, np.int16(2).tobytes()), "three axes"),
    "an axis of nothing": (overwrite(42, np.int16(0).tobytes()), "at least one voxel"),
    "metres": (overwrite(123, bytes([1])), "lengths in m"),
    "Analyze": (overwrite(344, b"\0\0\0\0"), "Analyze"),
    "singular sform": (overwrite(280, np.zeros(12, "<f4").tobytes()), "flattens space"),
    "NaN in the sform": (overwrite(280, np.float32("nan").tobytes()), "finite"),
    "voxels that begin nowhere": (overwrite(108, np.float32("nan").tobytes()), "begin at byte nan"),
    "voxels that begin at infinity": (overwrite(108, np.float32("-inf").tobytes()), "begin at byte -inf"),
    "more voxels than 64 bits can count": (overwrite(40, np.array([7, *[32767] * 7], "<i2").tobytes()), "ends after"),
    "infinite slope": (overwrite(112, np.array([2, np.inf], "<f4").tobytes()), "scaling"),
}


@pytest.mark.parametrize("name", NIFTI_DAMAGE)
@pytest.mark.parametrize("packed", [False, True], ids=["nii", "nii.gz"])
def test_a_damaged_nifti_is_refused_with_its_path_and_reason(tmp_path, name, packed):
    damage, reason = NIFTI_DAMAGE[name]
    content = damage(save(tmp_path / "good.nii", scan()).read_bytes())
    path = tmp_path / ("bad.nii.gz" if packed else "bad.nii")
    path.write_bytes(gzip.compress(content) if packed else content)
    with pytest.raises(UserError, match=reason) as caught:
        read(path)
    assert caught.value.exit_code == 2
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("cut", [-1, -8, -300, 30, 3])
def test_a_truncated_gzip_is_refused(tmp_path, cut):
    path = save(tmp_path / "x.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)))
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(UserError, match=r"cannot be decompressed .* cut off"):
        read(path)


def test_a_flipped_bit_is_found_by_the_checksum(tmp_path):
    path = save(tmp_path / "x.nii.gz", np.random.default_rng(0).normal(size=(9, 9, 9)))
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="cannot be decompressed"):
        read(path)


def test_a_name_that_denies_the_compression_is_refused(tmp_path):
    packed = save(tmp_path / "x.nii.gz", scan()).read_bytes()
    (tmp_path / "y.nii").write_bytes(packed)
    (tmp_path / "z.nii.gz").write_bytes(gzip.decompress(packed))
    with pytest.raises(UserError, match=r"compressed .* Rename it to y\.nii\.gz"):
        read(tmp_path / "y.nii")
    with pytest.raises(UserError, match=r"not compressed .* Rename it to z\.nii,"):
        read(tmp_path / "z.nii.gz")


@pytest.mark.parametrize("name", ["x.nii", "x.nii.gz"])
def test_an_empty_file_is_called_empty(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"is empty \(0 bytes\)"):
        read(tmp_path / name)


def test_a_missing_file_and_an_unknown_format_are_refused(tmp_path):
    with pytest.raises(UserError, match="no file"):
        read(tmp_path / "x.nii.gz")
    (tmp_path / "x.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"format of x\.png is not known"):
        read(tmp_path / "x.png")


@pytest.mark.parametrize("ending", [".mha", ".nrrd"])
def test_a_cut_off_metaimage_or_nrrd_is_refused(tmp_path, ending):
    path = tmp_path / f"x{ending}"
    sitk.WriteImage(sitk.GetImageFromArray(scan((17, 16, 15))), str(path))
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match=r"cannot be read|cut off"):
        read(path)


# ---------------------------------------------------------------- labels


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32, np.float64, np.int64])
def test_labels_of_any_type_become_small_integers(tmp_path, dtype):
    volume = read(save(tmp_path / "x.nii.gz", scan(dtype=dtype)))
    labels = as_labels(volume)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, volume.data)


def test_large_label_values_get_a_wider_type(tmp_path):
    assert as_labels(read(save(tmp_path / "x.nii.gz", np.full((2, 2, 2), 2035, np.float32)))).dtype == np.uint16
    assert as_labels(read(save(tmp_path / "y.nii.gz", np.full((2, 2, 2), 70000, np.int32)))).dtype == np.uint32


@pytest.mark.parametrize(
    ("value", "reason"),
    [(0.5, "not whole numbers"), (-1, "label -1"), (np.nan, "NaN"), (np.inf, "infinite"), (1e20, "too large")],
)
def test_what_is_no_label_is_refused(tmp_path, value, reason):
    data = np.zeros((3, 3, 3), np.float32)
    data[1, 1, 1] = value
    with pytest.raises(UserError, match=reason):
        as_labels(read(save(tmp_path / "x.nii.gz", data)))


# ---------------------------------------------------------------- writing back

GEOMETRY = ["pixdim", "qform_code", "sform_code", "quatern_b", "quatern_c", "quatern_d", "qoffset_x", "qoffset_y"]
GEOMETRY += ["qoffset_z", "srow_x", "srow_y", "srow_z", "xyzt_units"]


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(0, 2**31), st.sampled_from("<>"), st.booleans(), st.sampled_from([".nii", ".nii.gz"]))
def test_labels_get_the_exact_geometry_of_the_scan(tmp_path_factory, seed, order, second, ending):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.mktemp("geometry")
    shape = tuple(rng.integers(1, 6, 3))
    kind = nibabel.Nifti2Image if second else nibabel.Nifti1Image
    image = kind(np.zeros(shape, np.int16), np.eye(4), kind.header_class(endianness=order))
    image.header.set_qform(OBLIQUE + np.pad(rng.normal(0, 0.1, (3, 4)), ((0, 1), (0, 0))), code=1, strip_shears=True)
    image.header.set_sform(OBLIQUE, code=2)
    nibabel.save(image, folder / "scan.nii.gz")
    labels = rng.integers(0, 300, shape)
    write_labels(folder / f"labels{ending}", labels, folder / "scan.nii.gz")
    back, scan_ = nibabel.load(folder / f"labels{ending}"), nibabel.load(folder / "scan.nii.gz")
    for name in GEOMETRY:
        np.testing.assert_array_equal(back.header[name], scan_.header[name], name)
    assert back.header.endianness == order
    np.testing.assert_array_equal(np.asanyarray(back.dataobj), labels)
    np.testing.assert_array_equal(read(folder / f"labels{ending}").data, labels)


@pytest.mark.parametrize(("highest", "dtype"), [(0, np.uint8), (255, np.uint8), (256, np.uint16), (65535, np.uint16)])
def test_labels_are_stored_in_the_smallest_type(tmp_path, highest, dtype):
    source = save(tmp_path / "scan.nii.gz", scan())
    labels = np.zeros((5, 6, 7), np.int64)
    labels[0, 0, 0] = highest
    write_labels(tmp_path / "x.nii.gz", labels, read(source))
    assert read(tmp_path / "x.nii.gz").dtype == dtype


def test_labels_of_a_4d_scan_have_three_axes(tmp_path):
    write_labels(tmp_path / "x.nii.gz", np.ones((4, 5, 6), int), save(tmp_path / "scan.nii.gz", scan((4, 5, 6, 3))))
    image = nibabel.load(tmp_path / "x.nii.gz")
    assert image.shape == (4, 5, 6)
    np.testing.assert_allclose(image.affine, OBLIQUE, rtol=1e-6)


def test_labels_for_an_nrrd_scan_lie_on_it(tmp_path):
    image = sitk.GetImageFromArray(scan((7, 6, 5)))
    image.SetSpacing((0.8, 1.1, 2.5))
    image.SetOrigin((10.0, -20.0, 30.0))
    sitk.WriteImage(image, str(tmp_path / "x.nrrd"))
    write_labels(tmp_path / "l.nii.gz", np.ones((5, 6, 7), int), tmp_path / "x.nrrd")
    back = sitk.ReadImage(str(tmp_path / "l.nii.gz"))
    np.testing.assert_allclose(back.GetOrigin(), image.GetOrigin(), rtol=1e-6)
    np.testing.assert_allclose(back.GetSpacing(), image.GetSpacing(), rtol=1e-6)
    np.testing.assert_allclose(back.GetDirection(), image.GetDirection(), atol=1e-6)


def test_the_same_labels_give_the_same_bytes(tmp_path):
    source = save(tmp_path / "scan.nii.gz", scan())
    for name in ("a", "b"):
        write_labels(tmp_path / f"{name}.nii.gz", scan(dtype=np.uint8), source)
    assert file_sha256(tmp_path / "a.nii.gz") == file_sha256(tmp_path / "b.nii.gz")


def test_itk_reads_what_we_write(tmp_path):
    grid = Grid((5, 6, 7), nibabel.affines.from_matvec(np.diag([-0.8, -1.1, 2.5]), (10, 20, 30)))
    data = scan()
    write_volume(tmp_path / "x.nii.gz", data, grid)
    image = sitk.ReadImage(str(tmp_path / "x.nii.gz"))
    np.testing.assert_array_equal(sitk.GetArrayFromImage(image).T, data)
    np.testing.assert_allclose(image.GetOrigin(), (-10, -20, 30), atol=1e-5)
    np.testing.assert_allclose(image.GetSpacing(), (0.8, 1.1, 2.5), atol=1e-5)
    np.testing.assert_allclose(image.GetDirection(), np.eye(3).ravel(), atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "name", "reason"),
    [
        (np.zeros((7, 6, 5), int), "x.nii.gz", "shape"),
        (np.full((5, 6, 7), -1), "x.nii.gz", "0 to 65535"),
        (np.full((5, 6, 7), 65536), "x.nii.gz", "0 to 65535"),
        (np.zeros((5, 6, 7)), "x.nii.gz", "float64"),
        (np.zeros((5, 6, 7), int), "x.mha", r"end in \.nii\.gz"),
    ],
)
def test_wrong_labels_are_refused_and_nothing_is_written(tmp_path, labels, name, reason):
    source = save(tmp_path / "scan.nii.gz", scan())
    with pytest.raises(UserError, match=reason):
        write_labels(tmp_path / "out" / name, labels, source)
    assert not (tmp_path / "out").exists()


def test_no_permission_to_write_is_the_machine_s_fault(tmp_path):
    source = save(tmp_path / "scan.nii.gz", scan())
    (tmp_path / "file").write_text("a file where a folder is needed", encoding="utf-8")
    with pytest.raises(HarnessError) as caught:
        write_labels(tmp_path / "file" / "x.nii.gz", scan(dtype=np.uint8), source)
    assert caught.value.exit_code == 1


def test_reading_nifti_imports_neither_simpleitk_nor_torch():
    code = (
        "import sys; from pathlib import Path; from harness.data.reading import read; read(Path(sys.argv[1])); "
        "print([name for name in ('SimpleITK', 'torch', 'monai') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, BUNDLED[0]], cwd=REPOSITORY, capture_output=True, encoding="utf-8", check=True
    )
    assert done.stdout.strip() == "[]"
