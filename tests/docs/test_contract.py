"""docs/internals/contract.md: each promise of the contract names tests that exist."""

from __future__ import annotations

import re

from tests.docs.pages import ROOT
from tests.support.named_tests import all_tests, without_parameters

PAGE = (ROOT / "docs/internals/contract.md").read_text("utf-8")
SECTIONS = re.split(r"^## ", PAGE, flags=re.M)[1:]


def rows(section: str) -> list[list[str]]:
    """The cells of a section's table, without its head."""
    lines = [line for line in section.splitlines() if line.startswith("|")]
    assert lines[:2] == ["| line | tests |", "|---|---|"], section.partition("\n")[0]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_every_section_of_the_contract_has_its_table() -> None:
    numbers = [section.split()[0] for section in SECTIONS]
    assert {number.partition(".")[0] for number in numbers} == {str(number) for number in range(15)}
    assert numbers == sorted(set(numbers), key=lambda number: [int(part) for part in number.split(".")])
    assert all(len(rows(section)) >= 2 for section in SECTIONS)


def test_no_line_is_empty_or_told_twice() -> None:
    for section in SECTIONS:
        table = rows(section)
        assert all(len(row) == 2 and all(row) for row in table), section.partition("\n")[0]
        lines = [row[0] for row in table]
        assert len(set(lines)) == len(lines)


def test_every_test_that_is_named_is_there() -> None:
    for section in SECTIONS:
        for line, tests in rows(section):
            named = re.findall(r"`(tests/[^`]+)`", tests)
            assert named, line
            assert ", ".join(f"`{name}`" for name in named) == tests, line
            missing = {without_parameters(name) for name in named} - all_tests()
            assert not missing, f"{line}: there is no {missing}"
