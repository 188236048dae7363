"""docs/internals/failure-model.md names a test for each fault, and each test that it names is there."""

from __future__ import annotations

import re
from typing import Final

from tests.support.named_tests import ROOT, all_tests, without_parameters

FAULTS: Final = 62
TEXT: Final = (ROOT / "docs/internals/failure-model.md").read_text("utf-8")
ROWS: Final = re.findall(r"^\| (\d+) \| (.+?) \| (.+) \|$", TEXT, re.M)
NONE_YET: Final = 0
"""How many faults have no test; the number may only go down."""


def test_every_fault_has_its_row_once() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, FAULTS + 1))


def test_every_test_that_is_named_is_there() -> None:
    for number, fault, tests in ROWS:
        if tests == "none yet":
            continue
        named = re.findall(r"`(tests/[^`]+)`", tests)
        assert ", ".join(f"`{name}`" for name in named) == tests, f"row {number}"
        missing = {without_parameters(name) for name in named} - all_tests()
        assert not missing, f"{number} ({fault}): there is no {missing}"


def test_no_row_loses_its_test() -> None:
    assert sum(tests == "none yet" for _, _, tests in ROWS) <= NONE_YET
