"""The conformance kit finds every fault it is for, accepts declared ones, and passes what is sound."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

from harness.adapters.conformance import check, check_card
from harness.adapters.conformance_checks import CHECKS, Violation
from harness.adapters.conformance_forge import subject
from harness.adapters.registry import provide
from harness.adapters.scaffold import scaffold
from harness.cards.library import model_card
from harness.cli import main
from harness.errors import UserError

FORWARD = "self.head(self.decoder(self.encoder(x)))"
HEAD = "        self.head = nn.Conv3d(width, out_channels, kernel_size=1)\n"
RENAME = "rename(source, {name: name for name in state}, fresh, skipped)"
Edit = tuple[str, str]


@pytest.fixture
def plain(tmp_path: Path) -> Path:
    """The files that ``harness adapter new`` writes: a sound adapter of a thousand parameters, ready to be spoilt."""
    scaffold("plain", tmp_path)
    return tmp_path


def spoil(folder: Path, *edits: Edit) -> None:
    for old, new in edits:
        holding = [
            path
            for path in (folder / "plain.py", folder / "plain.example.yaml")
            if old in path.read_text(encoding="utf-8")
        ]
        assert holding, f"the template no longer holds {old!r}"
        for path in holding:
            path.write_text(path.read_text(encoding="utf-8").replace(old, new), encoding="utf-8")


FAULTS: list[tuple[str, str, list[Edit]]] = [
    (
        "forged_checkpoint",
        "hold other values than the file",
        [(RENAME, RENAME.replace("source,", "{name: 2 * tensor for name, tensor in source.items()},"))],
    ),
    ("forged_checkpoint", "no parameter of the network starts with", [('("encoder.",)', '("encodr.",)')]),
    (
        "forged_checkpoint",
        "depends on something outside the file",
        [
            ("import Tensor, nn", "import Tensor, nn, rand"),
            (HEAD, HEAD + "        self.offset = rand(1)\n"),
            (FORWARD, FORWARD + " + self.offset"),
        ],
    ),
    (
        "load_floor",
        "is loaded without complaint",
        [
            ("floor: 1.0", "floor: 0.0"),
            (
                f"        return {RENAME}",
                f'        fresh |= {{n: "?" for n in state if n not in source}}\n        return {RENAME}',
            ),
        ],
    ),
    (
        "load_floor",
        "crashes with KeyError",
        [(f"        return {RENAME}", f'        source["encoder.0.weight"]\n        return {RENAME}')],
    ),
    (
        "shapes",
        r"the answer has shape \(1, 5, 16, 16, 16\)",
        [(FORWARD, f"nn.functional.interpolate({FORWARD}, size=(x.shape[2],) * 3)")],
    ),
    ("shapes", "1x16x17x18 in, 5 classes", [("divisible_by: [2, 2, 2]", "divisible_by: [1, 1, 1]")]),
    (
        "gradients",
        "6 of 10 parameters get no gradient: encoder.0.weight",
        [(FORWARD, "self.head(self.decoder(self.encoder(x).detach()))")],
    ),
    ("determinism", "something is still random", [(FORWARD, f"nn.functional.dropout({FORWARD}, 0.5)")]),
    (
        "determinism",
        "writes into its input",
        [(FORWARD, "self.head(self.decoder(self.encoder(x.mul_(2))))")],
    ),
    (
        "eval_train",
        "changes parameters or buffers",
        [(FORWARD, "self.head(self.decoder(self.encoder(x))) + self.head.bias.data.add_(1).sum() * 0")],
    ),
    (
        "eval_train",
        r"eval\(\) does not reach",
        [(HEAD, HEAD + "        self.encoder.train = lambda mode=True: self.encoder\n")],
    ),
    ("batch_independence", "with what shares its batch", [(FORWARD, f"{FORWARD} - self.encoder(x).mean()")]),
    (
        "half_precision",
        "not finite",  # 1.001 is 1 in bfloat16
        [(FORWARD, f"{FORWARD}.mul(0).add(1.001).sub(1).reciprocal()")],
    ),
    (
        "export",
        "torch.export: ",
        [(FORWARD, f"{FORWARD} * (1 if bool(x.sum() > 0) else 2)")],
    ),
    ("parameters", "has 2330 parameters, the card says 2331", [("parameters: 2330", "parameters: 2331")]),
]


@pytest.mark.parametrize(("name", "says", "edits"), FAULTS)
def test_every_fault_is_found(plain: Path, name: str, says: str, edits: list[Edit]) -> None:
    spoil(plain, *edits)
    card = model_card("plain.example", [plain])[0]
    provide_beside(plain)
    (plain / "scratch").mkdir()
    with pytest.raises(Violation, match=says):
        CHECKS[name](subject(card, plain / "scratch"))


def provide_beside(folder: Path) -> None:
    provide(runpy.run_path(str(folder / "plain.py"))["ADAPTER"])


def test_what_new_writes_conforms_as_it_is(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "made"
    assert main(["adapter", "new", "my_net", "--out", str(folder)]) == 0
    assert sorted(path.name for path in folder.iterdir()) == ["my_net.example.yaml", "my_net.py", "test_my_net.py"]
    assert main(["adapter", "check", "my_net", "--cards", str(folder)]) == 0
    said = capsys.readouterr().out
    assert "taken from my_net.py beside the card" in said
    assert said.count("| passed |") == len(CHECKS)
    runpy.run_path(str(folder / "test_my_net.py"))["test_every_card_conforms"]()


def test_a_declared_fault_is_shown_with_its_reason_and_an_undeclared_one_fails(
    plain: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    spoil(plain, (FORWARD, f"{FORWARD} - self.encoder(x).mean()"))
    arguments = ["adapter", "check", "plain.example", "--cards", str(plain)]
    assert main(arguments) == 1
    assert "**1 undeclared failure(s): batch_independence**" in capsys.readouterr().out
    spoil(plain, ("exceptions: []", "exceptions: [{check: batch_independence, reason: so the authors wrote it}]"))
    assert main(arguments) == 0
    said = capsys.readouterr().out
    assert "| batch_independence | declared |" in said
    assert "Declared: so the authors wrote it" in said


def test_an_exception_to_an_unknown_check_fails(plain: Path) -> None:
    spoil(plain, ("exceptions: []", "exceptions: [{check: gradient, reason: a misspelt name declares nothing}]"))
    (report,) = check("plain", cards=[plain])
    assert [one.check for one in report.failures] == ["gradient"]


def test_the_bundled_narrow_network_conforms() -> None:
    card, folder = model_card("models_genesis.narrow8")
    report = check_card(card, folder=folder)
    assert not report.failures, report.text()
    assert {one.check for one in report.findings if one.state == "declared"} == {"batch_independence"}


def test_a_real_file_is_loaded_as_well(plain: Path) -> None:
    provide_beside(plain)
    card = model_card("plain.example", [plain])[0]
    file = subject(card, plain).file
    (report,) = check("plain.example", file, [plain])
    assert not report.failures, report.text()
    assert "for a task: loaded 8, fresh 2, skipped 2" in report.findings[-1].found
    file.write_bytes(file.read_bytes()[:-500])
    (report,) = check("plain.example", file, [plain])
    assert [one.check for one in report.failures] == ["checkpoint"]


def test_a_network_that_takes_no_size_is_refused(plain: Path) -> None:
    spoil(plain, (FORWARD, "self.head(self.decoder(self.encoder(x[..., :1])))"))
    with pytest.raises(UserError, match="takes none of the sizes"):
        check("plain", cards=[plain])


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["check", "plane"], "There is no model or adapter called 'plane'"),
        (["check", "models_genesis", "--checkpoint", "w.pt"], "Say which one the file belongs to"),
        (["check", "brainsegfounder.atlas_finetune_hf"], "is listed, not supported"),
        (["new", "No-Name"], "cannot name an adapter"),
        (["new", "med3d"], "already"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: list[str], says: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["adapter", *arguments]) == 2
    assert says in capsys.readouterr().err


def test_nothing_is_overwritten(plain: Path) -> None:
    before = (plain / "plain.py").read_text(encoding="utf-8")
    (plain / "plain.example.yaml").unlink()
    with pytest.raises(UserError, match="is there already"):
        scaffold("plain", plain)
    assert (plain / "plain.py").read_text(encoding="utf-8") == before
    assert not (plain / "plain.example.yaml").exists()
