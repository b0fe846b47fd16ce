"""Words and numbers of the page: formatting, cleaning of untrusted text, and the links a page may carry.

Whatever comes from a record, a claim or a card is text somebody else wrote. Jinja escapes it; this module takes
out what escaping leaves in (control and direction characters, endless strings) and decides which URLs become links.
"""

from __future__ import annotations

import hashlib
import math
import re
import unicodedata
from collections.abc import Sequence
from typing import Final
from urllib.parse import urlsplit

from markupsafe import escape

__all__ = [
    "MINUS",
    "bytes_size",
    "clean",
    "duration",
    "escaped",
    "harmless",
    "number",
    "plural",
    "safe_url",
    "signed",
    "slug",
    "utc_day",
]

MINUS: Final = "\N{MINUS SIGN}"
_NOTHING: Final = "\N{EM DASH}"
_LONGEST: Final = 2000

# Hosts that a card or a record has a good reason to name. Everything else stays readable text without a link.
_HOSTS: Final = (
    "arxiv.org",
    "doi.org",
    "drive.google.com",
    "github.com",
    "gitlab.com",
    "grand-challenge.org",
    "huggingface.co",
    "medicaldecathlon.com",
    "synapse.org",
    "zenodo.org",
    "cancerimagingarchive.net",
    "figshare.com",
)


def clean(value: object, limit: int = _LONGEST) -> str:
    r"""Make untrusted text fit for a page: no control or direction characters, and an end.

    Parameters
    ----------
    value : object
        Turned into text; None becomes an em dash.
    limit : int
        Longest text in characters; more is cut, and the cut says how much is missing.

    Examples
    --------
    >>> clean("a\x00b\u202ec")
    'abc'
    >>> clean("x" * 30, limit=10)
    'xxxxxxxxxx… (20 more characters)'
    """
    if value is None:
        return _NOTHING
    text = str(value)
    if len(text) <= limit and _PLAIN.fullmatch(text):
        return text
    rest = len(text) - limit
    text = "".join(sign for sign in text[:limit] if sign in "\n\t" or unicodedata.category(sign) not in _INVISIBLE)
    return f"{text}… ({rest} more characters)" if rest > 0 else text


def escaped(value: object, limit: int = _LONGEST) -> str:
    """Return `clean` text that may stand in HTML; most texts need no escape, and looking is cheaper than escaping.

    >>> escaped("a < b"), escaped("liver")
    ('a &lt; b', 'liver')
    """
    if isinstance(value, str) and len(value) <= limit and _HARMLESS.fullmatch(value):
        return value
    return str(escape(clean(value, limit)))


def harmless(texts: Sequence[str], limit: int = _LONGEST) -> bool:
    """Whether each of many texts is what `escaped` would return: they are looked at together, which is cheaper.

    >>> harmless(["0.812", "step 40"]), harmless(["0.812", "a < b"]), harmless(["0.812", "longer"], limit=5)
    (True, False, False)
    """
    return max(map(len, texts), default=0) <= limit and _HARMLESS.fullmatch("\n".join(texts)) is not None


# Printable ASCII without what HTML gives a meaning, and the minus sign, dash and cross of our own numbers.
_HARMLESS: Final = re.compile(r"[\n\t !#-%(-;=?-~\u2212\u2014\u00d7]*")
# Nearly every text; the rest is looked at sign by sign.
_PLAIN: Final = re.compile(r"[\n\t\x20-\x7e\u2212\u2014\u00d7]*")
# Cc control, Cf direction overrides and other formatting, Cs lone surrogates (cannot be written as UTF-8), Co private.
_INVISIBLE: Final = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})


def number(value: float | None, digits: int = 3) -> str:
    """Write a number with a fixed count of decimals and a real minus sign; None or NaN is an em dash.

    >>> number(-0.51236), number(None), number(12.0, 1)
    ('−0.512', '—', '12.0')
    """
    if value is None or not math.isfinite(value):
        return _NOTHING
    text = f"{value:.{digits}f}"
    if text[0] != "-":
        return text
    return text[1:] if float(text) == 0 else MINUS + text[1:]


def signed(value: float | None, digits: int = 3) -> str:
    """Write a difference with its sign, zero without one.

    >>> signed(0.01), signed(-0.01), signed(0.0)
    ('+0.010', '−0.010', '0.000')
    """
    text = number(value, digits)
    return f"+{text}" if value is not None and value > 0 and float(f"{value:.{digits}f}") > 0 else text


def duration(seconds: float | None) -> str:
    """Write a time for people.

    >>> duration(42.4), duration(290), duration(5400), duration(None)
    ('42 s', '4 min 50 s', '1 h 30 min', '—')
    """
    if seconds is None or not math.isfinite(seconds):
        return _NOTHING
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s" if seconds >= 10 else f"{seconds:.2g} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def bytes_size(count: int) -> str:
    """Write a size with binary units.

    >>> bytes_size(512), bytes_size(152639120)
    ('512 B', '145.6 MiB')
    """
    size = float(count)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024 or unit == "GiB":
            break
        size /= 1024
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """Write a count with its noun.

    >>> plural(1, "case"), plural(4, "case"), plural(2, "study", "studies")
    ('1 case', '4 cases', '2 studies')
    """
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def utc_day(stamp: str) -> str:
    """Return the day of an ISO 8601 time, or what was given where it is not one.

    >>> utc_day("2026-08-22T10:11:12Z")
    '2026-08-22'
    """
    match = re.match(r"\d{4}-\d{2}-\d{2}", stamp)
    return match.group() if match else clean(stamp, 40)


def safe_url(value: object) -> str | None:
    """Return a URL that may become a link, else None.

    Only ``https`` to a host of the list above (or below one of them), without credentials, port or odd characters.

    >>> safe_url("https://huggingface.co/MrGiovanni/ModelsGenesis")
    'https://huggingface.co/MrGiovanni/ModelsGenesis'
    >>> safe_url("javascript:alert(1)") is safe_url("https://github.com@evil.example/") is None
    True
    """
    text = str(value)
    if len(text) > 300 or not re.fullmatch(r"https://[A-Za-z0-9.-]+(/[A-Za-z0-9._~/?#&=%+,:@-]*)?", text):
        return None
    host = urlsplit(text).hostname or ""
    return text if any(host == known or host.endswith(f".{known}") for known in _HOSTS) else None


def slug(text: str) -> str:
    """Make a file name of an untrusted id: readable where it is plain, told apart by a hash where it is not.

    >>> slug("models_genesis.chest_ct")
    'models_genesis.chest_ct'
    >>> slug("../../etc/passwd").startswith("etc-passwd-")
    True
    """
    plain = re.sub(r"[^a-z0-9_.]+", "-", text.lower()).strip("-.")[:60]
    if plain == text and plain not in {"index"}:
        return plain
    return f"{plain or 'x'}-{hashlib.sha256(text.encode('utf-8', 'replace')).hexdigest()[:8]}"
