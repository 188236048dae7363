"""tools/mutants.py judges mutants, and the catalogue fits the source."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.named_tests import ROOT, all_tests, without_parameters
from tools.mutants import CATALOGUE, Mutant, fault_of, main, read_catalogue

MUTANTS = read_catalogue(ROOT)


def test_there_are_enough_of_both_languages() -> None:
    assert len(MUTANTS) >= 60
    for ending in (".lua", ".py"):
        assert sum(mutant.file.endswith(ending) for mutant in MUTANTS) >= 20


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_a_mutant_can_be_planted_and_its_tests_are_there(mutant: Mutant) -> None:
    assert fault_of(mutant, ROOT) is None
    assert mutant.file.startswith("src/")
    assert {without_parameters(test) for test in mutant.tests} <= all_tests()


ENTRY = """
[[mutant]]
id = "{id}"
file = "src/sums.py"
old = "{old}"
new = "{new}"
tests = ["tests/test_sums.py"]
why = "{why}"
"""


def tree(root: Path, *entries: str) -> Path:
    """A project with one function, one test and a catalogue."""
    files = {
        "src/sums.py": "def add(a: int, b: int) -> int:\n    return a + b + 0\n",
        "tests/test_sums.py": "from sums import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n",
        f"{CATALOGUE}/all.toml": "".join(entries),
        ".venv/ignored.py": "",
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    return root


def entry(id: str = "m", old: str = "a + b", new: str = "a - b", why: str = "sums") -> str:
    return ENTRY.format(id=id, old=old, new=new, why=why)


def test_killed_and_surviving_mutants(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path, entry("dies"), entry("lives", "+ 0", "- 0"))
    assert main(["--root", str(root), "--jobs", "1"]) == 1
    printed = capsys.readouterr().out
    assert "SURVIVED lives in src/sums.py: sums" in printed
    assert "mutants: 1 of 2 killed" in printed
    assert (root / "src/sums.py").read_text("utf-8").endswith("a + b + 0\n")


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([entry(old="gone")], "its old text stands 0 times"),
        ([entry(old=" ")], "times in src/sums.py"),
        ([entry(new="a + b")], "it changes nothing"),
        ([entry(why="")], "no reason"),
        ([entry(), entry()], "ids are used twice: m"),
        (['[[mutant]]\nid = "m"\ntests = []\n'], "missing"),
        ([], "there are no such mutants"),
    ],
)
def test_a_catalogue_that_does_not_fit_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], entries: list[str], message: str
) -> None:
    assert main(["--root", str(tree(tmp_path, *entries)), "--list"]) == 2
    assert message in capsys.readouterr().err


def test_tests_that_fail_by_themselves_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = tree(tmp_path, entry())
    (root / "tests/test_sums.py").write_text("def test_add():\n    raise AssertionError\n", "utf-8")
    assert main(["--root", str(root), "--jobs", "1"]) == 2
    assert "don't pass on the unchanged tree" in capsys.readouterr().err
