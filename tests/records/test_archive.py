from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest

from harness.errors import UserError
from harness.records.archive import Archive, attest, regressions
from harness.records.index import INDEX, append, check_index, entries
from harness.records.store import load
from harness.records.verify import verify, verify_all


@pytest.fixture
def archive(tools, tmp_path):
    """Three records of one cell, by seed, in a results repository."""
    made = Archive(tmp_path / "records")
    for seed in range(3):
        tools.make(tmp_path / f"run{seed}", seed=seed).write(tmp_path / f"run{seed}" / "record")
        made.add(tmp_path / f"run{seed}")
    return made


def variant(source: Path, target: Path, number: int) -> Path:
    """Copy a record as another one: same science, another date, so that many can be made quickly."""
    from harness.files import canonical_json
    from harness.records.identity import run_id

    shutil.copytree(source, target)
    data = json.loads((target / "record.json").read_text(encoding="utf-8"))
    data["cost"]["resumed"] = number
    data["run_id"] = run_id(data)
    (target / "record.json").write_text(canonical_json(data), encoding="utf-8")
    return target


def test_the_path_says_what_the_record_says(archive):
    folder, record = next(archive.records())
    parts = folder.relative_to(archive.root).parts
    assert parts == ("synthetic_boxes", "fixed", "models_genesis", "boxes", "pretrained", record.run_id)
    assert all(verdict.ok for verdict in verify_all([archive.root]))


def test_adding_twice_changes_nothing(archive, tmp_path):
    before = (archive.root / INDEX).read_text(encoding="utf-8")
    archive.add(tmp_path / "run1")
    assert (archive.root / INDEX).read_text(encoding="utf-8") == before
    assert len(list(archive.records())) == 3


def test_an_invalid_record_is_not_let_in(archive, run):
    path = run / "record" / "cases.csv"
    path.write_text(path.read_text(encoding="utf-8").replace(",0.", ",0.1", 1), encoding="utf-8")
    with pytest.raises(UserError, match="not valid"):
        archive.add(run)
    assert len(entries(archive.root)) == 3


def test_a_record_edited_in_place_is_caught(archive):
    folder, _ = next(archive.records())
    text = (folder / "record.json").read_text(encoding="utf-8")
    (folder / "record.json").write_text(text.replace('"train":20.5', '"train":1.5'), encoding="utf-8")
    verdicts = verify_all([archive.root])
    assert [verdict.path for verdict in verdicts if not verdict.ok] == [folder]


def test_a_record_edited_and_resealed_in_place_is_caught(archive, tools):
    folder, record = next(archive.records())
    tools.reseal(folder, lambda data: data["cost"].update(resumed=7))
    errors = [finding for verdict in verify_all([archive.root]) for finding in verdict.errors]
    assert {finding.check for finding in errors} == {1, 10}
    assert any(record.run_id in finding.message for finding in errors)


def test_a_deleted_record_is_caught(archive):
    folder, record = next(archive.records())
    shutil.rmtree(folder)
    (lost,) = [verdict for verdict in verify_all([archive.root]) if not verdict.ok]
    assert lost.run_id == record.run_id
    assert (lost.errors[0].check, lost.trust) == (10, 0)


def test_a_record_copied_in_around_the_index_is_caught(archive):
    folder, _ = next(archive.records())
    place = variant(folder, archive.root / "aside", 9)
    place.rename(folder.parent / load(place).run_id)
    assert [f.check for v in verify_all([archive.root]) for f in v.errors] == [10]


def test_a_record_in_the_wrong_place_is_caught(archive):
    folder, record = next(archive.records())
    other = archive.root / "other_data" / "fixed" / "models_genesis" / "boxes" / "pretrained" / record.run_id
    other.parent.mkdir(parents=True)
    folder.rename(other)
    messages = [finding.message for verdict in verify_all([archive.root]) for finding in verdict.errors]
    assert any("its content belongs in" in message for message in messages)


def test_a_line_torn_by_a_kill_is_mended_by_the_next_writer(archive):
    whole = (archive.root / INDEX).read_text(encoding="utf-8")
    (archive.root / INDEX).write_text(whole + "synthetic_boxes/fixed/mod", encoding="utf-8")
    assert len(entries(archive.root)) == 3
    append(archive.root, "a/b/c/d/e/0123456789abcdef")
    assert (archive.root / INDEX).read_text(encoding="utf-8") == whole + "a/b/c/d/e/0123456789abcdef\n"


