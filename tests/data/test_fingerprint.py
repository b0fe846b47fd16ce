"""Fingerprints follow the decoded content: packing is nothing, one voxel or a shifted grid is everything."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import nibabel
import numpy as np
import pytest

from harness.data.fingerprint import file_hash, fingerprint, join_hashes
from harness.data.reading import Volume, read, write_volume
from harness.errors import UserError
from harness.grid import Grid

AFFINE = np.array([[-1.9, 0.3, 0.1, 80], [0.3, 1.8, -0.5, -60], [0.05, 0.4, 3.0, 12], [0, 0, 0, 1]])


def volume(data, affine=AFFINE):
    return Volume(data=data, grid=Grid(data.shape[:3], affine), path=Path("x"), dtype=data.dtype)


def scan(shape=(4, 5, 6), dtype=np.int16):
    return np.random.default_rng(0).integers(-100, 100, shape).astype(dtype)


def test_the_hash_is_what_the_module_says():
    data = scan()
    head = {"affine": np.round(AFFINE, 4).tolist(), "dtype": "i2", "shape": [4, 5, 6]}
    text = json.dumps(head, sort_keys=True, separators=(",", ":")) + "\n"
    expected = hashlib.sha256(text.encode() + data.astype("<i2").tobytes(order="C")).hexdigest()
    assert file_hash(volume(data)) == expected


def test_memory_order_and_byte_order_and_blocks_do_not_matter(monkeypatch):
    data = scan()
    expected = file_hash(volume(data))
    assert file_hash(volume(np.asfortranarray(data))) == expected
    assert file_hash(volume(data.astype(">i2"))) == expected
    monkeypatch.setattr("harness.data.fingerprint._BLOCK_BYTES", 100)
    assert file_hash(volume(data)) == expected


def test_four_axes_are_hashed():
    data = scan((4, 5, 6, 3))
    assert file_hash(volume(data)) == file_hash(volume(np.asfortranarray(data)))
    assert file_hash(volume(data)) != file_hash(volume(data[..., ::-1]))


def test_packing_again_changes_nothing(tmp_path):
    grid = Grid((4, 5, 6), AFFINE)
    write_volume(tmp_path / "a.nii.gz", scan(), grid)
    plain = gzip.decompress((tmp_path / "a.nii.gz").read_bytes())
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(plain, 1))
    (tmp_path / "c.nii").write_bytes(plain)
    matrix = read(tmp_path / "c.nii").grid.matrix
    big = nibabel.Nifti1Image(scan(), matrix, nibabel.Nifti1Header(endianness=">"), dtype=">i2")
    nibabel.save(big, tmp_path / "d.nii")
    assert len({file_hash(read(tmp_path / name)) for name in ("a.nii.gz", "b.nii.gz", "c.nii", "d.nii")}) == 1


def test_rounding_noise_in_the_affine_changes_nothing():
    noise = np.array([[1e-6]] * 3 + [[0]])
    assert file_hash(volume(scan(), AFFINE + noise)) == file_hash(volume(scan()))
    straight = np.diag([1.0, 1, 1, 1])
    assert file_hash(volume(scan(), straight - noise / 1000)) == file_hash(volume(scan(), straight))  # no negative zero


@pytest.mark.parametrize("what", ["voxel", "shape", "type", "affine"])
def test_what_matters_changes_the_hash(what):
    data, affine = scan(), AFFINE.copy()
    if what == "voxel":
        data[3, 4, 5] += 1
    elif what == "shape":
        data = data.reshape(5, 4, 6)
    elif what == "type":
        data = data.astype(np.int32)
    else:
        affine[0, 3] += 0.001
    assert file_hash(volume(data, affine)) != file_hash(volume(scan()))


@dataclass
class Facts:
    image_sha256: str
    label_sha256: str | None


def test_the_fingerprint_is_what_the_module_says():
    cases = {"b": Facts("2" * 64, None), "a": Facts("1" * 64, "3" * 64)}
    lines = f"a\t{'1' * 64}\t{'3' * 64}\nb\t{'2' * 64}\t\n"
    assert fingerprint(cases) == hashlib.sha256(lines.encode()).hexdigest()
    assert fingerprint(cases, ["b"]) == hashlib.sha256(f"b\t{'2' * 64}\t\n".encode()).hexdigest()
    assert fingerprint(cases, ["b", "a", "b"]) == fingerprint(cases)


def test_a_case_without_facts_is_refused():
    with pytest.raises(UserError, match=r"1 cases have no facts.*: c\."):
        fingerprint({"a": Facts("1" * 64, None)}, ["a", "c"])


def test_hashes_of_channels_are_joined_in_order():
    one, two = "1" * 64, "2" * 64
    assert join_hashes([one]) == one
    assert join_hashes([one, two]) == hashlib.sha256(f"{one}\n{two}".encode()).hexdigest()
    assert join_hashes([one, two]) != join_hashes([two, one])
