"""A test of this machine with what the package ships: parity, precision, memory format, resume, memory, speed, ranks.

`checks` holds one function per check, which `harness selftest` and ``pytest -m gpu`` both call.
"""

from harness.selftest.bench import Bench
from harness.selftest.checks import CHECKS, Check, selftest, to_json

__all__ = ["CHECKS", "Bench", "Check", "selftest", "to_json"]
