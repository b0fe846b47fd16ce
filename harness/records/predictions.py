"""The list of predicted label maps: ``predictions.txt``, one case a line. Their hash is that of `harness.data`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from harness.data.fingerprint import label_map_sha256
from harness.errors import UserError

__all__ = ["label_map_sha256", "lists", "parse_predictions", "predictions_text"]

_LINE = re.compile(r"([^\t\n]+)\t([0-9a-f]{64})\n")


def predictions_text(predictions: Mapping[str, str]) -> str:
    """Return the content of ``predictions.txt``: case id, tab, hash of its label map, sorted."""
    return "".join(f"{case}\t{predictions[case]}\n" for case in sorted(predictions))


def lists(text: str, cases: Sequence[str], predictions: Sequence[str]) -> bool:
    """Whether ``predictions.txt`` is the list of these hashes of these sorted cases: quicker than reading it."""
    digits = "".join(predictions)
    hashes = set(map(len, predictions)) <= {64} and not digits.encode().translate(None, b"0123456789abcdef")
    made = [f"{case}\t{one}\n" for case, one in zip(cases, predictions, strict=True)]
    return hashes and all(cases) and "".join(made) == text


def parse_predictions(text: str) -> dict[str, str]:
    """Read ``predictions.txt``; UserError where a line is not ``case <tab> hash`` or a case appears twice."""
    found = dict(_LINE.findall(text))
    if predictions_text(found) != text:
        raise UserError("predictions.txt must hold one sorted line `case <tab> 64 hexadecimal digits` per case.")
    return found
