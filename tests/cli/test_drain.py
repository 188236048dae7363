"""`redflow workers drain --stop` ends a process of `redflow worker`, for good; completions; what a start loads."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from redflow.cli.progress import ProgressBar
from redflow.types import BulkProgress
from tests.cli.here import Here
from tests.cli.programs import Programs

FLOWS = """
import asyncio
from redflow import workflow

@workflow("slow")
async def slow(ctx):
    await asyncio.sleep(float(ctx.input))
    return "done"
"""


def test_a_drained_process_ends_after_its_last_run_and_the_command_with_it(
    here: Here, programs: Programs, redis_url: str, prefix: str
) -> None:
    (programs.directory / "flows.py").write_text(FLOWS)
    where = ("--url", redis_url, "--prefix", prefix)
    worker = programs.start("worker", "flows.py", *where)
    worker.wait_for("is ready")
    run_id = here.run("run", "slow", "--input", "1", *where)[1].strip()
    (info,) = json.loads(here.run("workers", "list", "--json", *where)[1])["workers"]
    assert here.run("workers", "drain", info["id"], "--stop", *where)[:2] == (0, f"{info['id']}: drains\n")
    assert worker.wait() == 0, worker.text
    assert any("was drained and has ended" in line for line in worker.out), worker.text
    code, out, _ = here.run("runs", "show", run_id, "--json", *where)
    assert (code, json.loads(out)["run"]["status"] in ("succeeded", "queued")) == (0, True)


def test_completions_come_from_the_executable(programs: Programs) -> None:
    asked = programs.start(_REDFLOW_COMPLETE="complete_bash", COMP_WORDS="redflow runs ca", COMP_CWORD="2")
    assert asked.wait() == 0, asked.text
    assert asked.out == ["cancel"]


def test_the_command_line_loads_no_more_than_it_needs() -> None:
    names = "rich.progress", "rich.panel", "rich.live", "redflow.cli.progress", "temporalio"
    code = f"import sys, redflow.cli.app; print([name for name in {names!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-P", "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


def test_a_reader_that_has_left_is_no_error(redis_url: str, prefix: str) -> None:
    command = [sys.executable, "-P", "-m", "redflow", "stats", "--url", redis_url, "--prefix", prefix]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_the_progress_bar_is_shown_and_taken_away(capsys: pytest.CaptureFixture[str]) -> None:
    progress: BulkProgress = {
        "action": "retry",
        "total": 4,
        "exact": True,
        "seen": 2,
        "changed": 2,
        "skipped": 0,
        "done": False,
    }
    with ProgressBar("[red]retry") as bar:
        bar.show(progress)
        bar.show({**progress, "exact": False})
    assert capsys.readouterr().out == ""
