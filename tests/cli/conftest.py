"""Fixtures for the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.here import Here
from tests.cli.programs import Programs


@pytest.fixture
def programs(tmp_path: Path) -> Iterator[Programs]:
    """Starts commands in a project directory of the test's own."""
    made = Programs(tmp_path)
    yield made
    made.close()


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    """Runs commands in this process, in a directory and an environment of the test's own."""
    monkeypatch.chdir(tmp_path)
    for name in ("REDIS_URL", "REDFLOW_PREFIX", "REDFLOW_APP"):
        monkeypatch.delenv(name, raising=False)
    return Here(capsys)