def test_a_kill_between_record_and_index_is_mended_by_adding_again(archive, tmp_path):
    lines = (archive.root / INDEX).read_text(encoding="utf-8").splitlines(keepends=True)
    (archive.root / INDEX).write_text("".join(lines[:2]), encoding="utf-8")
    present = {record.run_id for _, record in archive.records()}
    assert [finding.check for _, _, finding in check_index(archive.root, present)] == [10]
    for seed in range(3):
        archive.add(tmp_path / f"run{seed}")
    assert all(verdict.ok for verdict in verify_all([archive.root]))


def test_a_folder_without_an_index_is_no_repository(tmp_path):
    assert list(check_index(tmp_path, set())) == []


def test_regressions_between_two_states(archive, tmp_path, tools):
    head = tmp_path / "head"
    shutil.copytree(archive.root, head)
    assert regressions(archive.root, head) == []
    tools.make(tmp_path / "new", seed=9).write(tmp_path / "new" / "record")
    Archive(head).add(tmp_path / "new")
    assert regressions(archive.root, head) == []
    first, second, third = entries(archive.root)
    shutil.rmtree(head / first)
    (head / second / "log.jsonl").write_text("{}\n", encoding="utf-8")
    (head / INDEX).write_text((head / INDEX).read_text(encoding="utf-8").replace(f"{third}\n", ""), encoding="utf-8")
    found = {finding.field: finding.message for finding in regressions(archive.root, head)}
    assert set(found) == {first, second, INDEX}
    assert "deleted" in found[first]
    assert "edited" in found[second]


def test_an_attestation_is_what_the_checks_support_and_stays(archive, tmp_path, cards):
    head = tmp_path / "head"
    shutil.copytree(archive.root, head)
    folder = head / entries(head)[0]
    before = load(folder)
    after = attest(verify(folder, cards=[cards]), "a reviewer", "harness record verify", "a" * 40)
    assert [note.level for note in after.attestations] == [2]
    assert (after.run_id, load(folder)) == (before.run_id, after)
    assert verify(folder).ok
    assert regressions(archive.root, head) == []
    assert [finding.message for finding in regressions(head, archive.root)] == [
        "attestations were removed; history stays"
    ]


def test_nothing_is_attested_of_a_record_that_fails(run):
    (run / "record" / "config.yaml").unlink()
    with pytest.raises(UserError, match="not valid"):
        attest(verify(run), "a reviewer", "method", "x")


def test_a_kill_while_copying_leaves_nothing_that_counts(run, tmp_path, monkeypatch):
    archive, copied = Archive(tmp_path / "records"), []

    def copy(source, target):
        if len(copied) == 3:
            os._exit(9)
        copied.append(source)
        target.write_bytes(source.read_bytes())

    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr("harness.records.archive._copy", copy)
            archive.add(run)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert entries(archive.root) == []
    with pytest.raises(UserError, match="no record"):
        verify_all([archive.root])
    archive.add(run)
    assert [verdict.ok for verdict in verify_all([archive.root])] == [True]


@pytest.mark.parametrize("writers", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_many_processes_add_at_once_and_nothing_is_lost_or_torn(pattern, tmp_path, writers):
    """Forked after the imports, held at a gate, let go together; every tenth adds what another one adds too."""
    sources = [variant(pattern / "record", tmp_path / f"run{n}", n) for n in range(writers - writers // 10)]
    root, gate = tmp_path / "records", tmp_path / "gate"
    children = []
    for number in range(writers):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                while not gate.exists():
                    time.sleep(0.005)
                Archive(root).add(sources[number % len(sources)])
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    gate.touch()
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children]
    assert codes == [0] * writers
    assert len(entries(root)) == len(set(entries(root))) == len(sources)
    assert {record.cost.resumed for _, record in Archive(root).records()} == set(range(len(sources)))
    assert sorted(path.name for path in root.iterdir()) == [".lock", INDEX, "synthetic_boxes"]
    for folder, _ in Archive(root).records():
        assert {p.name: p.read_bytes() for p in folder.iterdir() if p.name != "record.json"} == {
            p.name: p.read_bytes() for p in (pattern / "record").iterdir() if p.name != "record.json"
        }
    assert list(check_index(root, {record.run_id for _, record in Archive(root).records()})) == []
