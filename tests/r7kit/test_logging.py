"""Logging that is set up only where the program has none."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from r7kit import logging as r7logging
from r7kit.logging import setup, setup_if_unset


@contextmanager
def bare() -> Iterator[logging.Logger]:
    """The root logger as in a program that has set nothing up; pytest's own handlers come back afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    root.handlers.clear()
    r7logging._handler = None
    try:
        yield root
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        r7logging._handler = None


def test_the_worker_leaves_a_program_with_logging_alone() -> None:
    mine = logging.NullHandler()
    with bare() as root:
        root.addHandler(mine)
        setup_if_unset()
        assert root.handlers == [mine]


def test_setup_before_the_worker_wins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R7KIT_LOG_LEVEL", "ERROR")
    with bare() as root:
        setup("DEBUG")
        setup_if_unset()
        assert (len(root.handlers), root.level) == (1, logging.DEBUG)


def test_setup_again_takes_the_place_of_the_first() -> None:
    with bare() as root:
        setup("DEBUG")
        setup("WARNING")
        assert (len(root.handlers), root.level) == (1, logging.WARNING)


def test_json_lines_hold_no_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R7KIT_LOG_FORMAT", "json")
    out = io.StringIO()
    with bare():
        setup(stream=out)
        try:
            raise RuntimeError("at redis://user:SECRET@host:1/0")
        except RuntimeError:
            logging.getLogger("r7kit").exception("to %s\x1b[31m", "redis://:SECRET@host")
    line = json.loads(out.getvalue())
    assert (line["level"], line["logger"]) == ("ERROR", "r7kit")
    assert "SECRET" not in out.getvalue()
    assert "\x1b" not in line["message"]
    assert "RuntimeError" in line["error"]


@pytest.mark.parametrize("arguments", [("LOUD",), ("INFO", "xml")])
def test_bad_levels_and_formats(arguments: tuple[str, ...]) -> None:
    with bare(), pytest.raises(ValueError, match="must be"):
        setup(*arguments)


def test_a_bad_format_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("R7KIT_LOG_FORMAT", "xml")
    with bare(), pytest.raises(ValueError, match="R7KIT_LOG_FORMAT"):
        setup()
