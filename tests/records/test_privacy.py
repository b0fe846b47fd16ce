from __future__ import annotations

import getpass
import socket

import pytest

from harness.errors import UserError
from harness.records import privacy
from harness.records.privacy import leaks, redact, refuse_leaks

PRIVATE = {
    "/home/ada/data": "path",
    "read from /mnt/nas/btcv/img0001.nii.gz, then": "path",
    "No such file: '/srv/x/y.pt'": "path",
    "/tmp": "path",
    "path=/data/btcv": "path",
    "/weird/but/deep/path.txt": "path",
    r"C:\Users\ada\weights.pt": "path",
    "D:/weights/x.pt": "path",
    r"\\server\share\x": "path",
    "file:///home/ada/x": "path",
    "~/runs": "path",
    "~ada/runs": "path",
    "ada@node17": "host",
    "ada@login.example.org": "host",
    "gpu03.cluster.local": "host",
    "node-4.internal": "host",
    "hostname: tardis": "host",
    "host=tardis": "host",
}
PUBLIC = [
    "https://zenodo.org/records/1234/files/genesis.pt",
    "https://github.com/MrGiovanni/ModelsGenesis/tree/master/pytorch",
    "doi:10.1016/j.media.2020.101840",
    "nsd@2.native.v1",
    "nsd_surfel@0.5",
    "Intel(R) Xeon(R) Platinum 8480+ @ 2.00GHz",
    "dice + cross entropy, 1/2 each, mm/s",
    "monai.transforms.intensity.array",
    "down_tr64.ops.0.conv1.weight",
    "and/or",
    "images/{case}.nii.gz",
    "2026-08-01T12:00:00Z",
    "a" * 64,
    "BraTS 2021 / fold 0",
    "the host cell line",
    "[0.5, 1.0]",
]


@pytest.mark.parametrize("text", PRIVATE)
def test_what_is_private_is_found_and_redacted(text):
    found = list(leaks({"a": [text]}))
    assert found, text
    assert found[0].place == "a[0]"
    assert PRIVATE[text] in found[0].what
    assert not list(leaks(redact(text))), redact(text)


@pytest.mark.parametrize("text", PUBLIC)
def test_what_is_public_is_left_alone(text):
    assert list(leaks(text)) == []
    assert redact(text) == text


def forget():
    privacy._this_machine.cache_clear()
    privacy._machine_names.cache_clear()
    privacy._found.cache_clear()


def test_keys_are_looked_at_too():
    assert list(leaks({"/home/ada": 1}))


def test_the_names_of_this_machine_are_found(monkeypatch):
    monkeypatch.setattr(socket, "gethostname", lambda: "tardis42.example.org")
    monkeypatch.setattr(getpass, "getuser", lambda: "lovelace")
    forget()
    try:
        assert [leak.text for leak in leaks("ran on tardis42 by lovelace")] == ["tardis42", "lovelace"]
        assert redact("ran on tardis42") == "ran on <name>"
        assert not list(leaks("tardis421 and xlovelace"))
    finally:
        forget()


@pytest.mark.parametrize("name", ["root", "ubuntu", "ann"])
def test_names_that_are_words_are_not_looked_for(monkeypatch, name):
    monkeypatch.setattr(socket, "gethostname", lambda: "localhost")
    monkeypatch.setattr(getpass, "getuser", lambda: name)
    forget()
    try:
        assert not list(leaks(f"the {name} of the matter"))
    finally:
        forget()


def test_a_user_without_a_name_does_not_matter(monkeypatch):
    def nobody():
        raise KeyError("no such uid")

    monkeypatch.setattr(getpass, "getuser", nobody)
    forget()
    try:
        assert not list(leaks("nothing private"))
    finally:
        forget()


def test_the_refusal_names_the_place_and_the_text():
    with pytest.raises(UserError, match=r"protocol\.id: an absolute path \('/home/ada'\)"):
        refuse_leaks({"protocol": {"id": "/home/ada"}})


def test_hostile_text_is_searched_in_linear_time():
    for piece in ("a.", "/a", "a-", "~a", "a@", "host=", "\\\\a"):
        list(leaks(piece * 50_000))
