"""The demo as a person starts it, with few orders."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.servers import ServerKind

REPOSITORY = Path(__file__).resolve().parents[2]


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "examples.orders.demo", *arguments],
        cwd=REPOSITORY,
        env={**os.environ, "COLUMNS": "100"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )


@pytest.mark.faults
@pytest.mark.slow
@pytest.mark.timeout(120)
def test_every_order_comes_to_its_end_exactly_once(tmp_path: Path, server_kind: ServerKind) -> None:
    if server_kind != "bundled":
        pytest.skip("the demo always runs on the bundled server")
    done = run_demo("--orders", "40", "--seed", "4", "--dir", str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stderr == ""
    assert done.stdout.startswith("seed 4: the worker dies ")
    assert "SIGKILL for the worker" in done.stdout
    assert "second worker stopped, exit code 0" in done.stdout
    assert re.search(r"all +│ +40 │ +40 │ +36 │ +36 │ +40 │", done.stdout)
    assert re.search(r"^seed 4: passed in ", done.stdout, re.MULTILINE)
    assert (tmp_path / "4" / "effects.jsonl").stat().st_size > 0


def test_options_out_of_range_are_refused() -> None:
    refused = run_demo("--orders", "3")
    assert refused.returncode == 2
    assert "--orders must be at least 20" in refused.stderr
