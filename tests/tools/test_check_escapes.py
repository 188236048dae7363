"""tools/check_escapes.py finds each kind of escape and holds the list to what there is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tools.check_escapes import ALLOWLIST, main

ENTRY = """
[[allow]]
file = "src/pkg/module.py"
symbol = "{symbol}"
escape = "{escape}"
count = {count}
reason = "{reason}"
"""

Check = Callable[[str, str], tuple[int, str]]


@pytest.fixture
def check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run the tool on a tree with one module and a list; returns the exit code and what it printed."""

    def run(source: str, allowlist: str) -> tuple[int, str]:
        module, listing = tmp_path / "src/pkg/module.py", tmp_path / ALLOWLIST
        for path, text in ((module, source), (listing, allowlist)):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, "utf-8")
        code = main(["--root", str(tmp_path)])
        printed = capsys.readouterr()
        return code, printed.out + printed.err

    return run


def entry(symbol: str, escape: str, count: int = 1, reason: str = "has to be") -> str:
    return ENTRY.format(symbol=symbol, escape=escape, count=count, reason=reason)


def test_clean_tree_passes(check: Check) -> None:
    assert check("from typing import Any\n\nx = '# noqa'\n", "") == (
        0,
        "check_escapes: 0 escapes, all listed with a reason\n",
    )


@pytest.mark.parametrize(
    ("source", "place"),
    [
        ("from typing import Any\nx: Any = 1\n", "<module>: Any"),
        ("from typing import Any as A\nx: list[A] = []\n", "<module>: Any"),
        ("import typing\ndef f(a: typing.Any) -> None: ...\n", "f: Any"),
        ("import typing_extensions as t\ndef f() -> t.Any: ...\n", "f: Any"),
        ("from typing import Any\ndef f(a: 'dict[str, Any]') -> None: ...\n", "f: Any"),
        ("from typing import Any\nclass C:\n  async def m(self) -> 'Any': ...\n", "C.m: Any"),
        ("from typing import cast\ndef f() -> int:\n  return cast(int, 1)\n", "f: cast"),
        ("import typing\nx = typing.cast('int', 1)\n", "<module>: cast"),
        ("from typing import no_type_check\n@no_type_check\ndef f(): ...\n", "f: no_type_check"),
        ("x: int = ''  # type: ignore[assignment]\n", "<module>: type: ignore"),
        ("import os  # noqa: F401\n", "<module>: noqa"),
        ("# ruff: noqa\n", "<module>: noqa"),
        ("# mypy: ignore-errors\n", "<module>: mypy:"),
        ("# pyright: basic\n", "<module>: pyright:"),
    ],
)
def test_unlisted_escape_fails(check: Check, source: str, place: str) -> None:
    code, printed = check(source, "")
    assert code == 1
    assert f"src/pkg/module.py: {place}: 1 (line " in printed
    symbol, escape = place.split(": ", 1)
    assert check(source, entry(symbol, escape))[0] == 0


def test_one_more_than_listed_fails(check: Check) -> None:
    source = "from typing import Any\n\n\ndef f(a: Any, b: Any) -> None: ...\n"
    assert check(source, entry("f", "Any", count=2))[0] == 0
    code, printed = check(source, entry("f", "Any"))
    assert (code, "f: Any: 2 (line 4, 4), allowed: 1" in printed) == (1, True)


def test_one_less_than_listed_fails(check: Check) -> None:
    code, printed = check("x = 1\n", entry("f", "Any"))
    assert (code, "f: Any: the list allows 1, there are 0" in printed) == (1, True)


@pytest.mark.parametrize(
    ("allowlist", "complaint"),
    [
        (entry("f", "Any", reason=" "), "a reason is required"),
        (entry("f", "Any", count=0), "count must be"),
        (entry("f", "Any") * 2, "listed twice"),
        ("[[allow]]\nfile = 'a'\n", "needs count, escape, file, reason, symbol"),
    ],
)
def test_bad_list_fails(check: Check, allowlist: str, complaint: str) -> None:
    code, printed = check("x = 1\n", allowlist)
    assert (code, complaint in printed) == (1, True)


def test_missing_list_fails(tmp_path: Path) -> None:
    assert main(["--root", str(tmp_path)]) == 1
