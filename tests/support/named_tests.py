"""The tests there are, by the names that pages and catalogues use for them: `tests/part/test_file.py::test_name`."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]


@cache
def all_tests() -> frozenset[str]:
    """Every test function, without the ids of its parameters."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        place = path.relative_to(ROOT).as_posix()
        for node in tree.body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                names.add(f"{place}::{node.name}")
    return frozenset(names)


def without_parameters(test: str) -> str:
    """The name of a test without the id of its parameters."""
    return test.partition("[")[0]
