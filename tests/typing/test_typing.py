"""What type checkers say about programs of users."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
PROJECT = HERE.parent.parent
IGNORE = re.compile(r"  # type: ignore\[([a-z-]+)\]$")


@pytest.fixture(scope="module")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("mypy-cache")


def run_mypy(program: Path, cache_dir: Path) -> list[str]:
    """The errors mypy finds in a program, as lines of text."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--show-error-codes"),
            *("--config-file", str(PROJECT / "pyproject.toml"), "--cache-dir", str(cache_dir), str(program)),
        ],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=PROJECT,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr
    return [line for line in done.stdout.splitlines() if ": error:" in line and program.name in line]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", ["must_typecheck.py", "must_not_typecheck.py"])
def test_program_gets_no_error_it_does_not_expect(name: str, cache_dir: Path) -> None:
    assert run_mypy(HERE / name, cache_dir) == []


@pytest.mark.timeout(300)
def test_mistakes_are_found_on_their_lines(tmp_path: Path, cache_dir: Path) -> None:
    lines = (HERE / "must_not_typecheck.py").read_text().splitlines()
    expected = {(number, match.group(1)) for number, line in enumerate(lines, 1) if (match := IGNORE.search(line))}
    program = tmp_path / "mistakes.py"
    program.write_text("\n".join(IGNORE.sub("", line) for line in lines) + "\n")

    found = set()
    for line in run_mypy(program, cache_dir):
        match = re.search(r":(\d+): error: .*\[([a-z-]+)\]$", line)
        assert match, line
        found.add((int(match.group(1)), match.group(2)))

    assert len(expected) > 20
    assert found == expected
