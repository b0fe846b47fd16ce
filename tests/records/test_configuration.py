"""A configuration put together from remembered sections says what it says as a whole, or is read as a whole."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import UserError
from harness.records import configuration
from harness.records.configuration import config_sha256, parse_config, read_config

PLAIN = "dataset: boxes\nprotocol:\n  lr: 1.0e-05\n  steps: [1, 2]\n  names:\n  - 'a'\n  - b\nseed: 3\n"
pieces = st.sampled_from(
    ["a", "b: ", "a: 1\n", "c:\n", "  d: 2\n", "- e\n", "'", '"', "{", "}", "[", "]", "|\n", ">\n", "&x ", "*x", "<<: ",
     "---\n", "...\n", "%YAML 1.1\n", "!!str ", "? ", ": ", "# f\n", "\n", " ", "\t", "\r", "\x85", "\ufeff", ".nan",
     "2020-01-01\n", "yes", "1: ", "null: 1\n", "\\\n", ",", "\u00e9"]
)  # fmt: skip


@given(st.lists(pieces, max_size=12).map("".join))
@example(PLAIN)
@example("a: |\n  b\nc: 1\n")
@example("a: {b: 1,\nc: 2}\n")
@example("a: 'b\nc: 2'\n")
@example("c: 4\n<<: {c: 3}\na: 1\n")
@example("a: &x 1\nb: *x\n")
@example("a: 1\n...\nb: 2\n")
@example("a: 1\n---\nb: 2\n")
@example("a: 1\na: 2\nb:\n- 3\n")
@settings(max_examples=400, deadline=None)
def test_sections_say_what_the_whole_says(text):
    quick = configuration._by_sections(text)
    if quick is None:
        return
    assert quick == (parse_config(text), config_sha256(text))
    assert repr(sorted(quick[0].items())) == repr(sorted(parse_config(text).items()))


def test_real_configurations_are_put_together_from_sections():
    content, digest = configuration._by_sections(PLAIN)
    assert content == yaml.safe_load(PLAIN)
    assert digest == config_sha256(PLAIN)
    assert configuration._by_sections(PLAIN.replace("'a'", "&x 'a'")) is None


def test_what_is_read_twice_is_parsed_once():
    read_config(PLAIN)
    before = configuration._section.cache_info()
    content, digest = read_config(PLAIN.replace("seed: 3", "seed: 4"))
    after = configuration._section.cache_info()
    assert (content["seed"], digest) == (4, config_sha256(PLAIN.replace("seed: 3", "seed: 4")))
    assert after.hits == before.hits + 2
    assert after.misses == before.misses + 1


def test_faults_are_told_as_ever(monkeypatch):
    with pytest.raises(UserError, match="not valid YAML"):
        read_config("a: 1\nb: [2\n")
    with pytest.raises(UserError, match="plain finite values"):
        read_config("a: .inf\n")
    monkeypatch.setattr(configuration, "_LARGEST", 30)
    few = [f"many{number}: [0, 1, 2, 3, 4, 5, 6, 7, 8]\n" for number in range(3)]
    with pytest.raises(UserError, match="more than 30 values"):
        read_config("".join(few))
    assert len(read_config("".join(few[1:]))[0]) == 2
